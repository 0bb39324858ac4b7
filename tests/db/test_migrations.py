"""Revisions go up, down and up, and say what the models say."""

from collections.abc import Callable
from functools import partial
from typing import Any

import asyncpg
import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from app.embedded_postgres import EmbeddedPostgres
from app.services import Process
from db.migrations.runner import alembic_config, current_revision, head_revision
from db.session import open_database


async def apply(engine: Any, step: Callable[[Any], None]) -> None:
    def run(connection: Connection) -> None:
        config = alembic_config()
        config.attributes["connection"] = connection
        step(config)

    async with engine.connect() as connection:
        await connection.run_sync(run)
        await connection.commit()


async def test_each_revision_goes_up_down_and_up(
    postgres: EmbeddedPostgres, admin: asyncpg.Connection
) -> None:
    await admin.execute("CREATE DATABASE each_revision")
    database = open_database(postgres.dsn.replace("/gero?", "/each_revision?"), pool_size=2)
    script = ScriptDirectory.from_config(alembic_config())
    revisions = [revision.revision for revision in script.walk_revisions()][::-1]
    for revision in revisions:
        await apply(database.engine, partial(command.upgrade, revision=revision))
        await apply(database.engine, partial(command.downgrade, revision="-1"))
        await apply(database.engine, partial(command.upgrade, revision=revision))
    assert await current_revision(database.engine) == head_revision() == revisions[-1]
    await apply(database.engine, command.check)
    await database.dispose()
    await admin.execute("DROP DATABASE each_revision")


async def test_postgresql_refuses_a_write_on_a_read_session(process: Process) -> None:
    with pytest.raises(DBAPIError, match="read-only transaction"):
        async with process.database.read() as session:
            await session.execute(text("DELETE FROM workspace"))
