"""A shadow's budget: no call begins without room in it, whatever is under way and whoever dies."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import update

from app.services import Process
from db.base import new_id
from db.models import Leaderboard, Shadow, ShadowHold
from resolvers.candidates import remove_candidate
from resolvers.errors import ConflictError, InvalidInputError, NotFoundError
from resolvers.inputs import LeaderboardChanges, NewShadow
from resolvers.leaderboards import delete_leaderboard, update_leaderboard
from resolvers.rollout_plan import ShadowPlan, load_plans
from resolvers.rollout_sweep import end_shadows
from resolvers.shadow_budget import hold_shadow, settle_shadow
from resolvers.shadows import start_shadow, stop_shadow
from tests.factories import (
    Tenant,
    make_candidate,
    make_leaderboard,
    make_ranked_run,
    make_tenant,
)

PRICES: Any = {"input_price_per_million_usd": 1, "output_price_per_million_usd": 1}


async def make_shadow(
    process: Process, tenant: Tenant, *, budget_usd: str = "1", ends_at: datetime | None = None
) -> Shadow:
    board = await make_leaderboard(process, tenant.workspace_id)
    candidates = [await make_candidate(process, board, **PRICES) for _ in range(2)]
    await make_ranked_run(process, board, candidates)
    new = NewShadow(
        challenger_id=candidates[1].id, share=0.5, budget_usd=Decimal(budget_usd), ends_at=ends_at
    )
    ctx = process.system_context(tenant.workspace_id)
    return await start_shadow(ctx, board.id, new)


async def hold(process: Process, shadow: Shadow, amount: str, seconds: int = 60) -> UUID | None:
    async with process.database.write() as session:
        return await hold_shadow(session, shadow.id, Decimal(amount), seconds=seconds)


async def settle(
    process: Process, held: UUID | None, cost: str | None, *, is_error: bool = False
) -> None:
    assert held is not None
    async with process.database.write() as session:
        cost_usd = None if cost is None else Decimal(cost)
        await settle_shadow(session, held, cost_usd, is_error=is_error)


async def read_shadow(process: Process, shadow: Shadow) -> Shadow:
    async with process.database.read() as session:
        return await session.get_one(Shadow, shadow.id)


def amounts(shadow: Shadow) -> tuple[str, Decimal, Decimal]:
    return shadow.status, shadow.spent_usd, shadow.held_usd


async def test_calls_at_once_never_hold_more_than_the_budget(
    process: Process, tenant: Tenant
) -> None:
    shadow = await make_shadow(process, tenant, budget_usd="1")
    held = await asyncio.gather(*(hold(process, shadow, "0.3") for _ in range(12)))
    assert sum(each is not None for each in held) == 3
    # What is under way may give something back: it goes on.
    assert amounts(await read_shadow(process, shadow)) == ("running", Decimal(0), Decimal("0.9"))


async def test_a_call_is_charged_what_it_cost_and_an_unknown_cost_is_its_hold(
    process: Process, tenant: Tenant
) -> None:
    shadow = await make_shadow(process, tenant)
    await settle(process, await hold(process, shadow, "0.3"), "0.1")
    await settle(process, await hold(process, shadow, "0.2"), None, is_error=True)
    now = await read_shadow(process, shadow)
    assert amounts(now) == ("running", Decimal("0.3"), Decimal(0))
    assert (now.call_count, now.error_count) == (2, 1)


async def test_one_large_request_is_left_out_and_the_others_go_on(
    process: Process, tenant: Tenant
) -> None:
    shadow = await make_shadow(process, tenant)
    assert await hold(process, shadow, "1.01") is None
    assert amounts(await read_shadow(process, shadow)) == ("running", Decimal(0), Decimal(0))
    await settle(process, await hold(process, shadow, "0.3"), "0.2")
    assert await hold(process, shadow, "0.9") is None
    assert amounts(await read_shadow(process, shadow)) == ("running", Decimal("0.2"), Decimal(0))


async def test_it_ends_once_no_call_of_a_size_that_it_has_made_has_room(
    process: Process, tenant: Tenant
) -> None:
    shadow = await make_shadow(process, tenant)
    await settle(process, await hold(process, shadow, "0.3"), "0.01")
    await settle(process, await hold(process, shadow, "0.6"), "0.6")
    assert (await read_shadow(process, shadow)).status == "running"  # 0.39 USD are left
    await settle(process, await hold(process, shadow, "0.35"), "0.1")
    now = await read_shadow(process, shadow)
    assert amounts(now) == ("exhausted", Decimal("0.71"), Decimal(0))
    assert (now.reason, now.finished_at is None) == ("its budget is used up", False)
    assert await hold(process, shadow, "0.01") is None


async def test_a_call_that_costs_more_than_was_held_is_charged_in_full_and_may_end_it(
    process: Process, tenant: Tenant
) -> None:
    shadow = await make_shadow(process, tenant)
    under_way = await hold(process, shadow, "0.2")
    await settle(process, await hold(process, shadow, "0.1"), "1.5")
    assert amounts(await read_shadow(process, shadow)) == (
        "exhausted", Decimal("1.5"), Decimal("0.2"),
    )  # fmt: skip
    await settle(process, under_way, "0.1")
    assert amounts(await read_shadow(process, shadow)) == (
        "exhausted", Decimal("1.6"), Decimal(0),
    )  # fmt: skip


async def test_the_holds_of_a_server_that_dies_may_end_it(process: Process, tenant: Tenant) -> None:
    shadow = await make_shadow(process, tenant)
    await hold(process, shadow, "0.6", seconds=-1)
    await end_shadows(process.system_context())
    now = await read_shadow(process, shadow)
    assert (now.status, now.reason) == ("exhausted", "its budget is used up")


async def test_a_server_that_dies_has_its_holds_charged_once(
    process: Process, tenant: Tenant
) -> None:
    shadow = await make_shadow(process, tenant)
    late = await hold(process, shadow, "0.2", seconds=-1)
    await hold(process, shadow, "0.1", seconds=-1)
    await hold(process, shadow, "0.4")
    await asyncio.gather(*(end_shadows(process.system_context()) for _ in range(2)))
    assert amounts(await read_shadow(process, shadow)) == (
        "running", Decimal("0.3"), Decimal("0.4"),
    )  # fmt: skip
    await settle(process, late, "0.05")  # which outlived its hold
    assert (await read_shadow(process, shadow)).spent_usd == Decimal("0.3")


async def test_calls_under_way_are_settled_after_its_end(process: Process, tenant: Tenant) -> None:
    shadow = await make_shadow(process, tenant)
    held = await hold(process, shadow, "0.3")
    ctx = process.system_context(tenant.workspace_id)
    stopped = await stop_shadow(ctx, shadow.id)
    assert (stopped.status, stopped.reason) == ("stopped", "somebody stopped it")
    assert await hold(process, shadow, "0.1") is None
    await settle(process, held, "0.2")
    assert amounts(await read_shadow(process, shadow)) == ("stopped", Decimal("0.2"), Decimal(0))
    with pytest.raises(ConflictError, match="is stopped: somebody stopped it"):
        await stop_shadow(ctx, shadow.id)


async def test_its_time_ends_it(process: Process, tenant: Tenant) -> None:
    ends_at = datetime.now(UTC) + timedelta(hours=1)
    shadow = await make_shadow(process, tenant, ends_at=ends_at)
    async with process.database.read() as session:
        _, plan = await load_plans(session, shadow.leaderboard_id)
    assert plan == ShadowPlan(shadow.id, shadow.challenger_id, 0.5, ends_at)
    ids = [new_id() for _ in range(200)]
    assert {plan.samples(each, datetime.now(UTC)) for each in ids} == {True, False}
    assert {plan.samples(each, ends_at) for each in ids} == {False}
    async with process.database.write() as session:
        past = datetime.now(UTC) - timedelta(seconds=1)
        await session.execute(update(Shadow).values(ends_at=past))
    assert await hold(process, shadow, "0.1") is None
    await end_shadows(process.system_context())
    assert (await read_shadow(process, shadow)).status == "ended"


async def test_another_one_takes_its_place_and_a_challenger_that_leaves_ends_it(
    process: Process, tenant: Tenant
) -> None:
    first = await make_shadow(process, tenant)
    ctx = process.system_context(tenant.workspace_id)
    new = NewShadow(challenger_id=first.challenger_id, budget_usd=Decimal(1))
    second = await start_shadow(ctx, first.leaderboard_id, new)
    assert (await read_shadow(process, first)).reason == f"shadow {second.id} took its place"
    await remove_candidate(ctx, first.leaderboard_id, first.challenger_id)
    assert (await read_shadow(process, second)).reason == "the model has left the leaderboard"


async def test_a_shadow_ends_with_its_leaderboard(process: Process, tenant: Tenant) -> None:
    shadow = await make_shadow(process, tenant)
    await delete_leaderboard(process.system_context(tenant.workspace_id), shadow.leaderboard_id)
    await end_shadows(process.system_context())
    async with process.database.read() as session:
        ended = await session.get_one(Shadow, shadow.id)
    assert (ended.status, ended.reason) == ("stopped", "the leaderboard was deleted")


async def test_a_challenger_that_goes_into_production_ends_it(
    process: Process, tenant: Tenant
) -> None:
    shadow = await make_shadow(process, tenant)
    ctx = process.system_context(tenant.workspace_id)
    async with process.database.read() as session:
        board = await session.get_one(Leaderboard, shadow.leaderboard_id)

    async def pin(candidate_id: UUID | None) -> Shadow:
        changes = LeaderboardChanges(
            model_selection="manual", selected_leaderboard_model_id=candidate_id
        )
        await update_leaderboard(ctx, board.id, changes)
        return await read_shadow(process, shadow)

    another = await make_candidate(process, board)
    assert (await pin(another.id)).status == "running"
    ended = await pin(shadow.challenger_id)
    assert (ended.status, ended.reason) == ("stopped", "its challenger is in production")
    async with process.database.read() as session:
        assert await load_plans(session, board.id) == (None, None)


async def test_who_can_t_be_a_challenger_is_refused(process: Process, tenant: Tenant) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    serving, unpriced = [await make_candidate(process, board) for _ in range(2)]
    ctx = process.system_context(tenant.workspace_id)

    def challenge(challenger_id: UUID) -> NewShadow:
        return NewShadow(challenger_id=challenger_id, budget_usd=Decimal(1))

    with pytest.raises(ConflictError, match="has no model in production"):
        await start_shadow(ctx, board.id, challenge(unpriced.id))
    await make_ranked_run(process, board, [serving, unpriced])
    with pytest.raises(ConflictError, match="it can't be its own shadow"):
        await start_shadow(ctx, board.id, challenge(serving.id))
    with pytest.raises(ConflictError, match=r"what model .* charges is not known"):
        await start_shadow(ctx, board.id, challenge(unpriced.id))
    with pytest.raises(InvalidInputError, match="challenger_id: "):
        await start_shadow(ctx, board.id, challenge(new_id()))
    stranger = process.system_context((await make_tenant(process)).workspace_id)
    with pytest.raises(NotFoundError):
        await start_shadow(stranger, board.id, challenge(serving.id))
    shadow = await make_shadow(process, tenant)
    with pytest.raises(NotFoundError):
        await stop_shadow(stranger, shadow.id)


async def test_holds_are_gone_once_they_are_settled(process: Process, tenant: Tenant) -> None:
    shadow = await make_shadow(process, tenant)
    held = await hold(process, shadow, "0.3")
    await settle(process, held, "0.1")
    await settle(process, held, "0.1")  # after a commit whose answer was lost
    assert (await read_shadow(process, shadow)).spent_usd == Decimal("0.1")
    async with process.database.read() as session:
        assert await session.get(ShadowHold, held) is None


async def test_servers_hear_of_its_begin_and_end_and_not_of_what_it_spends(
    process: Process, tenant: Tenant, database_url: str
) -> None:
    heard: list[str] = []
    listener = await asyncpg.connect(database_url.replace("+asyncpg", ""))
    await listener.add_listener("gero_changes", lambda *said: heard.append(str(said[-1])))
    shadow = await make_shadow(process, tenant)
    await listener.fetchval("SELECT 1")
    heard.clear()
    await settle(process, await hold(process, shadow, "0.3"), "0.1")
    await listener.fetchval("SELECT 1")
    assert heard == []
    await stop_shadow(process.system_context(tenant.workspace_id), shadow.id)
    await listener.fetchval("SELECT 1")
    assert heard == [f"leaderboard:{shadow.leaderboard_id}"]
    await listener.close()
