"""The upkeep of rollouts and shadows: looking at what they did, and drawing what follows."""

import logging
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import select, update

from db.models import Leaderboard, Rollout, Shadow
from db.session import ReadSession
from engine.guardrails import Action, Decision, decide
from engine.rollouts import read_settings
from resolvers.auth import SYSTEM, requires
from resolvers.context import Context
from resolvers.rollout_lifecycle import cancel, go_on, take_back
from resolvers.rollout_rows import lock_rollout
from resolvers.rollout_sums import read_step_sums
from resolvers.run_lifecycle import lock_leaderboard
from resolvers.shadow_budget import charge_expired_holds
from resolvers.trace_sampling import queue_judging

log = logging.getLogger("gero.rollouts")


@requires(SYSTEM)
async def advance_rollouts(ctx: Context) -> None:
    """Look at every rollout that runs, and have it wait, go on, complete or roll back.

    Each is decided in a transaction of its own, under its leaderboard's lock and from what it
    reads there: whoever does this too, or does it again, finds it decided.

    Raises:
        ExceptionGroup: Some could not be looked at; the others were.
    """
    async with ctx.database.read() as session:
        running = (
            await session.execute(
                select(Rollout.id, Rollout.workspace_id, Rollout.leaderboard_id)
                .where(Rollout.status == "running")
                .order_by(Rollout.id)
            )
        ).all()
    failures: list[Exception] = []
    for rollout_id, workspace_id, leaderboard_id in running:
        try:
            await _advance(ctx.within(workspace_id), leaderboard_id, rollout_id)
        except Exception as error:  # noqa: BLE001 - one must not keep the others from rolling back
            failures.append(error)
    if failures:
        raise ExceptionGroup("rollouts could not be looked at", failures)


async def _advance(ctx: Context, leaderboard_id: UUID, rollout_id: UUID) -> None:
    async with ctx.database.write() as session:
        board = await lock_leaderboard(session, leaderboard_id)
        rollout = await lock_rollout(session, rollout_id)
        if rollout.status != "running":
            return
        if board.deleted_at is not None:
            await cancel(session, rollout, why="the leaderboard was deleted")
            return
        decision = await look_at(session, rollout)
        if decision.action is Action.ROLL_BACK:
            await take_back(session, ctx, rollout, why=decision)
        elif decision.action is not Action.WAIT:
            await go_on(session, ctx, board, rollout, why=decision)
        if decision.action is not Action.WAIT:
            log.info("rollout %s: %s: %s", rollout.id, decision.action.value, decision.reason)
        if rollout.status == "running":
            await queue_judging(ctx, session, rollout)


async def look_at(session: ReadSession, rollout: Rollout) -> Decision:
    """Decide by a rollout's sums of the step that it is at.

    Where a judge scores answers, a step has lasted as long as there are some of which the judge
    has had its share: they have to settle first, and a short step would pass unjudged.
    """
    control, canary = await read_step_sums(session, rollout.id, rollout.step)
    is_judged = rollout.judge is not None and rollout.judge_error is None
    until = rollout.judged_until if is_judged else datetime.now(UTC)
    minutes = max((until - rollout.step_started_at).total_seconds() / 60, 0.0)
    return decide(read_settings(rollout.settings), rollout.step, control, canary, minutes=minutes)


@requires(SYSTEM)
async def end_shadows(ctx: Context) -> None:
    """Charge what servers that died had held, and end shadows that are over."""
    async with ctx.database.write() as session:
        await charge_expired_holds(session)
    now = datetime.now(UTC)
    async with ctx.database.write() as session:
        await session.execute(
            update(Shadow)
            .where(Shadow.status == "running", Shadow.ends_at <= now)
            .values(status="ended", reason="its time is over", finished_at=now)
        )
        deleted = select(Leaderboard.id).where(Leaderboard.deleted_at.is_not(None))
        await session.execute(
            update(Shadow)
            .where(Shadow.status == "running", Shadow.leaderboard_id.in_(deleted))
            .values(status="stopped", reason="the leaderboard was deleted", finished_at=now)
        )
