"""Traces that clients report in our own form, in REST and in GraphQL."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from sqlalchemy import func, select, update

from app.services import Process
from db.models import Leaderboard, Trace, TraceHour, TraceText, Workspace
from engine.instants import rfc3339
from resolvers.inputs.base import SHOWN_PROBLEMS
from tests.conftest import ask
from tests.factories import Tenant, make_leaderboard, make_tenant, make_token

ADD = """mutation ($input: AddTraceInput!) { addTrace(input: $input) { traceId isNew trace {
  id source status input messages output expected provider model error latencyMs promptTokens
  completionTokens costUsd costSource score metadata createdAt leaderboard { id } } } }"""
WHOLE = {
    "input": "What is 2 + 2?", "output": "4", "expected": "four", "provider": "openai",
    "model": "gpt-4o", "latency_ms": 812.5, "prompt_tokens": 12, "completion_tokens": 1,
    "cost_usd": 0.000125, "score": 0.5, "metadata": {"order": "A-17", "nested": {"deep": [1]}},
}  # fmt: skip


def ago(**delta: float) -> str:
    return rfc3339(datetime.now(UTC) - timedelta(**delta))


async def add(
    client: httpx2.AsyncClient, board: Leaderboard, body: Any, **headers: str
) -> httpx2.Response:
    return await client.post(f"/v1/leaderboard/{board.id}/traces", json=body, headers=headers)


async def count(process: Process, entity: type = Trace) -> int:
    async with process.database.read() as session:
        return await session.scalar(select(func.count()).select_from(entity)) or 0


async def test_a_trace_is_listed_as_it_was_reported(
    client: httpx2.AsyncClient, board: Leaderboard
) -> None:
    started_at = ago(days=3)
    added = await add(client, board, {**WHOLE, "startedAt": started_at})
    assert added.status_code == 201
    (made,) = added.json()["traces"]
    assert added.json() == {
        "leaderboard_id": str(board.id), "added": 1, "duplicates": 0,
        "traces": [{"id": made["id"], "is_new": True}],
    }  # fmt: skip
    listed = await client.get(f"/api/leaderboards/{board.id}/traces?format=json&source=manual")
    (row,) = listed.json()["rows"]
    assert {name: row[name] for name in WHOLE} == WHOLE
    assert (row["id"], row["created_at"]) == (made["id"], started_at)
    assert (row["status"], row["source"], row["run_id"]) == ("ok", "manual", None)


async def test_graphql_adds_a_trace_that_belongs_to_no_leaderboard(
    client: httpx2.AsyncClient,
) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    reported = {"messages": messages, "error": "timed_out: no answer", "status": "CANCELLED"}
    answered = await ask(client, ADD, input=reported)
    added = answered["data"]["addTrace"]
    assert added["isNew"] is True
    trace = added["trace"]
    assert trace.pop("id") == added["traceId"]
    assert trace.pop("createdAt")
    assert trace == {
        "source": "MANUAL", "status": "CANCELLED", "input": "Hello", "messages": messages,
        "output": None, "expected": None, "provider": None, "model": None,
        "error": "timed_out: no answer", "latencyMs": 0.0, "promptTokens": None,
        "completionTokens": None, "costUsd": None, "costSource": None, "score": None,
        "metadata": {}, "leaderboard": None,
    }  # fmt: skip


async def test_an_id_and_a_start_make_a_repeat_the_same_trace_by_whichever_way_it_comes(
    client: httpx2.AsyncClient, process: Process, board: Leaderboard
) -> None:
    named = {"id": "call-1", "started_at": ago(hours=1), "output": "first"}
    first = await add(client, board, named)
    again = await add(client, board, {"traces": [{**named, "output": "second"}, named]})
    assert again.json()["duplicates"] == 2
    answered = await ask(
        client, ADD, input={"id": "call-1", "startedAt": named["started_at"], "output": "third"}
    )
    added = answered["data"]["addTrace"]
    assert (added["isNew"], added["trace"]["output"]) == (False, "first")
    assert added["traceId"] == first.json()["traces"][0]["id"]
    assert await count(process) == await count(process, TraceText) == 1


async def test_of_the_same_trace_reported_many_times_at_once_one_is_new(
    client: httpx2.AsyncClient, process: Process, board: Leaderboard
) -> None:
    started_at = ago(hours=1)
    calls = [{"id": f"call-{n}", "started_at": started_at, "output": "x"} for n in range(20)]
    bodies = [{"traces": calls[shift:] + calls[:shift]} for shift in range(10)]
    answers = await asyncio.gather(*(add(client, board, body) for body in bodies))
    assert [answer.status_code for answer in answers] == [201] * 10
    assert sum(answer.json()["added"] for answer in answers) == 20
    assert await count(process) == 20
    async with process.database.read() as session:
        assert sum(await session.scalars(select(TraceHour.trace_count))) == 20


async def test_two_in_one_request_that_are_the_same_are_one(
    client: httpx2.AsyncClient, process: Process, board: Leaderboard
) -> None:
    named = {"id": "call-1", "started_at": ago(hours=1), "output": "x"}
    added = await add(client, board, {"traces": [named, named]})
    assert [each["is_new"] for each in added.json()["traces"]] == [True, False]
    assert (added.json()["added"], await count(process)) == (1, 1)


async def test_an_idempotency_key_makes_a_repeat_the_same_traces(
    client: httpx2.AsyncClient, process: Process, board: Leaderboard
) -> None:
    key = {"Idempotency-Key": str(uuid4())}
    body = {"traces": [{"output": "x"}, {"output": "y"}]}
    first = await add(client, board, body, **key)
    again = await add(client, board, body, **key)
    assert again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true"
    other = await add(client, board, {"output": "z"}, **key)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
    assert await count(process) == 2


async def test_a_repeat_after_its_answer_was_lost_adds_nothing(
    client: httpx2.AsyncClient, process: Process, board: Leaderboard
) -> None:
    key = {"Idempotency-Key": str(uuid4())}
    body = {"traces": [{"output": "x"}, {"output": "y", "started_at": ago(hours=2)}]}
    first = await add(client, board, body, **key)
    async with process.database.write() as session:  # as after a crash before it was kept
        connection = await session.connection()
        await connection.exec_driver_sql(
            "UPDATE idempotency_key SET answer_status = NULL, claimed_until = now()"
        )
    again = await add(client, board, body, **key)
    ids = [[each["id"] for each in answer.json()["traces"]] for answer in (first, again)]
    assert ids[0] == ids[1]
    assert (again.json()["added"], again.json()["duplicates"], await count(process)) == (0, 2, 2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "one of input, messages, output and error is needed"),
        ({"output": "x", "colour": 1}, "colour: unknown field"),
        ({"output": "x", "latency_ms": -1}, "latency_ms: Input should be greater than or equal"),
        ({"output": "x", "score": 2}, "score: Input should be less than or equal to 1 (got 2)"),
        ({"output": "x", "prompt_tokens": 2**31}, "prompt_tokens: Input should be less than"),
        ({"output": "x", "cost_usd": "NaN"}, "cost_usd: Input should be a finite number"),
        ({"output": "x", "status": "fine"}, "status: Input should be 'ok', 'error' or 'cancelled'"),
        ({"error": "x", "status": "ok"}, "status must not be ok of a call with an error"),
        ({"output": "x", "id": "1"}, "started_at is required with an id"),
        ({"output": "x", "messages": ["hi"]}, "messages.0: Input should be a valid dictionary"),
        ({"output": "a\x00b"}, "output: must not contain NUL characters or lone surrogates"),
        ({"output": "x", "started_at": "2026-01-01T00:00:00"}, "started_at: Input should have"),
        ({"traces": []}, "traces: List should have at least 1 item"),
        ({"traces": [{"output": "x"}, {"score": 7}]}, "traces.1.score: Input should be less"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_is_wrong_is_told_by_its_field_and_nothing_is_stored(
    client: httpx2.AsyncClient, process: Process, board: Leaderboard, wrong: Any, message: str
) -> None:
    answer = await add(client, board, wrong)
    assert answer.status_code == 400
    assert message in answer.json()["error"]
    assert await count(process) == 0


async def test_of_many_that_are_wrong_the_first_are_told(
    client: httpx2.AsyncClient, process: Process, board: Leaderboard
) -> None:
    answer = await add(client, board, {"traces": [{"output": "x", "score": 7}] * 1_000})
    assert answer.status_code == 400
    error, details = answer.json()["error"], answer.json()["details"]
    named = [f"traces.{number}.score" for number in range(SHOWN_PROBLEMS)]
    assert [problem["field"] for problem in details["fields"]] == named
    assert error.startswith("traces.0.score: Input should be less than or equal to 1 (got 7); ")
    assert error.endswith(f"(got 7); and {1_000 - SHOWN_PROBLEMS} more")
    assert await count(process) == 0


@pytest.mark.parametrize(
    ("cost", "stored"),
    [
        (0.0001 * 3, "0.0003"),
        (0.000001 / 3, "3.33333E-7"),
        (1e-300, "0"),
        ("999999.9999999999999999999", "1000000"),
        (1_000_000, "1000000"),
    ],
)
async def test_a_cost_is_rounded_to_what_is_stored(
    client: httpx2.AsyncClient, process: Process, board: Leaderboard, cost: Any, stored: str
) -> None:
    in_rest = await add(client, board, {"output": "x", "cost_usd": cost})
    assert in_rest.status_code == 201, in_rest.text
    answer = await ask(client, ADD, input={"output": "x", "costUsd": cost})
    assert "errors" not in answer, answer
    async with process.database.read() as session:
        costs = (await session.scalars(select(Trace.cost_usd))).all()
    assert costs == [Decimal(stored)] * 2


async def test_a_trace_that_is_too_old_or_of_the_future_takes_none_of_its_request_with_it(
    client: httpx2.AsyncClient, process: Process, board: Leaderboard
) -> None:
    old, coming = ago(days=91), ago(minutes=-6)
    for started_at, reason in (
        (old, f"{old} is longer ago than the 90 days that are kept"),
        (coming, f"{coming} is more than 5 minutes in the future"),
    ):
        body = {"traces": [{"output": "x"}, {"output": "y", "started_at": started_at}]}
        answer = await add(client, board, body)
        message = f"started_at: {reason}"
        details = {"index": 1, "fields": [{"field": "started_at", "message": message}]}
        assert (answer.status_code, answer.json()) == (
            400,
            {"error": message, "code": "invalid_input", "details": details},
        )
    assert await count(process) == 0


async def test_a_workspace_that_keeps_traces_for_a_shorter_time_takes_no_older_ones(
    client: httpx2.AsyncClient, process: Process, board: Leaderboard, tenant: Tenant
) -> None:
    async with process.database.write() as session:
        await session.execute(
            update(Workspace)
            .where(Workspace.id == tenant.workspace_id)
            .values(trace_retention_days=7)
        )
    old = ago(days=8)
    answer = await add(client, board, {"output": "x", "started_at": old})
    message = f"started_at: {old} is longer ago than the 7 days that are kept"
    assert (answer.status_code, answer.json()["error"]) == (400, message)
    answer = await add(client, board, {"output": "x", "started_at": ago(days=6)})
    assert answer.status_code == 201


async def test_a_thousand_traces_are_taken_and_one_more_is_not(
    client: httpx2.AsyncClient, process: Process, board: Leaderboard
) -> None:
    traces = [{"output": f"answer {number}"} for number in range(1_001)]
    answer = await add(client, board, {"traces": traces})
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    answer = await add(client, board, {"traces": traces[:1_000]})
    assert (answer.json()["added"], await count(process)) == (1_000, 1_000)


async def test_traces_are_reported_by_who_may_write_and_to_leaderboards_of_the_workspace(
    client: httpx2.AsyncClient, process: Process, board: Leaderboard, tenant: Tenant
) -> None:
    reader = await make_token(process, tenant.workspace_id, scopes=["leaderboards:read"])
    refused = await add(client, board, {"output": "x"}, Authorization=f"Bearer {reader}")
    assert (refused.status_code, refused.json()["details"]["required"]) == (
        403,
        "leaderboards:write",
    )
    other = await make_tenant(process)
    strange = await make_leaderboard(process, other.workspace_id)
    missing = await add(client, strange, {"output": "x"})
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    answered = await ask(client, ADD, input={"leaderboardId": str(strange.id), "output": "x"})
    assert answered["errors"][0]["extensions"]["code"] == "not_found"
    assert await count(process) == 0
