"""Upkeep of traces: sums that never change, and what is kept for how long."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import DBAPIError

from app.services import Process
from db.base import first_id_at, new_id
from db.models import (
    Candidate,
    Leaderboard,
    Trace,
    TraceFeedback,
    TraceHour,
    TraceText,
    TraceWords,
    Workspace,
)
from db.models.trace import ALL_BOARDS
from db.partitions import day_of, list_days
from engine.latency_buckets import bucket_of
from resolvers.trace_storage import STORE, storing_values
from resolvers.trace_upkeep import (
    BATCH_ROWS,
    BATCH_TEXTS,
    drop_old_traces,
    find_words,
    put_hours_together,
)
from tests.conftest import ON_OLDEST_TOO
from tests.factories import (
    Tenant,
    make_candidate,
    make_leaderboard,
    make_tenant,
    store_traces,
    trace_of,
)

NOW = datetime.now(UTC)
NOON = (NOW - timedelta(days=1)).replace(hour=12, minute=0, second=0, microsecond=0)
SUMS = ("trace_count", "error_count", "prompt_tokens", "completion_tokens", "cost_usd",
        "unpriced_count")  # fmt: skip


async def rows_of(process: Process, statement: str) -> list[dict[str, Any]]:
    async with process.database.read() as session:
        return [dict(row) for row in (await session.execute(text(statement))).mappings()]


async def store_as(process: Process, traces: Sequence[dict[str, Any]], writer: UUID) -> None:
    """Store traces as the process *writer* does."""
    storable = await process.services.traces.prepare(traces)
    async with process.database.write() as session:
        connection = await session.connection()
        values = (*storing_values(storable)[:-1], writer)
        await connection.exec_driver_sql(STORE, values)


def sums_of(traces: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what traces come to, in the words of `trace_sum`."""
    costs = [trace["cost_usd"] for trace in traces if trace["cost_usd"] is not None]
    counts = Counter(bucket_of(trace["latency_ms"]) for trace in traces)
    return {
        "trace_count": len(traces),
        "error_count": sum(trace["status"] == "error" for trace in traces),
        "prompt_tokens": sum(trace["prompt_tokens"] or 0 for trace in traces),
        "completion_tokens": sum(trace["completion_tokens"] or 0 for trace in traces),
        "cost_usd": sum(costs, Decimal(0)),
        "unpriced_count": len(traces) - len(costs),
        "buckets": sorted(counts),
        "bucket_counts": [counts[bucket] for bucket in sorted(counts)],
    }


calls = st.fixed_dictionaries(
    {
        "hours_ago": st.integers(0, 50),
        "writer": st.integers(1, 3),
        "model": st.sampled_from(["a", "b", None]),
        "status": st.sampled_from(["ok", "error", "cancelled"]),
        "latency_ms": st.floats(0, 1e9),
        "prompt_tokens": st.none() | st.integers(0, 2**31 - 1),
        "completion_tokens": st.none() | st.integers(0, 100),
        "cost_usd": st.none() | st.decimals("0", "1000", places=12),
    }
)


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(batches=st.lists(st.lists(calls, min_size=1, max_size=8), min_size=1, max_size=4))
async def test_putting_hours_together_never_changes_the_sums(
    process: Process, batches: list[list[dict[str, Any]]]
) -> None:
    tenant = await make_tenant(process)
    board = await make_leaderboard(process, tenant.workspace_id)
    candidate = await make_candidate(process, board)
    ctx, traces = process.system_context(), []
    for batch in batches:
        for call in batch:
            columns = dict(call)
            made_at = NOW - timedelta(hours=columns.pop("hours_ago"))
            writer = UUID(int=columns.pop("writer"))
            trace = trace_of(board, candidate, made_at, **columns)
            await process.services.traces.make_room([trace["id"]])
            await store_as(process, [trace], writer)
            traces.append(trace)
        await put_hours_together(ctx, NOW)
    async with process.database.read() as session:
        left = await session.scalar(
            select(func.count()).where(
                TraceHour.workspace_id == tenant.workspace_id,
                TraceHour.hour < (NOW - timedelta(minutes=70)),
            )
        )
    assert left == 0
    await put_hours_together(ctx, NOW + timedelta(hours=3))
    for board_id in (board.id, ALL_BOARDS):
        for span in ("hour", "day"):
            found = await rows_of(
                process,
                "SELECT * FROM trace_sum WHERE leaderboard_id = "
                f"'{board_id}' AND workspace_id = '{tenant.workspace_id}' AND span = '{span}'",
            )
            expected: dict[Any, list[dict[str, Any]]] = {}
            for trace in traces:
                at = trace["created_at"].replace(minute=0, second=0, microsecond=0)
                at = at.replace(hour=0) if span == "day" else at
                expected.setdefault((at, trace["model"] or ""), []).append(trace)
            assert {
                (row["begins_at"], row["model"]): {
                    name: row[name] for name in (*SUMS, "buckets", "bucket_counts")
                }
                for row in found
            } == {key: sums_of(each) for key, each in expected.items()}


async def test_hours_are_put_together_beside_writers_and_by_one_at_a_time(
    process: Process, board: Leaderboard, candidate: Candidate
) -> None:
    hour_ago = NOW - timedelta(hours=2)
    await process.services.traces.make_room([first_id_at(hour_ago)])

    async def write(writer: int) -> None:
        for start in range(0, 300, 20):
            traces = [
                trace_of(board, candidate, hour_ago, latency_ms=1.05**number,
                         model=f"m{number % 40}")
                for number in range(start, start + 20)
            ]  # fmt: skip
            await store_as(process, traces, UUID(int=writer))

    async def put() -> int:
        return sum([await put_hours_together(process.system_context()) for _ in range(20)])

    await asyncio.gather(write(1), write(2), put(), put())
    await put_hours_together(process.system_context())
    (total,) = await rows_of(
        process,
        "SELECT (SELECT count(*) FROM trace) AS traces, (SELECT count(*) FROM trace_hour) AS left,"
        " sum(trace_count) AS summed FROM trace_sum WHERE span = 'day' AND leaderboard_id ="
        f" '{board.id}'",
    )
    assert (total["left"], total["summed"]) == (0, total["traces"])


async def test_more_rows_than_one_batch_are_put_together(
    process: Process, board: Leaderboard
) -> None:
    count = BATCH_ROWS * 2 + 7
    async with process.database.write() as session:
        await session.execute(
            text(
                "INSERT INTO trace_hour SELECT :workspace, :board, date_trunc('hour', now())"
                " - interval '5 hour', 'run', 'p', 'm' || n % 7, n / 7, :board, 1, 0, 2, 3, 0.5, 0"
                f" FROM generate_series(0, {count - 1}) AS n"
            ),
            {"workspace": board.workspace_id, "board": board.id},
        )
    assert await put_hours_together(process.system_context()) == count
    found = await rows_of(process, "SELECT * FROM trace_sum WHERE span = 'hour' AND "
                          f"leaderboard_id = '{ALL_BOARDS}' ORDER BY model")  # fmt: skip
    assert [row["trace_count"] for row in found] == [
        sum(n % 7 == model for n in range(count)) for model in range(7)
    ]
    assert [sum(row["bucket_counts"]) for row in found] == [row["trace_count"] for row in found]
    assert await put_hours_together(process.system_context()) == 0


@ON_OLDEST_TOO
async def test_words_are_found_once_by_several_and_in_spite_of_a_kill(
    process: Process, board: Leaderboard, candidate: Candidate, database_url: str
) -> None:
    count = BATCH_TEXTS * 5 + 3
    made = [trace_of(board, candidate, NOW - timedelta(minutes=number)) for number in range(count)]
    async with process.database.write() as session:
        await store_traces(session, made)
    ctx = process.system_context()
    killer = await asyncpg.connect(database_url.replace("+asyncpg", ""))
    async with killer.transaction():
        # What is taken can't be stored, until the taker is killed.
        await killer.execute("LOCK TABLE trace_words IN EXCLUSIVE MODE")
        finding = asyncio.gather(find_words(ctx))
        async with asyncio.timeout(10):
            while not (pid := await killer.fetchval("SELECT pid FROM pg_locks WHERE NOT granted")):
                await asyncio.sleep(0.005)
        await killer.execute("SELECT pg_terminate_backend($1)", pid)
        with pytest.raises(DBAPIError):
            await finding
    await killer.close()
    found = await asyncio.gather(*(find_words(ctx) for _ in range(3)))
    assert sum(found) == count
    (row,) = await rows_of(
        process,
        "SELECT count(*) AS count, count(DISTINCT id) AS ids,"
        " (SELECT count(*) FROM trace_unsearched) AS left FROM trace_words"
        " WHERE words @@ 'question'",
    )
    assert row == {"count": count, "ids": count, "left": 0}
    assert await find_words(ctx) == 0


async def store(
    process: Process, board: Leaderboard, candidate: Candidate, days_ago: Sequence[float]
) -> list[UUID]:
    traces = [trace_of(board, candidate, NOON - timedelta(days=days)) for days in days_ago]
    storable = await process.services.traces.prepare(traces)
    async with process.database.write() as session:
        await process.services.traces.store(session, storable)
        session.add_all(
            TraceFeedback(
                id=new_id(), workspace_id=board.workspace_id, trace_id=trace["id"], score=1
            )
            for trace in traces
        )
    return [trace["id"] for trace in traces]


async def ids_of(process: Process, column: Any, workspace_id: UUID) -> set[UUID]:
    async with process.database.read() as session:
        owner = column.class_.workspace_id
        return set(await session.scalars(select(column).where(owner == workspace_id)))


@ON_OLDEST_TOO
@pytest.mark.parametrize("setting_overrides", [{"trace_retention_days": 20}])
async def test_traces_go_when_they_are_too_old_with_all_that_belongs_to_them(
    process: Process, tenant: Tenant, board: Leaderboard, candidate: Candidate
) -> None:
    shorter = await make_tenant(process)
    theirs = await make_leaderboard(process, shorter.workspace_id)
    async with process.database.write() as session:
        await session.execute(
            update(Workspace)
            .where(Workspace.id == shorter.workspace_id)
            .values(trace_retention_days=3)
        )
    days = [30, 22, 21, 20.4, 19, 3.1, 2.9, 0]
    kept = await store(process, board, candidate, days)
    short = await store(process, theirs, await make_candidate(process, theirs), days)
    ctx = process.system_context()
    await put_hours_together(ctx)
    await find_words(ctx)
    for _ in range(2):
        await drop_old_traces(ctx, NOON)
        async with process.database.read() as session:
            oldest = (await list_days(session))[0]
        assert oldest == day_of(NOON - timedelta(days=20))
        # What is left of a day of which some is still kept is out of sight, and goes with it.
        for entity in (Trace.id, TraceText.id, TraceWords.id):
            found = await ids_of(process, entity, tenant.workspace_id)
            assert set(kept[4:]) <= found <= set(kept[3:])
            assert await ids_of(process, entity, shorter.workspace_id) == set(short[6:])
        feedback = TraceFeedback.trace_id
        assert await ids_of(process, feedback, tenant.workspace_id) == set(kept[4:])
        assert await ids_of(process, feedback, shorter.workspace_id) == set(short[6:])
        for workspace, count in ((tenant, 4), (shorter, 2)):
            (row,) = await rows_of(
                process,
                "SELECT sum(trace_count) AS count FROM trace_sum WHERE span = 'hour' AND "
                f"leaderboard_id = '{ALL_BOARDS}' AND workspace_id = '{workspace.workspace_id}'",
            )
            assert row["count"] == count
