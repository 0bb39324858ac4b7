"""Revisions go up, down and up, and say what the models say."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from app.services import Process
from db.migrations.revisions import current_revision, head_revision
from db.migrations.runner import alembic_config
from db.session import open_database
from tests.conftest import ON_OLDEST_TOO, PostgresServer


async def apply(engine: Any, step: Callable[[Any], None]) -> None:
    def run(connection: Connection) -> None:
        config = alembic_config()
        config.attributes["connection"] = connection
        step(config)

    async with engine.connect() as connection:
        await connection.run_sync(run)
        await connection.commit()


@ON_OLDEST_TOO
async def test_each_revision_goes_up_down_and_up(postgres_server: PostgresServer) -> None:
    await postgres_server.admin.execute("CREATE DATABASE each_revision")
    dsn = postgres_server.postgres.dsn
    database = open_database(dsn.replace("/gero?", "/each_revision?"), pool_size=2)
    script = ScriptDirectory.from_config(alembic_config())
    revisions = [revision.revision for revision in script.walk_revisions()][::-1]
    for revision in revisions:
        await apply(database.engine, partial(command.upgrade, revision=revision))
        await apply(database.engine, partial(command.downgrade, revision="-1"))
        await apply(database.engine, partial(command.upgrade, revision=revision))
    assert await current_revision(database.engine) == head_revision() == revisions[-1]
    await apply(database.engine, command.check)
    await database.dispose()
    await postgres_server.admin.execute("DROP DATABASE each_revision")


@ON_OLDEST_TOO
async def test_the_server_is_of_the_version_it_stands_for(
    process: Process, postgres_bin_dir: Path | None
) -> None:
    async with process.database.read() as session:
        version = int(str(await session.scalar(text("SHOW server_version_num")))) // 10_000
    assert version == (18 if postgres_bin_dir is None else 15)


async def test_postgresql_refuses_a_write_on_a_read_session(process: Process) -> None:
    with pytest.raises(DBAPIError, match="read-only transaction"):
        async with process.database.read() as session:
            await session.execute(text("DELETE FROM workspace"))
