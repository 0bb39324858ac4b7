"""Each request leaves one line on standard error, whatever its client sends."""

import asyncio
import logging
import re

import httpx2
import pytest

from tests.factories import Tenant

LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO gero\.http (.*)")


@pytest.fixture
def _informed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gero.http")


@pytest.mark.usefixtures("_informed")
async def test_a_request_is_one_line_with_its_status_time_and_id(
    anonymous: httpx2.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    await anonymous.get("/healthz?secret=1", headers={"X-Request-Id": "mine-1"})
    await anonymous.post(
        "/graphql", json={"query": "{ __typename }"}, headers={"X-Request-Id": "b"}
    )
    lines = capsys.readouterr().err.splitlines()
    shown = [LINE.fullmatch(line) for line in lines]
    assert all(shown), lines
    written = [re.sub(r"\d+\.\d ms", "N ms", match[1]) for match in shown if match]
    assert written == ["GET /healthz 200 N ms mine-1", "POST /graphql 200 N ms b"]


@pytest.mark.usefixtures("_informed")
async def test_a_path_can_not_forge_a_line(
    anonymous: httpx2.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    await anonymous.get("/x%0A2026-11-26%20INFO%20forged%0D%1B[2J")
    (line,) = capsys.readouterr().err.splitlines()
    assert " GET /x%0A2026-11-26%20INFO%20forged%0D%1B" in line


async def test_a_log_of_warnings_has_no_such_lines(
    anonymous: httpx2.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    await anonymous.get("/healthz")
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("_informed")
@pytest.mark.parametrize(
    ("path", "status"),
    [("/graphql", 499), ("/api/leaderboards", 400)],  # FastAPI's of a body that it could not read
)
async def test_a_client_that_leaves_is_no_error_of_the_server(
    base_url: str,
    tenant: Tenant,
    path: str,
    status: int,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    host, port = base_url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    headers = {"Host": "x", "Content-Type": "application/json", "Content-Length": "100"}
    lines = [f"{name}: {value}" for name, value in (headers | tenant.headers).items()]
    writer.write("\r\n".join([f"POST {path} HTTP/1.1", *lines, "", '{"half']).encode())
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.close()
    said = ""
    async with asyncio.timeout(5):
        while not said:
            await asyncio.sleep(0.01)
            said = capsys.readouterr().err
    assert f" POST {path} {status} " in said
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR] == []
