"""What is an outage of the database, whoever tells of it."""

import asyncio
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import text

from app.services import Process
from db.session import open_database
from resolvers.failures import is_outage

SOCKET = ".s.PGSQL.5432"
# As PostgreSQL refuses a connection while it starts or stops.
# Source: https://www.postgresql.org/docs/current/protocol-message-formats.html, ErrorResponse.
FIELDS = b"SFATAL\x00VFATAL\x00C57P03\x00Mthe database system is shutting down\x00\x00"
REFUSAL = b"E" + (len(FIELDS) + 4).to_bytes(4) + FIELDS


async def test_a_server_that_starts_or_stops_is_away(tmp_path: Path) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1_024)
        writer.write(REFUSAL)
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(refuse, str(tmp_path / SOCKET))
    url = f"postgresql+asyncpg://gero@/gero?host={tmp_path}&port=5432"
    database = open_database(url, pool_size=2)
    async with server:
        with pytest.raises(Exception, match="shutting down") as failed:
            async with database.read() as session:
                await session.execute(text("SELECT 1"))
    await database.dispose()
    assert is_outage(failed.value)


def test_a_server_whose_disk_is_full_is_waited_for_as_one_that_is_away() -> None:
    assert is_outage(asyncpg.DiskFullError("could not extend file: No space left on device"))


async def test_a_statement_that_is_wrong_is_no_outage(process: Process) -> None:
    with pytest.raises(Exception, match="division by zero") as failed:
        async with process.database.read() as session:
            await session.execute(text("SELECT 1 / 0"))
    assert not is_outage(failed.value)
