"""Money that is held ahead is lent to nobody twice, is all given back, and keeps nobody out."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select, update

from app.services import Process
from app.settings import Settings
from db.models import ApiToken, BudgetHold, Candidate, Charge, Leaderboard
from db.writing import StatementWriter, array_literal
from resolvers.budget_leases import BUSY_CALLS, MOVE_SOME, SHARE
from resolvers.budgets import release_expired_holds
from resolvers.call_storage import EndedCall, store_calls
from resolvers.context import Context
from resolvers.errors import BudgetExceededError
from resolvers.lease_accounts import LENT_SECONDS, Account
from resolvers.reservations import RESERVE, Reservation
from resolvers.token_room import reserve
from tests.factories import Tenant, make_candidate, make_leaderboard, make_token, trace_of

LIMIT = Decimal(10)
MOST = Decimal("0.001")
SECONDS = 600.0
WITHIN_SECONDS = 10


@pytest.fixture
def setting_overrides() -> dict[str, Any]:
    return {"budget_wait_seconds": 3}


@dataclass
class Server:
    """A process that serves a token with a budget."""

    process: Process
    ctx: Context
    board: Leaderboard
    candidate: Candidate
    token_id: UUID

    async def hold(self, amount: Decimal = MOST) -> Reservation:
        into: list[Reservation] = []
        await reserve(self.ctx, amount, 0, into=into, seconds=SECONDS)
        (held,) = into
        return held

    def end(self, cost: Decimal, *held: Reservation) -> EndedCall:
        trace = trace_of(
            self.board, self.candidate, datetime.now(UTC), token_id=self.token_id, cost_usd=cost,
            cost_source="computed", price_version=1,
        )  # fmt: skip
        return EndedCall(trace, cost, held, 0)

    async def settle(self, held: Reservation, cost: Decimal) -> EndedCall:
        ended = self.end(cost, held)
        await (await self.process.services.calls.offer(ended))
        return ended

    async def call(self, cost: Decimal = MOST) -> Reservation:
        held = await self.hold()
        await self.settle(held, cost)
        return held

    async def read(self) -> tuple[Decimal, Decimal]:
        """Return what is used, moved or not, and held beside that."""
        held_in_all = func.coalesce(func.sum(BudgetHold.amount_usd), 0)
        spent = func.coalesce(func.sum(BudgetHold.spent_usd), 0)
        statement = select(
            ApiToken.budget_used_usd,
            ApiToken.budget_held_usd,
            select(held_in_all).scalar_subquery(),
            select(spent).scalar_subquery(),
        )
        async with self.process.database.read() as session:
            rows = await session.execute(statement.where(ApiToken.id == self.token_id))
        used_usd, held_usd, held_in_all_usd, spent_usd = rows.one()
        assert spent_usd <= held_usd == held_in_all_usd
        return used_usd + spent_usd, held_usd - spent_usd

    async def until_nothing_is_held(self) -> Decimal:
        """Return what is used then, which the charges say too."""
        async with asyncio.timeout(WITHIN_SECONDS):
            while (await self.read())[1]:
                await asyncio.sleep(0.05)
        async with self.process.database.read() as session:
            charged = await session.scalar(select(func.sum(Charge.amount_usd)))
        used, _ = await self.read()
        assert used == charged
        return used


@pytest.fixture
async def server(process: Process, tenant: Tenant) -> Server:
    board = await make_leaderboard(process, tenant.workspace_id)
    candidate = await make_candidate(process, board)
    token = await make_token(
        process, tenant.workspace_id, name="budgeted", budget_limit_usd=LIMIT,
        scopes=["leaderboards:inference"],
    )  # fmt: skip
    principal = await process.authenticator.authenticate(token, workspace=None)
    assert principal.token_id is not None
    ctx = Context(process.services, principal, "request")
    return Server(process, ctx, board, candidate, principal.token_id)


@pytest.fixture
async def other(server: Server, settings: Settings) -> AsyncIterator[Server]:
    process = Process(settings)
    ctx = Context(process.services, server.ctx.caller, "request")
    yield replace(server, process=process, ctx=ctx)
    await process.aclose()


async def until_lent(server: Server) -> Reservation:
    """Call until one is lent its money, and return what it was lent."""
    for _ in range(10 * BUSY_CALLS):
        held = await server.hold()
        if held.lease is not None:
            return held
        await server.settle(held, MOST)
        await asyncio.sleep(0)
    raise AssertionError("a busy token is lent nothing")


def lose_answers(
    monkeypatch: pytest.MonkeyPatch, is_lost: Callable[[str, Sequence[Any]], bool]
) -> list[str]:
    """Lose the answers of some statements, which are committed; return those that it has been."""
    lost: list[str] = []
    fetch = StatementWriter.fetch

    async def fetch_and_lose(self: StatementWriter, sql: str, values: Sequence[Any]) -> Any:
        rows = await fetch(self, sql, values)
        if is_lost(sql, values):
            lost.append(sql)
            raise ConnectionResetError
        return rows

    monkeypatch.setattr(StatementWriter, "fetch", fetch_and_lose)
    return lost


async def test_a_busy_token_asks_for_many_calls_at_once(server: Server) -> None:
    asked: list[int] = []
    server.process.services.reservations.watchers.append(lambda count, _: asked.append(count))
    for _ in range(20):
        await asyncio.gather(*(server.call() for _ in range(20)))
    assert sum(asked) < 400 / 4
    assert await server.until_nothing_is_held() == 400 * MOST


async def test_few_calls_are_lent_nothing(server: Server) -> None:
    for _ in range(BUSY_CALLS - 2):
        assert (await server.call()).lease is None
    assert await server.read() == ((BUSY_CALLS - 2) * MOST, Decimal(0))


async def test_a_token_that_was_busy_is_lent_to_soon_after_a_pause(server: Server) -> None:
    await server.settle(await until_lent(server), MOST)
    await server.until_nothing_is_held()
    await asyncio.sleep(2 * LENT_SECONDS)
    calls = [await server.call() for _ in range(BUSY_CALLS // 2)]
    assert calls[0].lease is None
    assert calls[-1].lease is not None


async def test_no_more_than_a_share_of_what_is_free_is_held_ahead(server: Server) -> None:
    lent = await until_lent(server)
    assert lent.lease is not None
    assert lent.lease.hold.amount_usd <= LIMIT / SHARE
    used, held = await server.read()
    assert MOST < held <= 2 * LIMIT / SHARE
    await server.settle(lent, MOST)
    assert await server.until_nothing_is_held() == used + MOST


async def test_who_needs_all_that_is_free_has_what_was_held_ahead(server: Server) -> None:
    lent = await until_lent(server)
    await server.settle(lent, MOST)
    used, held = await server.read()
    assert held > 0
    rest = await server.hold(LIMIT - used)
    await server.settle(rest, LIMIT - used)
    assert await server.until_nothing_is_held() == LIMIT


@pytest.mark.parametrize("seed", range(4))
async def test_servers_spend_all_of_a_budget_and_no_more(
    server: Server, other: Server, seed: int
) -> None:
    rng = random.Random(seed)
    limit = Decimal("1.5")
    async with server.process.database.write() as session:
        await session.execute(update(ApiToken).values(budget_limit_usd=limit))

    async def work(where: Server) -> None:
        while True:
            try:
                held = await where.hold()
            except BudgetExceededError:
                return
            await asyncio.sleep(rng.random() / 1000)
            await where.settle(held, rng.choice([MOST, MOST, MOST / 2]))

    async def watch() -> None:
        while True:
            used, held = await server.read()
            assert used + held <= limit
            await asyncio.sleep(0.005)

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(work(where) for where in (server, other) for _ in range(20)))
    assert not watching.done()
    watching.cancel()
    used = await server.until_nothing_is_held()
    assert limit * Decimal("0.95") <= used <= limit


async def test_of_a_dead_server_what_is_spent_is_charged_and_the_rest_comes_back(
    server: Server, other: Server
) -> None:
    lent = await until_lent(other)
    assert (await other.call()).lease is not None
    used, held = await server.read()
    assert held > MOST
    async with server.process.database.write() as session:
        await session.execute(update(BudgetHold).values(expires_at=datetime.now(UTC)))
    assert await release_expired_holds(server.process.system_context()) >= 1
    assert await server.read() == (used, Decimal(0))
    await other.settle(lent, MOST)  # it was only frozen
    assert await server.read() == (used + MOST, Decimal(0))
    await other.process.services.leases.aclose()
    assert await server.until_nothing_is_held() == used + MOST


async def test_calls_that_are_lent_do_not_wait_for_who_has_the_token(server: Server) -> None:
    lent = await until_lent(server)
    async with server.process.database.write() as session:
        token = select(ApiToken.id).where(ApiToken.id == server.token_id)
        await session.execute(token.with_for_update())
        async with asyncio.timeout(WITHIN_SECONDS):
            await server.settle(lent, MOST)


async def test_what_a_call_costs_beyond_its_share_is_used_at_once(server: Server) -> None:
    lent = await until_lent(server)
    used, held = await server.read()
    await server.settle(lent, 3 * MOST)
    used_now, held_now = await server.read()
    assert used_now == used + 3 * MOST
    assert held_now <= held
    async with server.process.database.read() as session:
        spent = await session.scalar(select(func.coalesce(func.sum(BudgetHold.spent_usd), 0)))
    assert spent == 0
    assert await server.until_nothing_is_held() == used + 3 * MOST


async def test_what_is_spent_moves_while_a_long_call_is_under_way(server: Server) -> None:
    long = await until_lent(server)
    short = await server.hold()
    assert short.lease is long.lease
    await asyncio.sleep(LENT_SECONDS)
    await server.settle(short, MOST / 2)
    charged, _ = await server.read()
    async with asyncio.timeout(WITHIN_SECONDS), server.process.database.read() as session:
        token = select(ApiToken.budget_used_usd, ApiToken.budget_held_usd).where(
            ApiToken.id == server.token_id
        )
        while (await session.execute(token)).one() != (charged, MOST):
            await session.rollback()
            await asyncio.sleep(0.05)
    await server.settle(long, MOST)
    assert await server.until_nothing_is_held() == charged + MOST


async def test_nothing_moves_twice_when_it_is_not_known_whether_it_did(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = lose_answers(monkeypatch, lambda sql, _: sql == MOVE_SOME)
    long, short = await until_lent(server), await server.hold()
    await asyncio.sleep(LENT_SECONDS)
    await server.settle(short, MOST / 2)
    used, _ = await server.read()
    async with asyncio.timeout(WITHIN_SECONDS):
        while not lost:
            await asyncio.sleep(0.05)
    await server.settle(long, MOST)
    assert await server.until_nothing_is_held() == used + MOST
    assert len(lost) == 1


async def test_a_lease_whose_answer_is_lost_is_not_held_for_long(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = array_literal([MOST])
    lost = lose_answers(monkeypatch, lambda sql, values: sql == RESERVE and values[7] != own)
    count = 0
    while not lost:
        await server.call()
        count += 1
    assert await server.until_nothing_is_held() == count * MOST


async def test_a_lease_has_one_mover_however_long_a_move_takes(server: Server) -> None:
    long, short, large = await until_lent(server), await server.hold(), await server.hold(LIMIT / 2)
    assert short.lease is long.lease
    await server.settle(short, MOST / 2)
    used, _ = await server.read()
    async with server.process.database.write() as session:
        row = select(BudgetHold.id).where(BudgetHold.id == long.id)
        await session.execute(row.with_for_update())
        server.process.services.leases.close(server.token_id)  # as for want of room
        await asyncio.sleep(3 * LENT_SECONDS)
    await asyncio.sleep(2 * LENT_SECONDS)
    assert await server.read() == (used, MOST + LIMIT / 2)
    await server.settle(large, MOST)
    await server.settle(long, MOST)
    assert await server.until_nothing_is_held() == used + 2 * MOST


@pytest.mark.parametrize("together", [1, 2])
async def test_a_call_that_was_lent_gives_back_what_it_held_besides(
    server: Server, together: int
) -> None:
    calls = []
    for _ in range(together):
        lent = await until_lent(server)
        into = [lent]
        await reserve(server.ctx, 5 * MOST, 0, into=into, seconds=SECONDS)  # for who stands in
        calls.append(server.end(MOST / 2, *into))
    used, _ = await server.read()
    await store_calls(server.process.writers[0], server.process.services.traces, calls)
    assert await server.until_nothing_is_held() == used + together * MOST / 2


async def test_a_budget_that_is_taken_away_leaves_nothing_held(server: Server) -> None:
    lent = await until_lent(server)
    used, _ = await server.read()
    async with server.process.database.write() as session:
        await session.execute(update(ApiToken).values(budget_limit_usd=None))
    for _ in range(4 * BUSY_CALLS):
        await server.call()
    await server.settle(lent, MOST)
    assert await server.until_nothing_is_held() == used + (4 * BUSY_CALLS + 1) * MOST


def test_what_is_heard_late_is_of_its_window() -> None:
    account = Account()
    today, tomorrow = datetime(2026, 11, 27, tzinfo=UTC), datetime(2026, 11, 28, tzinfo=UTC)
    account.hear(LIMIT, Decimal(9), today)
    account.hear(LIMIT, Decimal(8), today)
    assert account.used_usd == 9
    account.hear(LIMIT, Decimal(1), tomorrow)
    account.hear(LIMIT, Decimal(9), today)
    assert account.used_usd == 1


async def test_callers_are_told_what_is_used(server: Server) -> None:
    await server.settle(await until_lent(server), MOST)
    used, _ = await server.read()
    for count in range(1, 10):
        held = await server.hold()
        assert held.lease is not None
        ended = await server.settle(held, MOST)
        assert ended.budget is not None
        assert ended.budget.used_usd == used + count * MOST


async def test_a_call_that_is_stored_again_gives_nothing_back_twice(server: Server) -> None:
    lent = await until_lent(server)
    used, held = await server.read()
    trace = server.end(MOST, lent).trace
    for _ in range(3):
        ended = EndedCall(trace, MOST, [lent], 0)
        await (await server.process.services.calls.offer(ended))
        assert await server.read() == (used + MOST, held - MOST)
    assert await server.until_nothing_is_held() == used + MOST


async def test_a_server_that_stops_stores_the_calls_that_have_ended(
    server: Server, settings: Settings
) -> None:
    process = Process(settings)
    stopping = replace(
        server, process=process, ctx=Context(process.services, server.ctx.caller, "")
    )
    lent = [await until_lent(stopping), *[await stopping.hold() for _ in range(3)]]
    used, _ = await server.read()
    under_way, *ended = lent
    stored = []
    for held in ended:
        process.services.admission.enter()
        stored.append(await process.services.calls.offer(stopping.end(MOST, held)))
    assert not any(each.done() for each in stored)
    await process.aclose()
    assert under_way.lease is not None
    assert await server.read() == (used + 3 * MOST, MOST)  # of the one that nobody ended


async def test_a_server_that_stops_gives_back_what_it_held_ahead(
    server: Server, other: Server
) -> None:
    lent = await until_lent(other)
    await other.settle(lent, MOST)
    assert (await server.read())[1] > 0
    await other.process.services.leases.aclose()
    assert (await server.read())[1] == 0
