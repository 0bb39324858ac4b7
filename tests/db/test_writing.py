"""One connection for many writers: whatever ends it, the next statement finds a good one."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from db.writing import StatementWriter
from resolvers.failures import is_outage
from tests.database_proxy import database_proxy

TERMINATE = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE application_name = 'gero writer' AND datname = current_database()"
)
# Source: https://www.postgresql.org/docs/current/protocol-message-formats.html, ErrorResponse.
FIELDS = b"SFATAL\x00VFATAL\x00C57P01\x00Mbye\x00\x00"
LAST_WORD = b"E" + (len(FIELDS) + 4).to_bytes(4) + FIELDS


@pytest.fixture
async def writer(database_url: str) -> AsyncIterator[StatementWriter]:
    made = StatementWriter(database_url, answer_timeout_seconds=5)
    yield made
    await made.aclose()


@pytest.fixture
async def raw(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url.replace("+asyncpg", ""))
    yield connection
    await connection.close()


async def test_who_comes_right_after_a_connection_was_ended_gets_another(
    writer: StatementWriter, raw: asyncpg.Connection
) -> None:
    for _ in range(5):
        waiting = [
            asyncio.create_task(writer.fetch(sql, []))
            for sql in ("SELECT 1, pg_sleep(5)", "SELECT 2", "SELECT 3")
        ]
        while not await raw.fetchval(f"SELECT count(*) FROM ({TERMINATE}) AS ended"):
            await asyncio.sleep(0.01)
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(ended[0], BaseException)
        assert is_outage(ended[0])
        assert [rows[0][0] for rows in ended[1:]] == [2, 3]  # type: ignore[index]


async def test_who_comes_after_a_statement_that_was_refused_uses_the_connection_still(
    writer: StatementWriter, raw: asyncpg.Connection
) -> None:
    pid = "SELECT pg_backend_pid()"
    (before,) = await writer.fetch(pid, [])
    with pytest.raises(asyncpg.DivisionByZeroError):
        await writer.fetch("SELECT 1 / 0", [])
    (after,) = await writer.fetch(pid, [])
    assert after == before


async def test_who_is_cancelled_leaves_no_half_read_answer_to_the_next(
    writer: StatementWriter,
) -> None:
    waiting = asyncio.create_task(writer.fetch("SELECT 1 FROM pg_sleep(5)", []))
    await asyncio.sleep(0.2)
    waiting.cancel()
    ((two,),) = await writer.fetch("SELECT 2", [])
    assert two == 2
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_connection_that_was_told_of_its_end_a_moment_ago_is_an_outage(
    database_url: str,
) -> None:
    """The server's last word has come, and that it hung up is not known yet."""
    async with database_proxy(database_url) as proxy:
        writer = StatementWriter(proxy.url, answer_timeout_seconds=5)
        await writer.fetch("SELECT 1", [])
        proxy.say("gero writer", LAST_WORD)
        await asyncio.sleep(0.1)
        with pytest.raises(asyncpg.InternalClientError) as told:
            await writer.fetch("SELECT 2", [])
        assert is_outage(told.value)
        ((three,),) = await writer.fetch("SELECT 3", [])
        assert three == 3
        await writer.aclose()


async def test_a_server_that_takes_no_writes_is_away_until_one_does(
    writer: StatementWriter, raw: asyncpg.Connection
) -> None:
    """As after another has taken its place."""
    name = await raw.fetchval("SELECT quote_ident(current_database())")
    await raw.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    try:
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError) as refused:
            await writer.fetch("CREATE TABLE written (id int)", [])
    finally:
        await raw.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    assert is_outage(refused.value)
    await writer.fetch("CREATE TABLE written (id int)", [])
    await writer.fetch("DROP TABLE written", [])
