"""Days of traces are made and dropped beside whoever stores and reads, and in spite of kills."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError

from app.services import Process
from db.models import Candidate, Leaderboard
from db.partitions import (
    CHANGING,
    LATER_INDEXED,
    create_days,
    day_of,
    drop_days,
    index_days,
    list_days,
    next_days,
)
from resolvers.redactors import Redactors
from resolvers.trace_storage import TraceStore
from resolvers.trace_upkeep import find_words, index_past_days, make_next_days
from tests.conftest import ON_OLDEST_TOO
from tests.factories import trace_of

TODAY = day_of(datetime.now(UTC))
LONGEST_WAIT_SECONDS = 10
# Not among the activities: a transaction sees those as they were when it first looked.
STUCK = "SELECT pid FROM pg_locks WHERE NOT granted"
TABLES = r"""
SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relname ~ '^trace(_text|_words)?_\d{8}$'
"""

INDEXES = r"""
SELECT name.relname, indisvalid FROM pg_index JOIN pg_class AS name ON name.oid = indexrelid
WHERE name.relname ~ '^ix_trace_\d{8}_workspace_id_(latency_ms|cost_usd|score)$'
"""


@pytest.fixture
async def other(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Yield a connection that does what another process would."""
    connection = await asyncpg.connect(database_url.replace("+asyncpg", ""))
    yield connection
    await connection.close()


def days_from(first: int, last: int) -> list[date]:
    return [TODAY + timedelta(days=ahead) for ahead in range(first, last + 1)]


async def days_there(process: Process) -> list[date]:
    async with process.database.read() as session:
        return await list_days(session)


async def create(process: Process, days: list[date]) -> None:
    async with process.database.write() as session:
        await create_days(session, days)


async def drop(process: Process, before: date) -> list[str]:
    async with process.database.alone() as connection:
        return await drop_days(connection, before)


async def index(process: Process, before: date = TODAY) -> list[str]:
    async with process.database.alone() as connection:
        return await index_days(connection, before)


def indexes_of(*days: date) -> list[str]:
    return [
        f"ix_trace_{day:%Y%m%d}_workspace_id_{column}" for day in days for column in LATER_INDEXED
    ]


async def store(
    process: Process, board: Leaderboard, candidate: Candidate, *days_ahead: int
) -> None:
    now = datetime.now(UTC)
    traces = [trace_of(board, candidate, now + timedelta(days=ahead)) for ahead in days_ahead]
    storable = await process.services.traces.prepare(traces)
    async with process.database.write() as session:
        stored = await process.services.traces.store(session, storable)
    assert stored == {trace["id"] for trace in traces}


async def find_stuck(other: asyncpg.Connection) -> int:
    async with asyncio.timeout(LONGEST_WAIT_SECONDS):
        while True:
            if pid := await other.fetchval(STUCK):
                return int(pid)
            await asyncio.sleep(0.005)


@ON_OLDEST_TOO
async def test_the_next_days_are_made_once(process: Process) -> None:
    for _ in range(2):
        await make_next_days(process.system_context())
        assert await days_there(process) == days_from(0, 3)
    assert next_days(datetime(2026, 12, 31, 23, 59, tzinfo=UTC), 2) == [
        date(2026, 12, 31), date(2027, 1, 1),
    ]  # fmt: skip


async def test_a_server_makes_them_when_it_starts(process: Process, base_url: str) -> None:
    assert await days_there(process) == days_from(0, 3)


async def test_a_worker_makes_them_when_it_starts(process: Process, worker: None) -> None:
    async with asyncio.timeout(LONGEST_WAIT_SECONDS):
        while await days_there(process) != days_from(0, 3):
            await asyncio.sleep(0.01)


async def test_storing_makes_a_day_that_is_missing(
    process: Process, board: Leaderboard, candidate: Candidate
) -> None:
    await store(process, board, candidate, -40, 0, 1)
    assert await days_there(process) == [TODAY - timedelta(days=40), *days_from(0, 2)]


async def test_many_make_the_same_days_at_once(
    process: Process, board: Leaderboard, candidate: Candidate
) -> None:
    stores = [
        TraceStore(process.database, Redactors(process.database, process.changes)) for _ in range(8)
    ]
    ids = [trace_of(board, candidate, datetime.now(UTC) - timedelta(days=n))["id"] for n in (5, 6)]
    await asyncio.gather(*(each.make_room(ids) for each in stores))
    assert await days_there(process) == [*days_from(-6, -5), *days_from(0, 2)]


@ON_OLDEST_TOO
async def test_days_are_made_while_others_store_and_read(
    process: Process, board: Leaderboard, candidate: Candidate, other: asyncpg.Connection
) -> None:
    async with other.transaction():
        await other.execute("LOCK TABLE trace, trace_text IN ROW EXCLUSIVE MODE")
        await other.fetch("SELECT FROM trace JOIN trace_text USING (id)")
        async with asyncio.timeout(LONGEST_WAIT_SECONDS):
            await store(process, board, candidate, -9)


async def test_making_days_that_is_killed_leaves_nothing_and_is_done_again(
    process: Process, other: asyncpg.Connection
) -> None:
    async with other.transaction():
        # Lets reads and writes through, but not what attaches a partition.
        await other.execute("LOCK TABLE trace_text IN SHARE UPDATE EXCLUSIVE MODE")
        making = asyncio.create_task(create(process, days_from(-3, -2)))
        await other.execute("SELECT pg_terminate_backend($1)", await find_stuck(other))
        with pytest.raises(DBAPIError):
            await making
    assert await days_there(process) == days_from(0, 2)
    await create(process, days_from(-3, -2))
    assert await days_there(process) == days_from(-3, -2) + days_from(0, 2)
    assert await other.fetchval(TABLES) == 3 * 5


@ON_OLDEST_TOO
async def test_days_before_one_are_dropped_with_their_texts(
    process: Process, board: Leaderboard, candidate: Candidate, other: asyncpg.Connection
) -> None:
    await store(process, board, candidate, -5, -4, -3, 0)
    dropped = await drop(process, TODAY - timedelta(days=3))
    assert dropped == [
        f"{parent}_{day:%Y%m%d}"
        for parent in ("trace", "trace_text", "trace_words")
        for day in days_from(-5, -4)
    ]
    assert await days_there(process) == [*days_from(-3, -3), *days_from(0, 2)]
    assert await other.fetchval("SELECT count(*) FROM trace JOIN trace_text USING (id)") == 2
    assert await drop(process, TODAY - timedelta(days=3)) == []


@ON_OLDEST_TOO
async def test_while_days_are_dropped_others_store_and_read_and_a_kill_does_no_harm(
    process: Process, board: Leaderboard, candidate: Candidate, other: asyncpg.Connection
) -> None:
    await store(process, board, candidate, -5, 0)
    reading = other.transaction()
    await reading.start()
    await other.fetch("SELECT FROM trace")
    dropping = asyncio.create_task(drop(process, TODAY))
    stuck = await find_stuck(other)
    async with asyncio.timeout(LONGEST_WAIT_SECONDS):
        await store(process, board, candidate, 0, -2)  # which makes a day, too
    assert await drop(process, TODAY) == []  # one at a time
    await other.execute("SELECT pg_terminate_backend($1)", stuck)
    with pytest.raises(DBAPIError):
        await dropping
    await reading.rollback()
    assert await days_there(process) == [TODAY - timedelta(days=2), *days_from(0, 2)]
    assert len(await drop(process, TODAY)) == 6
    assert await other.fetchval(TABLES) == 3 * 3


async def test_a_table_that_was_detached_and_not_dropped_is_dropped(
    process: Process, other: asyncpg.Connection
) -> None:
    await create(process, days_from(-5, -5))
    await other.execute(f"ALTER TABLE trace DETACH PARTITION trace_{TODAY - timedelta(5):%Y%m%d}")
    assert len(await drop(process, TODAY)) == 3
    assert await other.fetchval(TABLES) == 3 * 3


async def test_a_day_that_lacks_a_table_gets_it(
    process: Process, board: Leaderboard, candidate: Candidate, other: asyncpg.Connection
) -> None:
    await store(process, board, candidate, -3)
    await other.execute(f"DROP TABLE trace_words_{TODAY - timedelta(3):%Y%m%d}")
    assert await days_there(process) == days_from(0, 2)
    assert await find_words(process.system_context()) == 1
    assert await days_there(process) == [*days_from(-3, -3), *days_from(0, 2)]
    assert await other.fetchval("SELECT count(*) FROM trace_words") == 1


@ON_OLDEST_TOO
async def test_days_that_are_over_are_indexed_once(
    process: Process, board: Leaderboard, candidate: Candidate, other: asyncpg.Connection
) -> None:
    ctx = process.system_context()
    await store(process, board, candidate, -2, -1, 0)
    just_over = datetime(TODAY.year, TODAY.month, TODAY.day, 0, 5, tzinfo=UTC)
    await index_past_days(ctx, just_over)  # what was taken at the last moment is still stored
    assert dict(await other.fetch(INDEXES)) == dict.fromkeys(indexes_of(*days_from(-2, -2)), True)
    await index_past_days(ctx, just_over + timedelta(minutes=10))
    whole = dict.fromkeys(indexes_of(*days_from(-2, -1)), True)
    assert dict(await other.fetch(INDEXES)) == whole
    assert await index(process) == []
    await store(process, board, candidate, -2, 0)
    assert dict(await other.fetch(INDEXES)) == whole


@ON_OLDEST_TOO
async def test_while_days_are_indexed_others_store_and_read_and_a_kill_does_no_harm(
    process: Process, board: Leaderboard, candidate: Candidate, other: asyncpg.Connection
) -> None:
    await store(process, board, candidate, -5, -4, 0)
    whole = indexes_of(*reversed(days_from(-5, -4)))
    storing = other.transaction()
    await storing.start()
    await other.execute(f"LOCK TABLE trace_{TODAY - timedelta(4):%Y%m%d} IN ROW EXCLUSIVE MODE")
    indexing = asyncio.create_task(index(process))
    stuck = await find_stuck(other)
    async with asyncio.timeout(LONGEST_WAIT_SECONDS):
        await store(process, board, candidate, -5, -4, 0)
    assert await other.fetchval("SELECT count(*) FROM trace") == 6
    assert await index(process) == await drop(process, TODAY) == []  # one at a time
    await other.execute("SELECT pg_terminate_backend($1)", stuck)
    with pytest.raises(DBAPIError):
        await indexing
    await storing.rollback()
    assert dict(await other.fetch(INDEXES)) == {whole[0]: False}
    assert await index(process) == whole
    assert dict(await other.fetch(INDEXES)) == dict.fromkeys(whole, True)
    assert len(await drop(process, TODAY)) == 6
    assert await other.fetch(INDEXES) == []


async def test_past_days_that_another_process_changes_are_left_for_now(
    process: Process, other: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    old = TODAY - timedelta(days=400)
    await create(process, [old])
    await other.execute(f"SELECT pg_advisory_lock({CHANGING})")
    assert await drop(process, old + timedelta(days=1)) == []
    assert "another process is changing past days of traces" in caplog.text
    await other.execute(f"SELECT pg_advisory_unlock({CHANGING})")
    assert f"trace_{old:%Y%m%d}" in await drop(process, old + timedelta(days=1))
