"""Whatever is killed while production answers, each answer that was seen is stored and charged.

PostgreSQL runs on a disk with the settings that the product starts it with.
"""

import asyncio
import os
import random
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app.services import Process
from app.settings import Settings
from resolvers.budgets import release_expired_holds
from tests import durable_server
from tests.database_proxy import database_proxy
from tests.durable_server import DurableServer
from tests.factories import Tenant
from tests.faulty_model import faulty_model
from tests.inference_ground import (
    Callers,
    Question,
    Story,
    audit,
    end_holds,
    make_production,
    read_books,
    serving_api,
)

# The same moments each time in CI, and others with INFERENCE_CRASH_SEED.
SEED = int(os.environ.get("INFERENCE_CRASH_SEED", "1"))
ROUNDS = int(os.environ.get("INFERENCE_CRASHES", "1"))
CALLERS = 24
ANSWERS_BEFORE_A_KILL = (10, 100)
# A kill follows its moment by up to so long, to fall into statements and commits too.
LATEST_KILL_SECONDS = 0.02
WAIT_SECONDS = 90  # servers start several times, and the machine may be busy
WRITER = "gero writer"

pytestmark = pytest.mark.timeout(120 + 30 * ROUNDS)
durable = durable_server.durable
database_url = durable_server.database_url


@pytest.fixture
def setting_overrides() -> dict[str, Any]:
    return {"idempotency_claim_seconds": 1}


@asynccontextmanager
async def asking(callers: Callers) -> AsyncIterator[None]:
    """Have many ask while the block runs, and then until each has an answer or none."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for _ in range(CALLERS):
            group.create_task(callers.keep_asking(stop))
        yield
        stop.set()


async def await_answers(story: Story, count: int) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while len(story.acknowledged) < count:
            await asyncio.sleep(0.001)


class Dying:
    """An API and a PostgreSQL, of which either or both are killed while they are asked."""

    def __init__(self, durable: DurableServer, story: Story, rng: random.Random) -> None:
        self._durable = durable
        self._story = story
        self._rng = rng

    async def await_moment(self) -> None:
        """Wait until some more questions are answered, and a little longer."""
        more = self._rng.randint(*ANSWERS_BEFORE_A_KILL)
        await await_answers(self._story, len(self._story.acknowledged) + more)
        # To fall into statements and commits too.
        await asyncio.sleep(self._rng.uniform(0, LATEST_KILL_SECONDS))

    async def kill_postgresql(self) -> None:
        """Kill PostgreSQL alone: the API lives, and stores what it holds later."""
        await self.await_moment()
        self._durable.kill()
        await self._durable.start_again()
        await await_answers(self._story, len(self._story.acknowledged) + CALLERS)

    async def kill_api(self, api: "subprocess.Popen[bytes]", *, with_postgresql: bool) -> None:
        """Kill the API, and PostgreSQL in the same moment."""
        await self.await_moment()
        kills = [api.kill, self._durable.kill] if with_postgresql else [api.kill]
        self._rng.shuffle(kills)
        for kill in kills:
            kill()
        if with_postgresql:
            await self._durable.start_again()


async def test_every_answer_that_was_seen_has_its_trace_and_its_charge_after_any_kill(
    durable: DurableServer, settings: Settings, process: Process, tenant: Tenant
) -> None:
    rng = random.Random(SEED)
    story = Story()
    dying = Dying(durable, story, rng)
    async with faulty_model(rng) as model:
        board, token = await make_production(process, tenant, model, limit_usd="1000")
        for number in range(ROUNDS):
            async with serving_api(settings) as (url, api):
                callers = Callers([url], board, token, story, rng, patience_seconds=WAIT_SECONDS)
                async with asking(callers):
                    await dying.kill_postgresql()
                    await dying.kill_api(api, with_postgresql=number % 2 == 0)
        async with serving_api(settings) as (url, _):
            callers = Callers([url], board, token, story, rng)
            await callers.settle_unanswered()
    await end_holds(settings.database_url)
    await release_expired_holds(process.system_context())
    books = await read_books(settings.database_url, board)
    assert audit(story, books).faults == []
    assert len(story.acknowledged) > 2 * ROUNDS * ANSWERS_BEFORE_A_KILL[0]
    assert story.with_keys & story.acknowledged.keys()


async def test_a_call_whose_server_dies_before_it_is_stored_is_made_and_paid_once_more(
    durable: DurableServer, settings: Settings, process: Process, tenant: Tenant
) -> None:
    """The model has answered, and the commit is on its way; the repeat finds nothing of it."""
    rng = random.Random(SEED)
    story = Story()
    question = Question("question", key="once")
    async with (
        faulty_model(rng, {}) as model,
        database_proxy(settings.database_url) as proxy,
    ):
        board, token = await make_production(process, tenant, model, limit_usd="1000")
        cut_off = settings.model_copy(update={"database_url": proxy.url})
        async with serving_api(cut_off) as (url, api):
            callers = Callers([url], board, token, story, rng)
            async with callers.session() as session:
                model.open.clear()
                asking_once = asyncio.create_task(callers.ask(session, question, WAIT_SECONDS))
                async with asyncio.timeout(WAIT_SECONDS):
                    while not model.calls["question"]:
                        await asyncio.sleep(0.01)
                proxy.freeze(WRITER)
                model.open.set()
                async with asyncio.timeout(WAIT_SECONDS):
                    while not model.answered["question"]:
                        await asyncio.sleep(0.01)
                await asyncio.sleep(0.2)
                api.kill()
                assert not await asking_once
        assert (await read_books(settings.database_url, board)).hold_count == 1
        async with serving_api(settings) as (url, _):
            callers = Callers([url], board, token, story, rng)
            async with callers.session() as session:
                assert await callers.ask(session, question, WAIT_SECONDS)
    await end_holds(settings.database_url)
    assert await release_expired_holds(process.system_context()) == 1
    books = await read_books(settings.database_url, board)
    assert audit(story, books).faults == []
    assert (model.calls["question"], len(books.traces)) == (2, 1)
