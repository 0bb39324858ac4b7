"""Applies the schema revisions to a database."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from db.session import open_database

# Any constant: it keeps two processes from migrating one database at the same time.
MIGRATION_LOCK_ID = 7_240_125


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
    """Bring the database to *revision*, waiting for anybody else who is doing so."""

    def upgrade(connection: Connection) -> None:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    async with engine.connect() as lock:
        await lock.execute(text("SELECT pg_advisory_lock(:id)"), {"id": MIGRATION_LOCK_ID})
        await lock.commit()
        try:
            async with engine.connect() as connection:
                await connection.run_sync(upgrade)
                await connection.commit()
        finally:
            await lock.execute(text("SELECT pg_advisory_unlock(:id)"), {"id": MIGRATION_LOCK_ID})
            await lock.commit()
