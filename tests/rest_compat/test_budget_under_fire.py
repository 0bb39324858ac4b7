"""Two hundred callers spend one budget while everything goes wrong: none too much, all of it."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from uuid import uuid4

import pytest
from sqlalchemy import select

from app.services import Process
from app.settings import Settings
from db.models import ApiToken
from resolvers.budgets import release_expired_holds
from tests.factories import Tenant
from tests.faulty_model import FaultyModel, faulty_model
from tests.inference_ground import (
    TOKEN,
    Callers,
    Question,
    Story,
    audit,
    end_holds,
    make_production,
    read_books,
    serving_api,
)

CALLERS = 200
LIMIT_USD = Decimal(1)
LEAST_USED_USD = Decimal("0.95")
# A call may cost a two hundred and fiftieth of the budget, and half of that as a rule.
PRICES = {"input_price_per_million_usd": Decimal(1), "output_price_per_million_usd": Decimal(80)}
KILLED_AT_USD = Decimal("0.4")
WITHIN_SECONDS = 60
REFUSED = 402


async def read_token(process: Process) -> ApiToken:
    async with process.database.read() as session:
        return (await session.scalars(select(ApiToken).where(ApiToken.name == TOKEN))).one()


@asynccontextmanager
async def watched(process: Process) -> AsyncIterator[None]:
    """Look at the budget again and again: what is used and held never passes its limit."""

    async def watch() -> None:
        while True:
            token = await read_token(process)
            assert token.budget_held_usd >= 0
            assert token.budget_used_usd + token.budget_held_usd <= LIMIT_USD
            await asyncio.sleep(0.01)

    watching = asyncio.create_task(watch())
    yield
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching


async def leave_half_way(callers: Callers, model: FaultyModel) -> None:
    """Ask, and hang up while the model has the question, however slow all of it is."""
    question, patience_seconds = Question("unasked"), 0.5
    model.open.clear()
    try:
        async with callers.session() as session:
            while not model.calls[question.text]:
                question, patience_seconds = Question(f"left-{uuid4()}"), 2 * patience_seconds
                assert not await callers.ask(session, question, patience_seconds)
    finally:
        model.open.set()


@pytest.mark.timeout(180)
async def test_callers_spend_all_of_a_budget_and_no_more_whatever_goes_wrong(
    settings: Settings, process: Process, tenant: Tenant, base_url: str
) -> None:
    rng = random.Random(1)
    story = Story()
    async with faulty_model(rng) as model, serving_api(settings) as (doomed_url, doomed):
        board, token = await make_production(
            process, tenant, model, limit_usd=str(LIMIT_USD), prices=PRICES
        )
        urls = [doomed_url]
        callers = Callers(urls, board, token, story, rng)
        await leave_half_way(callers, model)
        async with (
            watched(process),
            asyncio.timeout(WITHIN_SECONDS),
            asyncio.TaskGroup() as group,
        ):
            asking = [group.create_task(callers.ask_until(REFUSED)) for _ in range(CALLERS)]
            while (await read_token(process)).budget_used_usd < KILLED_AT_USD:
                await asyncio.sleep(0.01)
            doomed.kill()
            doomed.wait()
            assert not any(each.done() for each in asking)
            # All that is held is of the dead, and would be given back in some minutes.
            await end_holds(settings.database_url)
            assert await release_expired_holds(process.system_context()) > 0
            urls[:] = [base_url]
        # Nobody else holds anything any longer.
        await callers.ask_until(REFUSED)
    assert process.services.admission.count == 0
    books = await read_books(settings.database_url, board)
    assert audit(story, books).faults == []
    assert LEAST_USED_USD <= books.used_usd <= LIMIT_USD
    # And everything did go wrong.
    assert {0, 200, REFUSED, 502} <= story.statuses.keys()
    assert {status for _, status in books.traces.values()} == {"ok", "error", "cancelled"}
