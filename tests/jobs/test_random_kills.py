"""Workers are killed at random moments: nothing is lost, and no call repeated that was stored."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator

import pytest
from sqlalchemy import text

from app.services import Process
from app.settings import Settings
from tests.jobs.kills import (
    OWNER,
    Case,
    Ground,
    Moment,
    Provider,
    Workers,
    find_faults,
    serve_provider,
)

KILLS = 2
# With it first both workers are killed, and then one of them.
KILL_SEED = 1
FAIR, QUICK = "sandbox/balanced-medium", "sandbox/quick-small"
# The engine hands a worker 8 shards of 50 rows at most: one is left for somebody else.
SHARED = Case("shared", (QUICK,), 9 * 50)
CEILING = Case("ceiling", (FAIR, QUICK), 50, run={"max_cost_usd": "0.5"})
JUDGED = Case(
    "judged", (FAIR, QUICK), 25, board={"eval_type": "judge", "judge_model": "sandbox/fair-judge"}
)
TAKERS = text("SELECT count(DISTINCT queue_manager_id) FROM pgqueuer WHERE status = 'picked'")


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with serve_provider(latency_scale=0.5) as served:
        yield served


@pytest.fixture
def sandbox_url(provider: Provider) -> str:
    return provider.address(OWNER)


@pytest.fixture
def ground(process: Process, settings: Settings, provider: Provider) -> Iterator[Ground]:
    with Workers(settings, provider) as workers:
        yield Ground(process, provider, workers)


async def await_takers(process: Process, count: int) -> None:
    """Wait until so many workers have taken jobs that are not done."""
    async with asyncio.timeout(60):
        while True:
            async with process.database.read() as session:
                if await session.scalar(TAKERS) == count:
                    return
            await asyncio.sleep(0.02)


async def test_two_workers_share_a_runs_work(ground: Ground) -> None:
    ground.provider.open.clear()
    going_on = asyncio.create_task(ground.carry_out([SHARED]))
    await await_takers(ground.process, 2)
    ground.provider.open.set()
    (found,) = await going_on
    assert found.outcome.status == "completed", found.outcome.error
    callers = [call.caller for call in found.story.calls]
    assert set(callers) == {"worker-1", "worker-2"}
    assert len(callers) == len(found.outcome.results) == SHARED.rows
    assert not found.story.repeats


async def test_runs_whose_workers_are_killed_end_as_if_nobody_had_been(ground: Ground) -> None:
    cases = [CEILING, JUDGED]
    undisturbed = await ground.carry_out(cases)
    assert [len(each.outcome.results) for each in undisturbed] == [2 * 50, 2 * 25]
    call_count = sum(len(each.story.calls) for each in undisturbed)
    rng = random.Random(KILL_SEED)
    moments = [Moment(count) for count in sorted(rng.sample(range(call_count), KILLS))]
    disturbed = await ground.carry_out(cases, moments, seed=KILL_SEED)
    assert any(kill.kept for each in disturbed for kill in each.story.kills)
    for found, expected in zip(disturbed, undisturbed, strict=True):
        assert find_faults(found, expected) == []
