"""Each request leaves one line on standard error, whatever its client sends."""

import asyncio
import json
import logging
import re

import httpx2
import pytest

from app.services import Process
from resolvers.auth import Principal
from tests.factories import Tenant, make_candidate, make_leaderboard, make_ranked_run

RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
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
@pytest.mark.parametrize("setting_overrides", [{"log_format": "json"}])
async def test_a_line_of_json_tells_who_asked_for_what_and_no_query(
    client: httpx2.AsyncClient, tenant: Tenant, process: Process,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    board = await make_leaderboard(process, tenant.workspace_id)
    await client.get(
        f"/api/leaderboards/{board.id}/runs?limit=2", headers={"X-Request-Id": "mine-1"}
    )
    await client.get("/nope/x", headers={"X-Request-Id": "mine-2"})
    of_board, unknown = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    token = await authenticated(process, tenant)
    assert RFC3339.fullmatch(of_board.pop("time"))
    assert of_board.pop("duration_ms") > 0
    assert of_board == {
        "level": "info",
        "logger": "gero.http",
        "message": f"GET /api/leaderboards/{board.id}/runs 200",
        "request_id": "mine-1",
        "method": "GET",
        "route": "/api/leaderboards/{leaderboard_id}/runs",
        "path": f"/api/leaderboards/{board.id}/runs",
        "status": 200,
        "token_id": str(token.token_id),
        "workspace_id": str(tenant.workspace_id),
        "leaderboard_id": str(board.id),
    }
    assert (unknown["route"], unknown["path"], unknown["status"]) == ("other", "/nope/x", 404)
    assert unknown["token_id"] is None
    assert "workspace_id" not in unknown


async def authenticated(process: Process, tenant: Tenant) -> Principal:
    return await process.authenticator.authenticate(tenant.token, workspace=None)


@pytest.mark.usefixtures("_informed")
@pytest.mark.parametrize("setting_overrides", [{"log_format": "json"}])
async def test_a_line_of_json_names_the_trace_that_an_inference_left(
    client: httpx2.AsyncClient, tenant: Tenant, process: Process,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    board = await make_leaderboard(process, tenant.workspace_id)
    await make_ranked_run(process, board, [await make_candidate(process, board)])
    answered = await client.post(f"/v1/leaderboard/{board.id}/inference", json={"input": "1 + 1"})
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["trace_id"] == answered.json()["trace_id"]


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
