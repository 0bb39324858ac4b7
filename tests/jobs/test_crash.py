"""Workers are killed in the middle of a run: nothing stored is lost, and nothing is repeated."""

import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import httpx2
from sqlalchemy import func, select

from app.services import Process
from app.settings import Settings
from db.base import new_id
from db.models import Job, RunResult, Trace
from resolvers.inputs import NewRun
from resolvers.run_execution import execute_shard
from resolvers.run_lifecycle import RUN_SHARD
from resolvers.run_preparation import prepare_run
from resolvers.run_requests import start_run
from tests.conftest import SECRET_KEY, await_run
from tests.factories import Tenant, make_candidate, make_leaderboard
from tests.jobs.conftest import make_board
from tests.model_peer import ModelPeer

GERO = Path(sys.executable).parent / "gero"


@contextmanager
def worker_process(settings: Settings) -> Iterator["subprocess.Popen[bytes]"]:
    variables = {
        "GERO_DATABASE_URL": settings.database_url,
        "GERO_SECRET_KEY": SECRET_KEY,
        "GERO_SANDBOX_URL": settings.sandbox_url or "",
        "GERO_HUGGINGFACE_URL": settings.huggingface_url,
        "GERO_ALLOW_PRIVATE_ENDPOINTS": "true",
        "GERO_OBJECT_STORE_URL": settings.object_store,
        "GERO_RUN_CONCURRENCY": "4",
        "GERO_WORKER_TIMEOUT_SECONDS": "2",
    }
    process = subprocess.Popen([GERO, "worker"], env={**os.environ, **variables})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def stored(process: Process, run_id: object) -> dict[tuple[UUID, int], UUID]:
    """Return each stored result's id, by its candidate and row."""
    async with process.database.read() as session:
        rows = await session.execute(
            select(RunResult.candidate_id, RunResult.position, RunResult.id).where(
                RunResult.run_id == run_id
            )
        )
        return {(row[0], row[1]): row[2] for row in rows}


async def test_a_killed_worker_loses_and_repeats_nothing_that_was_stored(
    process: Process, settings: Settings, tenant: Tenant, client: httpx2.AsyncClient
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    for _ in range(2):
        await make_candidate(process, board)
    ctx = process.system_context(tenant.workspace_id)
    run = await start_run(ctx, board.id, NewRun())
    with worker_process(settings):
        while len(kept := await stored(process, run.id)) < 100:
            await asyncio.sleep(0.01)
    assert len(kept) < 576
    kept = await stored(process, run.id)
    with worker_process(settings):
        ended = await await_run(client, board.id, run.id)
    assert ended["status"] == "completed", ended["error"]
    after = await stored(process, run.id)
    assert len(after) == 576
    assert {place: after[place] for place in kept} == kept
    async with process.database.read() as session:
        calls = await session.execute(
            select(Trace.candidate_id, Trace.trace_metadata).where(Trace.run_id == run.id)
        )
        called = Counter((row[0], row[1]["position"]) for row in calls)
        attempts = await session.scalar(select(func.max(Job.attempts)))
    assert {called[place] for place in kept} == {1}
    assert attempts == 2


async def test_deaths_count_only_while_a_shard_does_not_come_on(
    process: Process, tenant: Tenant, peer: ModelPeer
) -> None:
    board, _ = await make_board(process, tenant, peer, "one")
    ctx = process.system_context(tenant.workspace_id)
    run = await start_run(ctx, board.id, NewRun())
    await prepare_run(ctx, run.id)
    async with process.database.write() as session:
        job = (await session.scalars(select(Job).where(Job.kind == RUN_SHARD))).first()
        assert job is not None
        job.attempts, job.status = 5, "running"
    positions = job.arguments["positions"]
    part = Job(id=new_id(), subject_id=run.id, arguments={"positions": positions[:4]}, attempts=1)
    await execute_shard(ctx, part)
    await execute_shard(ctx, job)
    async with process.database.read() as session:
        seen = await session.get_one(Job, job.id)
    assert (seen.attempts, seen.arguments["left"]) == (1, len(positions) - 4)
    assert set(peer.calls.values()) == {1}
