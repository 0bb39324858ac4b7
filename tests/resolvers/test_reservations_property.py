"""Money is held and settled as a simple ledger would, in any order and by many at once."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from sqlalchemy import func, select, update

from app.services import Process
from app.settings import Settings
from db.base import new_id
from db.models import ApiToken, BudgetHold, Candidate, Charge, Leaderboard
from db.writing import StatementWriter
from resolvers.budgets import budget_of, release_expired_holds
from resolvers.call_storage import EndedCall, store_calls
from resolvers.reservations import Reservation, store_reservations
from tests.conftest import ON_OLDEST_TOO
from tests.factories import Tenant, make_candidate, make_leaderboard, make_token, trace_of

SEEDS = range(4)
STEPS = 60
WRITERS = 4
MOST_AT_ONCE = 6
ZERO = Decimal(0)
LIMIT = Decimal(1)
LONG_AGO = timedelta(days=32)


@dataclass
class Held:
    """A hold of the ledger's, and whether the sweep has had it."""

    reservation: Reservation
    is_swept: bool = False

    @property
    def token_id(self) -> UUID:
        return self.reservation.token_id


@dataclass
class Ledger:
    """What the tokens' rows must say, kept the plain way."""

    used: dict[UUID, Decimal]
    open: list[Held] = field(default_factory=list)
    settled: list[EndedCall] = field(default_factory=list)

    def held(self, token_id: UUID) -> Decimal:
        mine = (each for each in self.open if each.token_id == token_id and not each.is_swept)
        return sum((each.reservation.amount_usd for each in mine), ZERO)

    def reserve(self, asked: Reservation) -> bool:
        token_id = asked.token_id
        if asked.amount_usd > LIMIT - self.used[token_id] - self.held(token_id):
            return False
        self.open.append(Held(asked))
        return True


@dataclass
class Scene:
    process: Process
    board: Leaderboard
    candidate: Candidate
    tokens: list[UUID]
    writers: list[StatementWriter]

    def ask(self, rng: random.Random) -> Reservation:
        # One in eight is of a server that will die before it settles.
        seconds = -1 if rng.random() < 1 / 8 else 600
        return Reservation(
            new_id(), rng.choice(self.tokens), Decimal(rng.randint(0, 300)) / 1000, 1, 0, "monthly",
            datetime.now(UTC) + timedelta(seconds=seconds),
        )  # fmt: skip

    def end(self, held: Reservation, cost: Decimal) -> EndedCall:
        trace = trace_of(
            self.board, self.candidate, datetime.now(UTC), token_id=held.token_id, cost_usd=cost,
            cost_source="computed", price_version=1,
        )  # fmt: skip
        return EndedCall(trace, cost, [held], 0)

    async def settle(self, writer: StatementWriter, calls: list[EndedCall]) -> None:
        await store_calls(writer, self.process.services.traces, calls)

    async def begin_window(self) -> None:
        """Have the windows of all tokens be of long ago, so that the next call begins new ones."""
        async with self.process.database.write() as session:
            began = datetime.now(UTC) - LONG_AGO
            await session.execute(update(ApiToken).values(budget_window_started_at=began))

    async def read(self) -> dict[UUID, tuple[Decimal, Decimal]]:
        """Return what is used in this window and held, by token."""
        now = datetime.now(UTC)
        async with self.process.database.read() as session:
            rows = await session.scalars(select(ApiToken).where(ApiToken.id.in_(self.tokens)))
            return {row.id: (budget_of(row, now).used_usd, row.budget_held_usd) for row in rows}


@pytest.fixture
async def scene(process: Process, tenant: Tenant, settings: Settings) -> AsyncIterator[Scene]:
    board = await make_leaderboard(process, tenant.workspace_id)
    candidate = await make_candidate(process, board)
    for number in range(3):
        await make_token(
            process, tenant.workspace_id, name=f"budgeted-{number}", budget_limit_usd=LIMIT,
            budget_reset_interval="monthly",
        )  # fmt: skip
    async with process.database.read() as session:
        named = select(ApiToken.id).where(ApiToken.name.like("budgeted-%"))
        tokens = list(await session.scalars(named))
    writers = [
        StatementWriter(settings.database_url, answer_timeout_seconds=30) for _ in range(WRITERS)
    ]
    yield Scene(process, board, candidate, tokens, writers)
    for writer in writers:
        await writer.aclose()


async def reserve_some(scene: Scene, ledger: Ledger, rng: random.Random) -> None:
    asked = [scene.ask(rng) for _ in range(rng.randint(1, MOST_AT_ONCE))]
    fits = [ledger.reserve(each) for each in asked]
    await store_reservations(rng.choice(scene.writers), asked)
    assert [each.refused is None for each in asked] == fits
    assert {each.refused for each in asked} <= {None, "budget"}


async def settle_some(scene: Scene, ledger: Ledger, rng: random.Random) -> None:
    count = min(len(ledger.open), rng.randint(1, MOST_AT_ONCE))
    chosen = rng.sample(ledger.open, count)
    calls = []
    for held in chosen:
        cost = held.reservation.amount_usd * Decimal(rng.randint(0, 4)) / 4
        calls.append(scene.end(held.reservation, cost))
        ledger.open.remove(held)
        ledger.used[held.token_id] += cost
    again = rng.sample(ledger.settled, min(len(ledger.settled), 2))  # whose commit nobody heard of
    ledger.settled += calls
    await scene.settle(rng.choice(scene.writers), calls + again)


async def sweep(scene: Scene, ledger: Ledger, _rng: random.Random) -> None:
    dead = [each for each in ledger.open if not each.is_swept]
    dead = [each for each in dead if each.reservation.expires_at < datetime.now(UTC)]
    for each in dead:
        each.is_swept = True
    given_back = await release_expired_holds(scene.process.system_context())
    assert given_back == sum(each.reservation.amount_usd > 0 for each in dead)


async def roll_over(scene: Scene, ledger: Ledger, rng: random.Random) -> None:
    await scene.begin_window()
    for token_id in scene.tokens:
        ledger.used[token_id] = ZERO
    # Whoever comes first begins the new window, be it a call that begins or one that ends.
    begin = [reserve_some, settle_some]
    rng.shuffle(begin)
    for act in begin:
        await act(scene, ledger, rng)


@ON_OLDEST_TOO
@pytest.mark.parametrize("seed", SEEDS)
async def test_holds_and_charges_are_those_of_a_simple_ledger(scene: Scene, seed: int) -> None:
    rng = random.Random(seed)
    ledger = Ledger(dict.fromkeys(scene.tokens, ZERO))
    acts = [reserve_some, settle_some, sweep, roll_over]
    for _ in range(STEPS):
        (act,) = rng.choices(acts, [8, 6, 2, 1])
        await act(scene, ledger, rng)
        assert await scene.read() == {
            token_id: (ledger.used[token_id], ledger.held(token_id)) for token_id in scene.tokens
        }
    while ledger.open:
        await settle_some(scene, ledger, rng)
    assert {held for _, held in (await scene.read()).values()} == {ZERO}


async def test_writers_that_interleave_neither_overspend_nor_lose_anything(scene: Scene) -> None:
    """Each writer stands for a server: they share tokens, and settle what others hold too."""
    held: list[Reservation] = []
    charged: list[EndedCall] = []
    refusals = 0

    async def work(writer: StatementWriter, rng: random.Random) -> None:
        nonlocal refusals
        for _ in range(STEPS):
            asked = [scene.ask(rng) for _ in range(rng.randint(1, MOST_AT_ONCE))]
            await store_reservations(writer, asked)
            alive = (each for each in asked if each.expires_at > datetime.now(UTC))
            held.extend(each for each in alive if each.refused is None)
            refusals += sum(each.refused is not None for each in asked)
            rng.shuffle(held)
            mine, held[:] = held[: MOST_AT_ONCE // 2], held[MOST_AT_ONCE // 2 :]
            calls = [
                scene.end(each, each.amount_usd * Decimal(rng.randint(0, 4)) / 40) for each in mine
            ]
            charged.extend(calls)
            again = rng.sample(charged, min(len(charged), 2))
            await scene.settle(writer, [*calls, *(each for each in again if each not in calls)])

    async def look() -> None:
        while True:
            for used, holds in (await scene.read()).values():
                assert holds >= ZERO
                assert used + holds <= LIMIT
            await asyncio.sleep(0)

    async def sweep_often() -> None:
        while True:
            await release_expired_holds(scene.process.system_context())
            await asyncio.sleep(0.005)

    watching = [asyncio.create_task(look()), asyncio.create_task(sweep_often())]
    workers = [work(writer, random.Random(number)) for number, writer in enumerate(scene.writers)]
    await asyncio.gather(*workers)
    for each in watching:
        assert not each.done()
        each.cancel()
    await asyncio.gather(*watching, return_exceptions=True)
    rest = [scene.end(each, ZERO) for each in held]
    await scene.settle(scene.writers[0], rest)
    await release_expired_holds(scene.process.system_context())
    assert refusals > 0
    async with scene.process.database.read() as session:
        sums = await session.execute(
            select(Charge.token_id, func.sum(Charge.amount_usd)).group_by(Charge.token_id)
        )
        spent = {row.token_id: row[1] for row in sums}
        assert await session.scalar(select(func.count()).select_from(BudgetHold)) == 0
        assert await session.scalar(select(func.count()).select_from(Charge)) == len(charged + rest)
    for token_id, (used, holds) in (await scene.read()).items():
        assert (used, holds) == (spent[token_id], ZERO)
