"""The states of a rollout: how it begins, goes on and ends, and what that means for production."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Text, cast, select

from db.base import new_id
from db.models import Leaderboard, PromotionEvent, Rollout
from db.session import WriteSession
from engine.guardrails import Decision
from engine.rollouts import next_step, read_settings
from resolvers.context import Context
from resolvers.errors import ConflictError
from resolvers.production import ROLLOUT_ROLLBACK, change_production
from resolvers.rollout_rows import cancel_running_rollout, lock_rollout


@dataclass(frozen=True, slots=True)
class Promoted:
    """Who is promoted, and why.

    Attributes:
        candidate_id: None for nobody.
        judge: Who judges the leaderboard's answers, as a run keeps it, with the evaluation's
            `rubric` and `scale`; None for nobody.
        run_id: The run whose ranking says so; None when a person does.
        rule: The rule that decided, and `numbers` what that rested on.
    """

    candidate_id: UUID | None
    judge: dict[str, Any] | None = None
    run_id: UUID | None = None
    rule: str | None = None
    numbers: dict[str, Any] = field(default_factory=dict)


def judge_of(
    evaluation: Mapping[str, Any], judge: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """Return a judge as a rollout keeps it: who it is, and by what it judges."""
    if judge is None:
        return None
    return {**judge, "rubric": evaluation.get("rubric"), "scale": evaluation.get("scale")}


async def begin_rollout(
    session: WriteSession,
    ctx: Context,
    board: Leaderboard,
    promoted: Promoted,
    settings: Mapping[str, Any],
) -> Rollout:
    """Have a promotion go out step by step; a rollout that runs gives way to it.

    Args:
        session: Has locked the leaderboard's row.
        ctx: Who promotes.
        board: Somebody else is in its production.
        promoted: Who, and why.
        settings: As `resolvers.inputs.RolloutSettings` stores them.

    Raises:
        ConflictError: Nobody is in production, or that model is.
    """
    serving = board.production_candidate_id
    if serving is None:
        raise ConflictError(
            f"leaderboard {board.id} has no model in production, which a canary could be "
            "compared with: run it first"
        )
    if serving == promoted.candidate_id:
        raise ConflictError(f"model {serving} is in production already")
    rollout = _new_rollout(ctx, board, promoted, settings, serving)
    await cancel_running_rollout(session, board.id, f"rollout {rollout.id} took its place")
    session.add(rollout)
    await session.flush()
    return rollout


def _new_rollout(
    ctx: Context,
    board: Leaderboard,
    promoted: Promoted,
    settings: Mapping[str, Any],
    serving: UUID,
) -> Rollout:
    now, guardrails = datetime.now(UTC), dict(settings["guardrails"])
    if promoted.judge is None:  # scores that nobody gives take no part of the error
        guardrails.pop("min_score_difference", None)
    return Rollout(
        id=new_id(),
        workspace_id=board.workspace_id,
        leaderboard_id=board.id,
        status="running",
        from_candidate_id=serving,
        to_candidate_id=promoted.candidate_id,
        run_id=promoted.run_id,
        rule=promoted.rule,
        decision=promoted.numbers,
        settings={**settings, "guardrails": guardrails},
        judge=promoted.judge if "min_score_difference" in guardrails else None,
        step=0,
        share=settings["steps"][0],
        max_cost_usd=Decimal(settings["max_judge_cost_usd"]),
        judged_until=now,
        token_id=ctx.principal.token_id,
        user_id=ctx.principal.user_id,
        step_started_at=now,
    )


async def promote(
    session: WriteSession,
    ctx: Context,
    board: Leaderboard,
    promoted: Promoted,
    settings: Mapping[str, Any] | None,
) -> None:
    """Put a ranking's choice into production: at once, or by a rollout where that is wanted.

    Where nobody serves yet there is nothing to compare a canary with. A rollout of the same model
    that runs already goes on. One whose canary the promotion's limits now refuse is taken back:
    who may not be promoted at once may not be step by step. A ranking that merely does not show
    the canary to be better leaves its rollout be.

    Args:
        session: Has locked the leaderboard's row.
        ctx: Who promotes.
        board: The leaderboard.
        promoted: Who, and why; it may be who serves, which changes nothing.
        settings: Of the rollout; None for at once.
    """
    await _take_back_refused(session, ctx, board, promoted)
    serving, candidate_id = board.production_candidate_id, promoted.candidate_id
    if settings is None or serving is None or candidate_id is None:
        await change_production(
            session,
            ctx,
            board,
            candidate_id,
            cause="promotion",
            run_id=promoted.run_id,
            rule=promoted.rule,
            numbers=promoted.numbers,
        )
    elif serving != candidate_id and not await _is_going_out(session, board.id, candidate_id):
        await begin_rollout(session, ctx, board, promoted, settings)


async def _take_back_refused(
    session: WriteSession, ctx: Context, board: Leaderboard, promoted: Promoted
) -> None:
    running = select(Rollout.id).where(
        Rollout.leaderboard_id == board.id,
        Rollout.status == "running",
        cast(Rollout.to_candidate_id, Text).in_(promoted.numbers.get("refused", {})),
    )
    rollout_id = await session.scalar(running)
    if rollout_id is None:
        return
    rollout = await lock_rollout(session, rollout_id)
    refusal = promoted.numbers["refused"][str(rollout.to_candidate_id)]
    why = f"the ranking of run {promoted.run_id} keeps the canary from production: {refusal}"
    await take_back(session, ctx, rollout, why=why)


async def _is_going_out(session: WriteSession, leaderboard_id: UUID, candidate_id: UUID) -> bool:
    running = select(Rollout.id).where(
        Rollout.leaderboard_id == leaderboard_id,
        Rollout.to_candidate_id == candidate_id,
        Rollout.status == "running",
    )
    return await session.scalar(running) is not None


async def go_on(
    session: WriteSession,
    ctx: Context,
    board: Leaderboard,
    rollout: Rollout,
    *,
    why: Decision | str,
) -> None:
    """Take a rollout's next step; behind the last one its canary is in production.

    Args:
        session: Has locked the rows of the leaderboard and of the rollout.
        ctx: Who has it go on.
        board: The leaderboard.
        rollout: It runs.
        why: What was decided, or a person's reason.
    """
    settings = read_settings(rollout.settings)
    following = next_step(settings, rollout.step)
    if following is not None:
        rollout.step, rollout.share = following, settings.steps[following]
        rollout.step_started_at = datetime.now(UTC)
        return
    await _end(session, rollout, "completed", why)
    if board.model_selection == "manual":
        board.selected_candidate_id = rollout.to_candidate_id
    await change_production(
        session,
        ctx,
        board,
        rollout.to_candidate_id,
        cause="rollout",
        run_id=rollout.run_id,
        rule=rollout.rule,
        numbers={**rollout.decision, "rollout": rollout.numbers},
        rollout_id=rollout.id,
    )


async def take_back(
    session: WriteSession, ctx: Context, rollout: Rollout, *, why: Decision | str
) -> None:
    """Take a canary back, and record that; production is as it was.

    Args:
        session: Has locked the rows of the leaderboard and of the rollout.
        ctx: Who takes it back.
        rollout: It runs.
        why: What was decided, or a person's reason.
    """
    await _end(session, rollout, "rolled_back", why)
    session.add(
        PromotionEvent(
            id=new_id(),
            workspace_id=rollout.workspace_id,
            leaderboard_id=rollout.leaderboard_id,
            cause=ROLLOUT_ROLLBACK,
            from_candidate_id=rollout.to_candidate_id,
            to_candidate_id=rollout.from_candidate_id,
            run_id=rollout.run_id,
            rule=rollout.rule,
            numbers=rollout.numbers or {},
            rollout_id=rollout.id,
            token_id=ctx.principal.token_id,
            user_id=ctx.principal.user_id,
        )
    )


async def cancel(session: WriteSession, rollout: Rollout, *, why: str) -> None:
    """End a rollout for no fault of its canary."""
    await _end(session, rollout, "cancelled", why)


async def _end(
    session: WriteSession,
    rollout: Rollout,
    status: Literal["completed", "rolled_back", "cancelled"],
    why: Decision | str,
) -> None:
    rollout.status, rollout.finished_at = status, datetime.now(UTC)
    rollout.reason = why if isinstance(why, str) else why.reason
    numbers: dict[str, Any] = {
        "reason": rollout.reason,
        "step": rollout.step,
        "share": rollout.share,
    }
    if isinstance(why, Decision):
        numbers["comparisons"] = [each.show() for each in why.comparisons]
    rollout.numbers = numbers
    await session.flush()
