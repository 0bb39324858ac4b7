"""Pushes of several processes to the same datasets: in what order they wait, and what they read."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime

import asyncpg
import pytest
from sqlalchemy import select

from app.services import Process
from db.models import PushedRow
from resolvers.push import push_rows
from tests.factories import Tenant
from tests.rest_compat.test_push import make_push_board, rows

WAIT_SECONDS = 10
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"
MAKE_DATASET = """
INSERT INTO dataset (leaderboard_id, workspace_id)
SELECT id, workspace_id FROM leaderboard WHERE id = $1
"""
LOCK_DATASET = "SELECT FROM dataset WHERE leaderboard_id = $1 FOR UPDATE"
# Connections that end say at once what they did.
READ_WHOLE = "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'pushed_row'"


@pytest.fixture
async def other(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Yield a connection that does what another process would."""
    connection = await asyncpg.connect(database_url.replace("+asyncpg", ""))
    yield connection
    await connection.close()


async def await_somebody_waits(other: asyncpg.Connection) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not await other.fetchval(WAITING):
            await asyncio.sleep(0.005)


async def test_who_waits_for_a_dataset_that_another_makes_holds_none(
    process: Process, tenant: Tenant, other: asyncpg.Connection
) -> None:
    ctx = process.system_context(tenant.workspace_id)
    there, new = [await make_push_board(process, tenant) for _ in range(2)]
    await push_rows(ctx, there.id, rows(1))
    async with other.transaction():
        await other.execute(MAKE_DATASET, new.id)
        # Both are stored together.
        pushing = asyncio.gather(
            *(push_rows(ctx, board.id, rows(1, start=1)) for board in (there, new))
        )
        await await_somebody_waits(other)
        async with asyncio.timeout(WAIT_SECONDS):
            await other.execute(LOCK_DATASET, there.id)
    assert [receipt.accepted_rows for receipt in await pushing] == [1, 1]


async def test_a_row_is_of_the_time_when_its_turn_came(
    process: Process, tenant: Tenant, other: asyncpg.Connection
) -> None:
    ctx = process.system_context(tenant.workspace_id)
    board = await make_push_board(process, tenant)
    await push_rows(ctx, board.id, rows(1))
    async with other.transaction():
        await other.execute(LOCK_DATASET, board.id)
        pushing = asyncio.ensure_future(push_rows(ctx, board.id, rows(1, start=1)))
        await await_somebody_waits(other)
        released_at: datetime = await other.fetchval("SELECT clock_timestamp()")
    await pushing
    async with process.database.read() as session:
        times = list(
            await session.scalars(select(PushedRow.created_at).order_by(PushedRow.sequence))
        )
    assert times[0] < released_at <= times[1]


async def test_no_push_reads_the_whole_table_however_fast_it_grew(
    process: Process, tenant: Tenant, other: asyncpg.Connection
) -> None:
    ctx = process.system_context(tenant.workspace_id)
    board = await make_push_board(process, tenant)
    named = [{"id": str(number), "input": f"named {number}"} for number in range(20)]
    for row in named[:10]:  # often enough that PostgreSQL keeps its plans
        await push_rows(ctx, board.id, row)
    for start in range(0, 3_000, 1_000):
        await push_rows(ctx, board.id, rows(1_000, start=start))
    for row in named[10:]:
        await push_rows(ctx, board.id, row)
    await process.database.dispose()
    assert await other.fetchval(READ_WHOLE) == 0
