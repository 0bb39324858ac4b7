"""Applies the schema revisions to a database."""

import asyncio
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db.session import open_database

# Any constant: it keeps two processes from migrating one database at the same time.
LOCK = {"id": 7_240_125}
POLL_SECONDS = 0.1
# Of an index that is built beside reads and writes, when that was broken off: nothing reads it, and
# its revision passes over it. What a rebuilding that was broken off left is of no use.
BROKEN_INDEXES = """
SELECT indexrelid::regclass::text AS name, relname ~ '_cc(new|old)[0-9]*$' AS is_leftover
FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
WHERE NOT indisvalid AND relkind = 'i' AND relnamespace = current_schema()::regnamespace
"""


def alembic_config() -> Config:
    """Return Alembic's configuration, wherever the package is installed."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


async def migrate_url(url: str) -> None:
    """Bring the database at *url* to the newest revision, however long a step takes."""
    database = open_database(url, pool_size=2)
    try:
        await migrate(database.engine)
    finally:
        await database.dispose()


async def migrate(engine: AsyncEngine, *, revision: str = "head") -> None:
    """Bring the database to *revision*, waiting for anybody else who is doing so.

    Indexes that an earlier attempt left half built are built.
    """

    def upgrade(connection: Connection) -> None:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    async with engine.connect() as session:
        lock = await session.execution_options(isolation_level="AUTOCOMMIT")
        # Never blocked in a statement: an index that is built meanwhile would wait for its end.
        while not await lock.scalar(text("SELECT pg_try_advisory_lock(:id)"), LOCK):  # noqa: ASYNC110
            await asyncio.sleep(POLL_SECONDS)
        try:
            async with engine.connect() as connection:
                await connection.run_sync(upgrade)
                await connection.commit()
            await _mend_indexes(lock)
        finally:
            await lock.execute(text("SELECT pg_advisory_unlock(:id)"), LOCK)


async def _mend_indexes(connection: AsyncConnection) -> None:
    for name, is_leftover in (await connection.execute(text(BROKEN_INDEXES))).all():
        verb = "DROP" if is_leftover else "REINDEX"
        await connection.execute(text(f"{verb} INDEX CONCURRENTLY {name}"))
