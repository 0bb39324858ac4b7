"""Traces that become rows, with what people said of them."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx2
import orjson
import pytest

from app.services import Process
from db.models import Leaderboard
from tests.conftest import ask
from tests.factories import (
    Tenant,
    make_candidate,
    make_tenant,
    make_token,
    store_traces,
    trace_of,
)
from tests.rest_compat.test_push import make_push_board, stored_lines

FEEDBACK = """
mutation ($input: AddFeedbackInput!) {
  addFeedback(input: $input) { feedback { score correction comment } }
}
"""
MAKE = """
mutation ($input: CreateRowsFromTracesInput!) {
  createRowsFromTraces(input: $input) {
    receipts { acceptedRows duplicateRows rejectedRows }
    dataset { status { pendingRows } }
  }
}
"""


@pytest.fixture
async def board(process: Process, tenant: Tenant) -> Leaderboard:
    return await make_push_board(process, tenant)


@pytest.fixture
async def traces(process: Process, board: Leaderboard) -> list[UUID]:
    """Return the ids of three calls that were answered, behind one that failed."""
    candidate = await make_candidate(process, board)
    made = [
        trace_of(board, candidate, datetime.now(UTC), input=f"in {number}", output=f"out {number}")
        for number in range(4)
    ]
    made[0] |= {"status": "error", "error": "timed_out: too slow"}
    async with process.database.write() as session:
        await store_traces(session, made)
    return [trace["id"] for trace in made[1:]]


async def say(client: httpx2.AsyncClient, trace_id: UUID, **said: Any) -> Any:
    return await ask(client, FEEDBACK, input={"traceId": str(trace_id), **said})


async def make_rows(client: httpx2.AsyncClient, board: Leaderboard, **asked: Any) -> Any:
    return await ask(client, MAKE, input={"leaderboardId": str(board.id), **asked})


async def rows_by_input(process: Process, board: Leaderboard) -> dict[str, Any]:
    rows = [orjson.loads(line) for line in await stored_lines(process, board)]
    return {row["input"]: row for row in rows}


async def test_traces_that_were_answered_become_rows_once(
    client: httpx2.AsyncClient, process: Process, board: Leaderboard, traces: list[UUID]
) -> None:
    made = (await make_rows(client, board, expected="OUTPUT", tags=["prod"]))["data"]
    assert made["createRowsFromTraces"] == {
        "receipts": [{"acceptedRows": 3, "duplicateRows": 0, "rejectedRows": 0}],
        "dataset": {"status": {"pendingRows": 3}},
    }
    row = (await rows_by_input(process, board))["in 1"]
    assert (row["id"], row["expected"], row["tags"]) == (str(traces[0]), "out 1", ["prod"])
    assert row["metadata"]["source"] == "inference"
    again = (await make_rows(client, board))["data"]["createRowsFromTraces"]
    assert again["receipts"][0]["duplicateRows"] == 3


async def test_a_filter_names_and_a_limit_choose_among_them(
    client: httpx2.AsyncClient, process: Process, board: Leaderboard, traces: list[UUID]
) -> None:
    none = await make_rows(client, board, filter={"source": "RUN"})
    assert none["data"]["createRowsFromTraces"]["receipts"] == []
    await make_rows(client, board, limit=1)
    assert (await rows_by_input(process, board)).keys() == {"in 3"}
    await make_rows(client, board, traceIds=[str(traces[0])])
    assert (await rows_by_input(process, board)).keys() == {"in 3", "in 1"}


async def test_what_only_a_shadow_answered_becomes_no_row_until_it_is_asked_for(
    client: httpx2.AsyncClient, process: Process, board: Leaderboard, traces: list[UUID]
) -> None:
    candidate = await make_candidate(process, board)
    tried = trace_of(board, candidate, datetime.now(UTC), input="tried") | {"source": "shadow"}
    async with process.database.write() as session:
        await store_traces(session, [tried])
    await make_rows(client, board)
    assert (await rows_by_input(process, board)).keys() == {"in 1", "in 2", "in 3"}
    wanted: tuple[dict[str, Any], ...] = (
        {"traceIds": [str(tried["id"])]}, {"filter": {"source": "SHADOW"}},
    )  # fmt: skip
    for asked in wanted:
        made = (await make_rows(client, board, **asked))["data"]["createRowsFromTraces"]
        assert made["receipts"][0]["rejectedRows"] == 0
        assert "tried" in await rows_by_input(process, board)
    stats = "query($id: ID!) { leaderboard(id: $id) { traceStats(by: SOURCE) { source count } } }"
    seen = (await ask(client, stats, id=str(board.id)))["data"]["leaderboard"]["traceStats"]
    counts = {point["source"]: point["count"] for point in seen}
    assert counts == {"INFERENCE": 4, "SHADOW": 1}


async def test_what_people_said_is_what_rows_expect(
    client: httpx2.AsyncClient, process: Process, board: Leaderboard, traces: list[UUID]
) -> None:
    await say(client, traces[0], correction="better", score=0.2)
    await say(client, traces[1], score=0.1, comment=" ")
    await say(client, traces[1], score=0.9, comment="on second thoughts")
    await say(client, traces[2], score=0.5)
    made = await make_rows(client, board, expected="FEEDBACK", minScore=0.8)
    assert made["data"]["createRowsFromTraces"]["receipts"][0]["acceptedRows"] == 2
    rows = await rows_by_input(process, board)
    assert {name: row["expected"] for name, row in rows.items()} == {
        "in 1": "better",
        "in 2": "out 2",
    }
    shown = await ask(
        client,
        "query ($id: ID!) { trace(id: $id) { feedback { score comment } } }",
        id=str(traces[1]),
    )
    assert shown["data"]["trace"]["feedback"] == [
        {"score": 0.9, "comment": "on second thoughts"},
        {"score": 0.1, "comment": None},
    ]


async def test_the_latest_correction_is_what_a_row_expects_whatever_is_scored_later(
    client: httpx2.AsyncClient, process: Process, board: Leaderboard, traces: list[UUID]
) -> None:
    for trace_id, score in zip(traces, (0.0, 1.0), strict=False):
        await say(client, trace_id, correction="good")
        await say(client, trace_id, correction="better")
        await say(client, trace_id, score=score)
        await say(client, trace_id, comment="well")
    await make_rows(client, board, expected="FEEDBACK")
    rows = await rows_by_input(process, board)
    assert [row["expected"] for row in rows.values()] == ["better", "better"]


async def test_feedback_that_says_nothing_or_too_much_is_refused(
    client: httpx2.AsyncClient, traces: list[UUID]
) -> None:
    for said, problem in (({}, "one of score"), ({"score": 1.5}, "score")):
        (error,) = (await say(client, traces[0], **said))["errors"]
        assert error["extensions"]["code"] == "invalid_input"
        assert problem in error["message"]


async def test_other_workspaces_traces_are_not_found(
    client: httpx2.AsyncClient,
    anonymous: httpx2.AsyncClient,
    process: Process,
    board: Leaderboard,
    traces: list[UUID],
) -> None:
    stranger = await make_tenant(process)
    anonymous.headers["X-API-Key"] = await make_token(process, stranger.workspace_id)
    for answer in (
        await say(anonymous, traces[0], score=1),
        await make_rows(anonymous, board, traceIds=[str(traces[0])]),
    ):
        assert answer["errors"][0]["extensions"]["code"] == "not_found"
    named = await make_rows(client, board, traceIds=["00000000-0000-7000-8000-000000000000"])
    assert named["errors"][0]["extensions"]["code"] == "not_found"


async def test_who_may_write_and_not_read_makes_rows_all_the_same(
    anonymous: httpx2.AsyncClient,
    process: Process,
    tenant: Tenant,
    board: Leaderboard,
    traces: list[UUID],
) -> None:
    writer = await make_token(process, tenant.workspace_id, scopes=["leaderboards:write"])
    anonymous.headers["X-API-Key"] = writer
    asked = {"leaderboardId": str(board.id), "expected": "FEEDBACK"}
    query = MAKE.replace("dataset { status { pendingRows } }", "dataset { id }")
    assert "errors" not in await say(anonymous, traces[0], score=1)
    made = await ask(anonymous, query, input=asked)
    assert made["data"]["createRowsFromTraces"]["receipts"][0]["acceptedRows"] == 1
