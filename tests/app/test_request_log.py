"""Each request leaves one line on standard error, whatever its client sends."""

import logging
import re

import httpx2
import pytest

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
