"""Reading rows: what is refused, what is kept, and what happens when a reader goes away."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone

import asyncpg
import pytest
from sqlalchemy import DateTime, Integer, bindparam, func, literal_column, select, text

from db.records import PLANNED_EACH_TIME, PLANNED_ONCE, Query, RecordReader, write_query

CONNECTION = Query("SELECT pg_backend_pid() AS pid", (), {})
SLEEP = Query("SELECT pg_sleep(60)", (), {})
ASLEEP = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = $1"


@pytest.fixture
async def reader(database_url: str) -> AsyncIterator[RecordReader]:
    made = RecordReader(database_url, max_connections=2, answer_timeout_seconds=5)
    yield made
    await made.aclose()


@pytest.fixture
async def observer(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url.replace("+asyncpg", ""))
    yield connection
    await connection.close()


async def until_asleep(observer: asyncpg.Connection, count: int) -> None:
    async with asyncio.timeout(10):
        while await observer.fetchval(ASLEEP, SLEEP.sql) != count:
            await asyncio.sleep(0.01)


async def test_parameters_and_the_statement_s_own_constants_are_sent(reader: RecordReader) -> None:
    number = bindparam("number", type_=Integer)
    query = write_query(select(number.label("number"), func.concat("a", "b").label("both")))
    [row] = await reader.fetch(query, {"number": 5})
    assert (row.number, row["both"]) == (5, "ab")
    with pytest.raises(AttributeError, match="'other' was not selected"):
        _ = row.other
    with pytest.raises(KeyError, match="number"):
        await reader.fetch(query, {})


async def test_json_is_read_as_values(reader: RecordReader) -> None:
    query = write_query(select(literal_column("""'{"a": [1, null]}'::jsonb""").label("value")))
    assert [row.value for row in await reader.fetch(query, {})] == [{"a": [1, None]}]


@pytest.mark.parametrize(
    "instant",
    [
        datetime(2026, 11, 26, 3, 4, 5, 678901, UTC),
        datetime(2026, 11, 26, 3, 4, 5, 120000, UTC),  # PostgreSQL writes .12
        datetime(2026, 11, 26, 3, 4, 5, 1, UTC),
        datetime(2026, 11, 26, tzinfo=UTC),
        datetime.min.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
    ],
)
async def test_an_instant_is_sent_and_read_exactly(reader: RecordReader, instant: datetime) -> None:
    given = bindparam("given", type_=DateTime(timezone=True))
    query = write_query(select(given.label("read")))
    [row] = await reader.fetch(query, {"given": instant})
    assert (row.read, row.read.tzinfo) == (instant, UTC)
    elsewhere = instant.replace(year=2026).astimezone(timezone(timedelta(hours=5, minutes=30)))
    [row] = await reader.fetch(query, {"given": elsewhere})
    assert row.read == elsewhere


async def test_postgres_refuses_a_write(reader: RecordReader) -> None:
    write = Query(str(text("CREATE TABLE intruder (id int)")), (), {})
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await reader.fetch(write, {})


async def test_a_connection_serves_one_statement_after_another(reader: RecordReader) -> None:
    pids = {row.pid for _ in range(5) for row in await reader.fetch(CONNECTION, {})}
    assert len(pids) == 1


async def test_a_connection_that_the_server_ended_is_replaced(
    reader: RecordReader, observer: asyncpg.Connection
) -> None:
    [before] = await reader.fetch(CONNECTION, {})
    assert await observer.fetchval("SELECT pg_terminate_backend($1, 5000)", before.pid)
    await asyncio.sleep(0.05)  # until this process has heard of it
    [after] = await reader.fetch(CONNECTION, {})
    assert after.pid != before.pid


async def test_a_reader_that_goes_away_calls_off_its_statement_and_frees_its_place(
    reader: RecordReader, observer: asyncpg.Connection
) -> None:
    readers = [asyncio.create_task(reader.fetch(SLEEP, {})) for _ in range(2)]
    await until_asleep(observer, 2)
    waiting = asyncio.create_task(reader.fetch(CONNECTION, {}))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    readers[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await readers[0]
    assert len(await waiting) == 1
    await until_asleep(observer, 1)
    readers[1].cancel()
    await until_asleep(observer, 0)


async def test_who_waits_in_vain_for_a_connection_is_told(database_url: str) -> None:
    reader = RecordReader(database_url, max_connections=1, answer_timeout_seconds=0.3)
    results = await asyncio.gather(
        reader.fetch(SLEEP, {}), reader.fetch(CONNECTION, {}), return_exceptions=True
    )
    assert [type(result) for result in results] == [TimeoutError, TimeoutError]
    assert len(await reader.fetch(CONNECTION, {})) == 1
    await reader.aclose()


async def test_a_server_that_can_t_be_reached_takes_no_place() -> None:
    reader = RecordReader(
        "postgresql+asyncpg://u@127.0.0.1:1/x", max_connections=1, answer_timeout_seconds=5
    )
    for _ in range(3):
        with pytest.raises(OSError, match="Connect call failed"):
            await reader.fetch(CONNECTION, {})


async def test_closing_leaves_no_connection(
    database_url: str, observer: asyncpg.Connection
) -> None:
    reader = RecordReader(database_url, max_connections=2, answer_timeout_seconds=5)
    under_way = asyncio.create_task(reader.fetch(Query("SELECT pg_sleep(0.2)", (), {}), {}))
    await reader.fetch(CONNECTION, {})
    await reader.aclose()
    await under_way
    ours = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE application_name = 'gero reader' AND datname = current_database()"
    )
    async with asyncio.timeout(5):
        while await observer.fetchval(ours):
            await asyncio.sleep(0.01)


READERS = """
SELECT count(*) FROM pg_stat_activity
WHERE application_name = 'gero reader' AND datname = current_database()
"""


async def test_each_way_of_planning_has_connections_of_its_own_within_the_limit(
    reader: RecordReader, observer: asyncpg.Connection
) -> None:
    shown = select(func.current_setting("plan_cache_mode").label("mode"))
    options: list[dict[str, str]] = [{}, PLANNED_ONCE, PLANNED_EACH_TIME]
    queries = [write_query(shown.execution_options(**each)) for each in options]
    rng = random.Random(1)
    for _ in range(20):
        chosen = rng.choices(queries, k=6)
        found = await asyncio.gather(*(reader.fetch(query, {}) for query in chosen))
        assert [rows[0].mode for rows in found] == [query.plan_cache_mode for query in chosen]
        async with asyncio.timeout(10):  # those that were hung up on take a moment to go
            while await observer.fetchval(READERS) > 2:
                await asyncio.sleep(0.01)


MANY = """
CREATE TABLE thing (id int PRIMARY KEY, owner int NOT NULL, filler text NOT NULL);
INSERT INTO thing SELECT n, CASE WHEN n % 9000 = 0 THEN -1 ELSE n % 20 END, repeat('x', 200)
FROM generate_series(1, 100000) AS n;
CREATE INDEX ON thing (owner, id);
ANALYZE thing;
SELECT pg_stat_force_next_flush();
"""
READ = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'thing'"


async def test_few_rows_of_many_are_read_without_the_others(
    reader: RecordReader, observer: asyncpg.Connection
) -> None:
    await observer.execute(MANY)
    listed = "SELECT id FROM thing WHERE owner = $1 ORDER BY id DESC LIMIT $2"
    newest = Query(listed, ("owner", "limit"), {}, **PLANNED_ONCE)
    flush = Query("SELECT pg_stat_force_next_flush()", (), {}, **PLANNED_ONCE)
    before = await observer.fetchval(READ)
    assert len(await reader.fetch(newest, {"owner": -1, "limit": 51})) == 11
    await reader.fetch(flush, {})
    assert 0 < await observer.fetchval(READ) - before <= 20
