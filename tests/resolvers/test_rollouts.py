"""Rollouts over real sums: when they go on, complete and go back, and what ends them else."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select, update

from app.services import Process
from db.base import new_id
from db.models import Candidate, Leaderboard, PromotionEvent, Rollout
from engine.rollouts import Arm, Observation, increments_of
from resolvers.candidates import remove_candidate
from resolvers.errors import ConflictError, InvalidInputError, NotFoundError
from resolvers.inputs import LeaderboardChanges, RolloutRollback, RolloutSettings
from resolvers.leaderboards import delete_leaderboard, update_leaderboard
from resolvers.promotions import roll_back_production
from resolvers.rollout_plan import RolloutPlan, load_plans
from resolvers.rollout_sums import add_increments, read_step_sums
from resolvers.rollout_sweep import advance_rollouts
from resolvers.rollouts import (
    advance_rollout,
    cancel_rollout,
    roll_back_rollout,
    start_rollout,
)
from tests.factories import (
    Tenant,
    make_candidate,
    make_leaderboard,
    make_ranked_run,
    make_tenant,
)

QUICK = RolloutSettings(
    steps=(0.1, 0.5, 1.0), min_requests_per_step=50, min_minutes_per_step=0, sticky_by="trace"
)
WRITER = UUID(int=7)


async def make_served(
    process: Process, tenant: Tenant, count: int = 3, **columns: Any
) -> tuple[Leaderboard, list[Candidate]]:
    """Store a leaderboard whose first candidate is in production."""
    board = await make_leaderboard(process, tenant.workspace_id, **columns)
    candidates = [await make_candidate(process, board) for _ in range(count)]
    await make_ranked_run(process, board, candidates)
    return board, candidates


def served(
    rollout: Rollout, arm: Arm, requests: int, *, failing: int = 0, ms: float = 100.0
) -> list[Observation]:
    """Return requests of which some fail, in no rhythm with their latencies."""
    return [
        Observation(
            rollout.id, rollout.step, arm, n < failing, ms * (1 + n % 5 / 10), Decimal("0.001")
        )
        for n in range(requests)
    ]


async def observe(
    process: Process, observations: Sequence[Observation], *, writer: UUID = WRITER
) -> None:
    async with process.database.write() as session:
        await add_increments(session, increments_of(observations), writer=writer)


async def read_rollout(process: Process, rollout: Rollout) -> Rollout:
    async with process.database.read() as session:
        return await session.get_one(Rollout, rollout.id)


async def production_of(process: Process, board: Leaderboard) -> UUID | None:
    async with process.database.read() as session:
        return (await session.get_one(Leaderboard, board.id)).production_candidate_id


async def events_of(process: Process, board: Leaderboard) -> list[PromotionEvent]:
    async with process.database.read() as session:
        found = await session.scalars(
            select(PromotionEvent)
            .where(PromotionEvent.leaderboard_id == board.id)
            .order_by(PromotionEvent.id)
        )
        return list(found)


async def sweep(process: Process) -> None:
    await advance_rollouts(process.system_context())


async def test_sums_of_several_processes_add_up(process: Process, tenant: Tenant) -> None:
    board, (_, canary, _) = await make_served(process, tenant)
    ctx = process.system_context(tenant.workspace_id)
    rollout = await start_rollout(ctx, board.id, canary.id, QUICK)
    writers = [new_id() for _ in range(4)]
    await asyncio.gather(
        *(
            observe(process, served(rollout, Arm.CANARY, 10, failing=1), writer=writer)
            for writer in writers
            for _ in range(3)
        )
    )
    await observe(process, served(rollout, Arm.CONTROL, 5))
    async with process.database.read() as session:
        control, did = await read_step_sums(session, rollout.id, 0)
        nothing = await read_step_sums(session, rollout.id, 1)
    assert (did.requests, did.errors, did.log_latency.count) == (120, 12, 108)
    assert did.cost_usd.total == pytest.approx(0.12)
    assert (control.requests, control.errors) == (5, 0)
    assert [each.requests for each in nothing] == [0, 0]


async def test_a_good_canary_goes_on_step_by_step_and_into_production(
    process: Process, tenant: Tenant
) -> None:
    board, (serving, canary, _) = await make_served(process, tenant)
    ctx = process.system_context(tenant.workspace_id)
    rollout = await start_rollout(ctx, board.id, canary.id, QUICK)
    assert (rollout.status, rollout.step, rollout.share) == ("running", 0, 0.1)
    await sweep(process)
    assert (await read_rollout(process, rollout)).step == 0  # nobody has asked anything
    for step, share in ((0, 0.1), (1, 0.5)):
        at = await read_rollout(process, rollout)
        assert (at.step, at.share, at.status) == (step, share, "running")
        assert await production_of(process, board) == serving.id
        await observe(process, served(at, Arm.CONTROL, 450) + served(at, Arm.CANARY, 50))
        await sweep(process)
    ended = await read_rollout(process, rollout)
    assert (ended.status, ended.reason) == ("completed", "every step is behind it")
    assert await production_of(process, board) == canary.id
    (event,) = await events_of(process, board)
    assert (event.cause, event.from_candidate_id, event.to_candidate_id, event.rollout_id) == (
        "rollout", serving.id, canary.id, rollout.id,
    )  # fmt: skip
    assert [each["standing"] for each in event.numbers["rollout"]["comparisons"]] == ["within"] * 3


async def test_a_bad_canary_takes_itself_back_and_records_why(
    process: Process, tenant: Tenant
) -> None:
    board, (serving, canary, other) = await make_served(process, tenant)
    ctx = process.system_context(tenant.workspace_id)
    rollout = await start_rollout(ctx, board.id, canary.id, QUICK)
    await observe(
        process,
        served(rollout, Arm.CONTROL, 2_000, failing=20)
        + served(rollout, Arm.CANARY, 200, failing=60),
    )
    await sweep(process)
    ended = await read_rollout(process, rollout)
    assert ended.status == "rolled_back"
    assert ended.reason is not None
    assert ended.reason.startswith("the canary's error rate is surely worse: its difference")
    assert await production_of(process, board) == serving.id
    (event,) = await events_of(process, board)
    assert (event.cause, event.from_candidate_id, event.to_candidate_id) == (
        "rollout_rollback", canary.id, serving.id,
    )  # fmt: skip
    comparisons = {each["guardrail"]: each for each in event.numbers["comparisons"]}
    assert comparisons["error_rate"]["standing"] == "violated"
    assert comparisons["error_rate"]["value"] == pytest.approx(0.29)
    # It changed nothing, so that there is nothing to undo.
    with pytest.raises(ConflictError, match="has had no model in production"):
        await roll_back_production(ctx, board.id, event_id=None)
    with pytest.raises(ConflictError, match="did not change production"):
        await roll_back_production(ctx, board.id, event_id=event.id)
    again = await start_rollout(ctx, board.id, other.id, QUICK)
    assert again.status == "running"


async def test_sweeps_at_once_and_again_decide_once(process: Process, tenant: Tenant) -> None:
    board, (_, canary, _) = await make_served(process, tenant)
    ctx = process.system_context(tenant.workspace_id)
    rollout = await start_rollout(ctx, board.id, canary.id, QUICK)
    await advance_rollout(ctx, rollout.id)
    at = await read_rollout(process, rollout)
    await observe(process, served(at, Arm.CONTROL, 100) + served(at, Arm.CANARY, 100))
    await asyncio.gather(*(sweep(process) for _ in range(4)))
    await sweep(process)
    assert [event.cause for event in await events_of(process, board)] == ["rollout"]


async def test_a_step_takes_its_minutes(process: Process, tenant: Tenant) -> None:
    board, (_, canary, _) = await make_served(process, tenant)
    ctx = process.system_context(tenant.workspace_id)
    slow = QUICK.model_copy(update={"min_minutes_per_step": 30})
    rollout = await start_rollout(ctx, board.id, canary.id, slow)
    await observe(process, served(rollout, Arm.CONTROL, 450) + served(rollout, Arm.CANARY, 50))
    await sweep(process)
    assert (await read_rollout(process, rollout)).step == 0
    async with process.database.write() as session:
        earlier = datetime.now(UTC) - timedelta(minutes=31)
        await session.execute(update(Rollout).values(step_started_at=earlier))
    await sweep(process)
    assert (await read_rollout(process, rollout)).step == 1


async def test_one_rollout_that_can_t_be_looked_at_does_not_keep_the_others_from_it(
    process: Process, tenant: Tenant
) -> None:
    ctx = process.system_context(tenant.workspace_id)
    made = []
    for _ in range(2):
        board, (_, canary, _) = await make_served(process, tenant)
        made.append(await start_rollout(ctx, board.id, canary.id, QUICK))
    broken, good = made
    async with process.database.write() as session:
        await session.execute(
            update(Rollout).where(Rollout.id == broken.id).values(settings={"steps": []})
        )
    await observe(process, served(good, Arm.CONTROL, 100) + served(good, Arm.CANARY, 50))
    with pytest.raises(ExceptionGroup) as raised:
        await sweep(process)
    assert len(raised.value.exceptions) == 1
    assert (await read_rollout(process, good)).step == 1


async def test_people_advance_cancel_and_roll_back(process: Process, tenant: Tenant) -> None:
    board, (serving, canary, other) = await make_served(process, tenant)
    ctx = process.system_context(tenant.workspace_id)
    rollout = await start_rollout(ctx, board.id, canary.id, QUICK)
    assert (await advance_rollout(ctx, rollout.id, to_step=1)).share == 0.5
    with pytest.raises(ConflictError, match="is at step 1, so that its next one is not 1"):
        await advance_rollout(ctx, rollout.id, to_step=1)
    cancelled = await cancel_rollout(ctx, rollout.id)
    assert (cancelled.status, cancelled.reason) == ("cancelled", "somebody cancelled it")
    with pytest.raises(ConflictError, match="is cancelled: somebody cancelled it"):
        await advance_rollout(ctx, rollout.id)
    assert await events_of(process, board) == []
    second = await start_rollout(ctx, board.id, other.id, QUICK)
    back = await roll_back_rollout(ctx, second.id, RolloutRollback(reason="users complain"))
    assert (back.status, back.reason) == ("rolled_back", "users complain")
    (event,) = await events_of(process, board)
    assert (event.cause, event.numbers["reason"]) == ("rollout_rollback", "users complain")
    third = await start_rollout(ctx, board.id, canary.id, QUICK)
    await advance_rollout(ctx, third.id)
    ended = await advance_rollout(ctx, third.id)
    assert (ended.status, ended.reason) == ("completed", "somebody had it go on")
    assert await production_of(process, board) == canary.id
    assert serving.id != canary.id


async def test_a_newer_rollout_takes_the_place_of_one_that_runs(
    process: Process, tenant: Tenant
) -> None:
    board, (_, canary, other) = await make_served(process, tenant)
    ctx = process.system_context(tenant.workspace_id)
    first = await start_rollout(ctx, board.id, canary.id, QUICK)
    second = await start_rollout(ctx, board.id, other.id, QUICK)
    ended = await read_rollout(process, first)
    assert (ended.status, ended.reason) == ("cancelled", f"rollout {second.id} took its place")


async def test_rollouts_that_are_started_at_once_leave_one_that_runs(
    process: Process, tenant: Tenant
) -> None:
    board, (_, canary, other) = await make_served(process, tenant)
    ctx = process.system_context(tenant.workspace_id)
    await asyncio.gather(
        *(start_rollout(ctx, board.id, each.id, QUICK) for each in (canary, other) * 3)
    )
    async with process.database.read() as session:
        running = select(func.count()).select_from(Rollout).where(Rollout.status == "running")
        assert await session.scalar(running) == 1


async def test_another_change_of_production_ends_it(process: Process, tenant: Tenant) -> None:
    board, (serving, canary, other) = await make_served(process, tenant)
    ctx = process.system_context(tenant.workspace_id)
    pinned = await start_rollout(ctx, board.id, canary.id, QUICK)
    changes = LeaderboardChanges(model_selection="manual", selected_leaderboard_model_id=other.id)
    await update_leaderboard(ctx, board.id, changes)
    assert (await read_rollout(process, pinned)).reason == f"model {other.id} was pinned"
    undone = await start_rollout(ctx, board.id, canary.id, QUICK)
    await roll_back_production(ctx, board.id, event_id=None)
    assert (await read_rollout(process, undone)).reason == "production was changed by a rollback"
    left = await start_rollout(ctx, board.id, canary.id, QUICK)
    await remove_candidate(ctx, board.id, canary.id)
    assert (await read_rollout(process, left)).reason == "the model has left the leaderboard"
    deleted = await start_rollout(ctx, board.id, other.id, QUICK)
    await delete_leaderboard(ctx, board.id)
    await sweep(process)
    ended = await read_rollout(process, deleted)
    assert (ended.status, ended.reason) == ("cancelled", "the leaderboard was deleted")
    assert await production_of(process, board) == serving.id


async def test_pinning_the_model_that_serves_already_ends_it_too(
    process: Process, tenant: Tenant
) -> None:
    board, (serving, canary, _) = await make_served(process, tenant)
    ctx = process.system_context(tenant.workspace_id)
    pin = LeaderboardChanges(model_selection="manual", selected_leaderboard_model_id=serving.id)
    for _ in range(2):  # and pinning it again
        rollout = await start_rollout(ctx, board.id, canary.id, QUICK)
        await update_leaderboard(ctx, board.id, LeaderboardChanges(name="Of another name"))
        assert (await read_rollout(process, rollout)).status == "running"
        await update_leaderboard(ctx, board.id, pin)
        ended = await read_rollout(process, rollout)
        assert (ended.status, ended.reason) == ("cancelled", f"model {serving.id} was pinned")
        with pytest.raises(ConflictError, match="is cancelled"):
            await advance_rollout(ctx, rollout.id)
    assert await production_of(process, board) == serving.id
    assert await events_of(process, board) == []


async def test_a_pinned_model_gives_way_to_a_completed_rollout_in_its_pin_too(
    process: Process, tenant: Tenant
) -> None:
    board, (serving, canary, _) = await make_served(process, tenant)
    ctx = process.system_context(tenant.workspace_id)
    pin = LeaderboardChanges(model_selection="manual", selected_leaderboard_model_id=serving.id)
    await update_leaderboard(ctx, board.id, pin)
    rollout = await start_rollout(ctx, board.id, canary.id, QUICK)
    for _ in range(2):
        await advance_rollout(ctx, rollout.id)
    async with process.database.read() as session:
        now = await session.get_one(Leaderboard, board.id)
    assert (now.production_candidate_id, now.selected_candidate_id) == (canary.id, canary.id)


async def test_who_can_t_be_a_canary_is_refused(process: Process, tenant: Tenant) -> None:
    board, (serving, canary, gone) = await make_served(process, tenant)
    ctx = process.system_context(tenant.workspace_id)
    await remove_candidate(ctx, board.id, gone.id)
    with pytest.raises(ConflictError, match="is in production already"):
        await start_rollout(ctx, board.id, serving.id, QUICK)
    with pytest.raises(InvalidInputError, match=r"candidate_id: .* is not a model of this leader"):
        await start_rollout(ctx, board.id, gone.id, QUICK)
    unserved = await make_leaderboard(process, tenant.workspace_id)
    alone = await make_candidate(process, unserved)
    with pytest.raises(ConflictError, match="has no model in production"):
        await start_rollout(ctx, unserved.id, alone.id, QUICK)
    guarded = RolloutSettings.model_validate({"guardrails": {"min_score_difference": -0.1}})
    with pytest.raises(InvalidInputError, match="goes with eval_type judge"):
        await start_rollout(ctx, board.id, canary.id, guarded)
    rollout = await start_rollout(ctx, board.id, canary.id, QUICK)
    stranger = process.system_context((await make_tenant(process)).workspace_id)
    with pytest.raises(NotFoundError):
        await cancel_rollout(stranger, rollout.id)
    with pytest.raises(NotFoundError):
        await start_rollout(stranger, board.id, canary.id, QUICK)


async def test_the_serving_path_reads_who_takes_part(process: Process, tenant: Tenant) -> None:
    board, (_, canary, _) = await make_served(process, tenant)
    ctx = process.system_context(tenant.workspace_id)
    by_user = QUICK.model_copy(update={"sticky_by": "user"})
    rollout = await start_rollout(ctx, board.id, canary.id, by_user)
    async with process.database.read() as session:
        plan, shadow = await load_plans(session, board.id)
    assert shadow is None
    assert plan == RolloutPlan(rollout.id, canary.id, 0, 0.1, "user")
    arms = {plan.assign(new_id(), "ann") for _ in range(50)}
    assert len(arms) == 1
    assert {plan.assign(new_id(), None) for _ in range(200)} == {Arm.CONTROL, Arm.CANARY}
    assert {plan.assign(new_id(), "") for _ in range(200)} == {Arm.CONTROL, Arm.CANARY}
    assert plan.note(Arm.CANARY) == {"rollout": {"id": str(rollout.id), "step": 0, "arm": "canary"}}
    await cancel_rollout(ctx, rollout.id)
    async with process.database.read() as session:
        assert await load_plans(session, board.id) == (None, None)
