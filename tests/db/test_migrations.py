"""Revisions go up, down and up, and say what the models say."""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.services import Process
from db.migrations.revisions import current_revision, head_revision
from db.migrations.runner import alembic_config, migrate, migrate_url
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
async def test_two_at_once_wait_for_each_other_and_leave_no_index_half_built(
    postgres_server: PostgresServer,
) -> None:
    await postgres_server.admin.execute("CREATE DATABASE two_at_once")
    url = postgres_server.postgres.dsn.replace("/gero?", "/two_at_once?")
    await asyncio.gather(migrate_url(url), migrate_url(url))
    database = open_database(url, pool_size=2)
    assert await current_revision(database.engine) == head_revision()
    assert await broken_indexes(database.engine) == []
    await database.dispose()
    await postgres_server.admin.execute("DROP DATABASE two_at_once")


@ON_OLDEST_TOO
async def test_an_index_that_was_left_half_built_is_mended(process: Process) -> None:
    engine = process.database.engine
    slugs = "uq_leaderboard_workspace_id_slug"
    leftover = "ix_leaderboard_name_ccnew"
    async with engine.begin() as connection:
        await connection.execute(text(f"CREATE INDEX {leftover} ON leaderboard (name)"))
        broken = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{}'::regclass"
        for name in (slugs, leftover):
            await connection.execute(text(broken.format(name)))
    assert await broken_indexes(engine) == [leftover, slugs]
    await migrate(engine)
    assert await broken_indexes(engine) == []
    async with engine.connect() as connection:
        there = "SELECT to_regclass('{}') IS NOT NULL"
        assert await connection.scalar(text(there.format(slugs)))
        assert not await connection.scalar(text(there.format(leftover)))


async def broken_indexes(engine: AsyncEngine) -> list[str]:
    names = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid ORDER BY 1"
    async with engine.connect() as connection:
        return list(await connection.scalars(text(names)))


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
