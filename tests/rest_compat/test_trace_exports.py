"""Exports of traces: all of them, in either order, compressed, bounded, and stopped in time."""

import asyncio
import gzip
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import httpx2
import orjson
import pytest
from asyncpg.pgproto import pgproto
from hypothesis import given
from hypothesis import strategies as st

from app.services import Process
from db.models import Candidate, Leaderboard
from resolvers.trace_filter import TraceFilter
from resolvers.trace_streams import STREAMED_TEXT_BYTES, STREAMED_TRACES, open_trace_export
from rest_compat.routes.traces import encode_trace
from rest_compat.shapes import TraceShape
from tests.conftest import ON_OLDEST_TOO, SqlLog
from tests.factories import (
    make_leaderboard,
    make_tenant,
    store_traces,
    trace_of,
)

NOW = datetime.now(UTC).replace(microsecond=0)

IDS = st.uuids().map(lambda made: pgproto.UUID(made.bytes))
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
COUNTS = st.integers(0, 2**31 - 1)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | NUMBERS | TEXTS,
    lambda each: st.lists(each, max_size=3) | st.dictionaries(TEXTS, each, max_size=3),
    max_leaves=5,
)
WHOLE_TRACES = st.fixed_dictionaries({
    "id": IDS,
    "workspace_id": IDS,
    "source": st.sampled_from(["run", "inference", "shadow", "dataset", "manual"]),
    "status": st.sampled_from(["ok", "error", "cancelled"]),
    "latency_ms": NUMBERS,
    "trace_metadata": st.dictionaries(TEXTS, JSON, max_size=3),
    "created_at": st.datetimes(timezones=st.just(UTC)),
    "messages": st.none() | st.lists(JSON, max_size=3),
    "score": st.none() | NUMBERS,
    "cost_usd": st.none() | st.decimals(0, 10**9, places=12),
    **{name: st.none() | IDS for name in ("leaderboard_id", "run_id", "candidate_id", "token_id")},
    **{name: st.none() | COUNTS for name in ("prompt_tokens", "completion_tokens")},
    **{
        name: st.none() | TEXTS
        for name in ("provider", "model", "input", "output", "expected", "error")
    },
})  # fmt: skip


@given(WHOLE_TRACES)
def test_a_trace_is_written_as_its_shape_is(trace: dict[str, Any]) -> None:
    shown = TraceShape.model_validate(trace).model_dump(mode="json")
    assert encode_trace(trace) == orjson.dumps(shown)


async def store(
    process: Process,
    board: Leaderboard,
    candidate: Candidate,
    count: int,
    step: timedelta = timedelta(minutes=1),
    **given: Any,
) -> None:
    async with process.database.write() as session:
        await store_traces(
            session,
            [
                trace_of(board, candidate, NOW - number * step, output=str(number), **given)
                for number in range(count)
            ],
        )


def outputs(lines: bytes | str) -> list[int]:
    return [int(json.loads(line)["output"]) for line in lines.splitlines()]


@ON_OLDEST_TOO
async def test_all_traces_come_in_either_order_over_many_days(
    client: httpx2.AsyncClient, process: Process, board: Leaderboard, candidate: Candidate
) -> None:
    count = STREAMED_TRACES * 2 + 7
    await store(process, board, candidate, count, timedelta(minutes=7))
    path = f"/v1/leaderboard/{board.id}/traces"
    newest = await client.get(f"{path}/export")
    assert newest.headers["Content-Type"] == "application/x-ndjson"
    assert outputs(newest.content) == list(range(count))
    oldest = await client.get(f"{path}/export?order=oldest_first")
    assert outputs(oldest.content) == list(range(count))[::-1]
    listed = await client.get(f"{path}?limit=1000&batch_limit=100")
    assert newest.content.startswith(listed.content)
    since = (NOW - timedelta(minutes=7 * 20)).isoformat()
    until = (NOW - timedelta(minutes=7 * 10)).isoformat()
    some = await client.get(f"{path}/export", params={"since": since, "until": until})
    assert outputs(some.content) == list(range(11, 21))


async def test_a_trace_of_a_clock_ahead_of_ours_is_exported(
    client: httpx2.AsyncClient, board: Leaderboard
) -> None:
    path = f"/v1/leaderboard/{board.id}/traces"
    now = datetime.now(UTC)
    for minutes in (4, -4):
        started_at = (now + timedelta(minutes=minutes)).isoformat()
        added = await client.post(path, json={"output": str(minutes), "started_at": started_at})
        assert added.status_code == 201
    for query in ("", "&until=9999-12-31T23:59:59Z"):
        newest = await client.get(f"{path}/export?order=newest_first{query}")
        assert outputs(newest.content) == [4, -4]
        oldest = await client.get(f"{path}/export?order=oldest_first{query}")
        assert outputs(oldest.content) == [-4, 4]


async def test_it_is_compressed_for_who_takes_that(
    client: httpx2.AsyncClient, process: Process, board: Leaderboard, candidate: Candidate
) -> None:
    await store(process, board, candidate, 600, input="the same words again and again " * 20)
    path = f"/v1/leaderboard/{board.id}/traces/export"
    plain = await client.get(path, headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers
    async with client.stream("GET", path, headers={"Accept-Encoding": "gzip"}) as packed:
        assert packed.headers["Content-Encoding"] == "gzip"
        body = b"".join([chunk async for chunk in packed.aiter_raw()])
    assert gzip.decompress(body) == plain.content
    assert len(body) * 10 < len(plain.content)


async def test_nothing_of_another_leaderboard_or_workspace_is_exported(
    client: httpx2.AsyncClient, process: Process, board: Leaderboard, candidate: Candidate
) -> None:
    other = await make_leaderboard(process, board.workspace_id)
    stranger = await make_leaderboard(process, (await make_tenant(process)).workspace_id)
    for owner in (other, stranger):
        await store(process, owner, candidate, 3)
    empty = await client.get(f"/v1/leaderboard/{board.id}/traces/export")
    assert (empty.status_code, empty.content) == (200, b"")
    refused = await client.get(f"/v1/leaderboard/{stranger.id}/traces/export")
    assert (refused.status_code, refused.json()["code"]) == (404, "not_found")


async def test_long_texts_are_read_a_few_at_a_time(
    process: Process, board: Leaderboard, candidate: Candidate
) -> None:
    megabyte = 2**20
    sizes = [10, megabyte, megabyte, 10, 3 * megabyte, 10, 10, megabyte]
    async with process.database.write() as session:
        await store_traces(
            session,
            [
                trace_of(board, candidate, NOW - timedelta(seconds=number), output="x" * size)
                for number, size in enumerate(sizes)
            ],
        )
    batches = await open_trace_export(
        process.system_context(board.workspace_id), board.id, where=TraceFilter(),
        oldest_first=False,
    )  # fmt: skip
    read: Sequence[list[int]] = [[len(trace["output"]) for trace in each] async for each in batches]
    assert [size for batch in read for size in batch] == sizes
    assert len(read) > 1
    for batch, following in pairwise(read):
        assert sum(batch) <= STREAMED_TEXT_BYTES or len(batch) == 1
        assert sum(batch) + following[0] + 1_000 > STREAMED_TEXT_BYTES


async def test_who_goes_away_is_read_no_further(
    client: httpx2.AsyncClient, process: Process, board: Leaderboard, candidate: Candidate,
    sql: SqlLog,
) -> None:  # fmt: skip
    count = STREAMED_TRACES * 20
    # More than the sockets between take.
    await store(process, board, candidate, count, timedelta(seconds=1), input="x" * 4_000)
    path = f"/v1/leaderboard/{board.id}/traces/export"
    with sql.record() as seen:
        async with client.stream("GET", path) as answer:
            async for _ in answer.aiter_raw():
                break
        await asyncio.sleep(0.3)
        read = len(seen)
        await asyncio.sleep(0.3)
        assert len(seen) == read
    assert read < 2 * 20
    assert process.database.engine.pool.checkedout() == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("query", ["order=random", "limit=x&order=1", "since=yesterday"])
async def test_a_wrong_option_is_400(
    client: httpx2.AsyncClient, board: Leaderboard, query: str
) -> None:
    answer = await client.get(f"/v1/leaderboard/{board.id}/traces/export?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")
