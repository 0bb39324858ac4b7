"""Traces in REST: three formats, pages, filters, days, and thousands of them in a stream."""

import json
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any

import httpx2

from app.services import Process
from db.base import new_id
from db.models import Candidate, Leaderboard, Run
from tests.conftest import ON_OLDEST_TOO
from tests.factories import (
    make_candidate,
    make_leaderboard,
    make_ranked_run,
    make_tenant,
    make_trace,
    store_traces,
    trace_of,
)

COLUMNS = [
    "id", "leaderboard_id", "run_id", "source", "status", "provider", "model",
    "leaderboard_model_id", "input", "messages", "output", "expected", "score", "error",
    "latency_ms", "prompt_tokens", "completion_tokens", "cost_usd", "token_id", "metadata",
    "created_at",
]  # fmt: skip
NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)


async def make_days(
    process: Process, board: Leaderboard, candidate: Candidate, days_ago: list[int]
) -> list[str]:
    """Store a trace for each of *days_ago*, and return their ids."""
    async with process.database.write() as session:
        made = [
            await make_trace(session, board, candidate, at=NOON, days_ago=days) for days in days_ago
        ]
    return [str(trace.id) for trace in made]


async def read(client: httpx2.AsyncClient, board: Leaderboard, **query: Any) -> Any:
    answer = await client.get(
        f"/v1/leaderboard/{board.id}/traces", params={"format": "json", **query}
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def ids(document: Any) -> list[str]:
    return [row["id"] for row in document["rows"]]


@ON_OLDEST_TOO
async def test_the_three_formats_hold_the_same_rows(
    client: httpx2.AsyncClient, process: Process, board: Leaderboard, candidate: Candidate
) -> None:
    run = await make_ranked_run(process, board, [candidate])
    path = f"/v1/leaderboard/{board.id}/traces"
    document = (await client.get(f"{path}?format=json&limit=7")).json()
    rows = document.pop("rows")
    assert document == {
        "leaderboard_id": str(board.id),
        "traces_url": f"{client.base_url}".rstrip("/") + path,
        "count": 2,
        "limit": 7,
        "offset": 0,
        "batch_count": 1,
        "scanned_rows": 2,
    }
    assert [list(row) for row in rows] == [COLUMNS, COLUMNS]
    assert {row["run_id"] for row in rows} == {str(run.id)}
    assert rows[0]["created_at"].endswith("Z")
    forms = [await client.get(path + query) for query in ("", "?format=jsonl", "?format=ndjson")]
    for lines in forms:
        assert lines.headers["Content-Type"] == "application/x-ndjson"
        assert [json.loads(line) for line in lines.text.splitlines()] == rows
        assert lines.text.endswith("}\n")
    alias = await client.get(f"/api/leaderboards/{board.id}/traces?format=ndjson")
    assert {lines.content for lines in forms} == {alias.content}


@ON_OLDEST_TOO
async def test_a_batch_is_a_utc_day_and_the_newest_come_first(
    client: httpx2.AsyncClient, process: Process, board: Leaderboard, candidate: Candidate
) -> None:
    # Of one instant, the later id is the newer one; the day after a midnight is another.
    made = await make_days(process, board, candidate, [9, 9, 4, 2, 2, 0])
    async with process.database.write() as session:
        midnight = await make_trace(
            session, board, candidate, at=NOON - timedelta(hours=12), days_ago=4
        )
        before = await make_trace(
            session, board, candidate, at=NOON - timedelta(hours=12, microseconds=1), days_ago=4
        )
    newest_first = [*made[:1:-1], str(midnight.id), str(before.id), *made[1::-1]]
    whole = await read(client, board)
    assert ids(whole) == newest_first
    assert (whole["batch_count"], whole["count"], whole["scanned_rows"]) == (5, 8, 8)
    for days, rows in ((1, 1), (2, 3), (3, 5), (4, 6), (5, 8), (6, 8)):
        part = await read(client, board, batch_limit=days)
        assert ids(part) == newest_first[:rows]
        assert (part["batch_count"], part["count"]) == (min(days, 5), rows)
        assert part["scanned_rows"] == rows


async def test_limit_and_offset_walk_through_all_of_them(
    client: httpx2.AsyncClient, process: Process, board: Leaderboard, candidate: Candidate
) -> None:
    made = await make_days(process, board, candidate, [3, 2, 1, 1, 0])
    newest_first = made[::-1]
    for limit, offset in ((1, 0), (2, 1), (2, 4), (5, 0), (1000, 3)):
        page = await read(client, board, limit=limit, offset=offset)
        expected = newest_first[offset : offset + limit]
        assert ids(page) == expected
        assert (page["limit"], page["offset"], page["count"]) == (limit, offset, len(expected))
        assert page["scanned_rows"] == offset + len(expected)
    beyond = await read(client, board, offset=5)
    assert (ids(beyond), beyond["count"]) == ([], 0)


async def test_filters_narrow_by_source_and_run(
    client: httpx2.AsyncClient, process: Process, board: Leaderboard, candidate: Candidate
) -> None:
    first: Run = await make_ranked_run(process, board, [candidate])
    second = await make_ranked_run(process, board, [candidate], rows=3)
    (inferred,) = await make_days(process, board, candidate, [1])
    assert ids(await read(client, board, source="inference")) == [inferred]
    assert (await read(client, board, source="run"))["count"] == 5
    assert (await read(client, board, run_id=str(first.id)))["count"] == 2
    both = await read(client, board, run_id=str(second.id), source="run", limit=2)
    assert (both["count"], {row["run_id"] for row in both["rows"]}) == (2, {str(second.id)})
    for empty in ({"source": "dataset"}, {"source": "manual"}, {"run_id": str(new_id())}):
        assert (await read(client, board, **empty))["rows"] == []


async def test_a_leaderboard_without_traces_answers_an_empty_list(
    client: httpx2.AsyncClient, board: Leaderboard
) -> None:
    empty = await read(client, board)
    assert (empty["count"], empty["batch_count"], empty["scanned_rows"], empty["rows"]) == (
        0, 0, 0, [],
    )  # fmt: skip
    assert (await client.get(f"/v1/leaderboard/{board.id}/traces")).content == b""


async def test_three_thousand_traces_come_in_a_stream(
    client: httpx2.AsyncClient, process: Process, board: Leaderboard, candidate: Candidate
) -> None:
    async with process.database.write() as session:
        # A hundred of each instant, so that pages end within one.
        values = [
            trace_of(
                board, candidate, NOON - timedelta(hours=number // 100),
                input="x" * 1000, output=str(number),
            )
            for number in range(3_000)
        ]  # fmt: skip
        await store_traces(session, sorted(values, key=itemgetter("id")))
    outputs: list[int] = []
    for offset in (0, 1000, 2000):
        path = f"/v1/leaderboard/{board.id}/traces?limit=1000&offset={offset}"
        chunks = 0
        async with client.stream("GET", path) as answer:
            assert "Content-Length" not in answer.headers
            body = b""
            async for chunk in answer.aiter_raw():
                chunks += 1
                body += chunk
        assert chunks >= 10
        outputs += [int(json.loads(line)["output"]) for line in body.splitlines()]
    assert sorted(outputs) == list(range(3_000))
    assert [number // 100 for number in outputs] == sorted(number // 100 for number in outputs)
    document = await read(client, board, limit=1000, offset=1500)
    assert (document["count"], document["scanned_rows"]) == (1000, 2500)
    assert [int(row["output"]) for row in document["rows"]] == outputs[1500:2500]


async def test_a_wrong_option_is_400_and_named(
    client: httpx2.AsyncClient, board: Leaderboard
) -> None:
    for query, said in [
        ("format=csv", "format: Input should be 'jsonl', 'ndjson' or 'json' (got 'csv')"),
        ("source=webhook", "source: Input should be 'run', 'inference', 'shadow', 'dataset' or"),
        ("limit=0", "limit: Input should be greater than or equal to 1 (got '0')"),
        ("limit=1001", "limit: Input should be less than or equal to 1000 (got '1001')"),
        ("offset=-1", "offset: Input should be greater than or equal to 0 (got '-1')"),
        ("batch_limit=101", "batch_limit: Input should be less than or equal to 100"),
        ("run_id=x", "run_id: Input should be a valid UUID"),
        ("sorce=run&limit=5&stauts=ok", "sorce: unknown field; stauts: unknown field"),
    ]:
        answer = await client.get(f"/v1/leaderboard/{board.id}/traces?{query}")
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")
        assert said in answer.json()["error"]


async def test_another_workspaces_traces_are_404(
    client: httpx2.AsyncClient, process: Process
) -> None:
    other = await make_tenant(process)
    theirs = await make_leaderboard(process, other.workspace_id)
    await make_ranked_run(process, theirs, [await make_candidate(process, theirs)])
    for path in (f"/v1/leaderboard/{theirs.id}", f"/api/leaderboards/{theirs.id}"):
        answer = await client.get(f"{path}/traces")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
