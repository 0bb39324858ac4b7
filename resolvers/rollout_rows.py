"""Rows of rollouts and shadows, as whoever changes production finds and ends them.

Whoever changes a rollout or a shadow locks its leaderboard's row first, and then its own.
"""

from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import select, update

from db.models import Leaderboard, Rollout, Shadow
from db.session import WriteSession


async def lock_rollout(session: WriteSession, rollout_id: UUID) -> Rollout:
    """Return a rollout that nobody else can change until *session* ends."""
    statement = select(Rollout).where(Rollout.id == rollout_id)
    locked = statement.with_for_update(key_share=True)
    # What the session read of it before it was locked may be old.
    return (await session.scalars(locked, execution_options={"populate_existing": True})).one()


async def cancel_running_rollout(
    session: WriteSession,
    leaderboard_id: UUID,
    reason: str,
    *,
    canary_id: UUID | None = None,
) -> None:
    """End a leaderboard's rollout, if one runs: production serves everybody again.

    Args:
        session: Has locked the leaderboard's row.
        leaderboard_id: Whose.
        reason: For people.
        canary_id: Only a rollout of this candidate.
    """
    statement = update(Rollout).where(
        Rollout.leaderboard_id == leaderboard_id, Rollout.status == "running"
    )
    if canary_id is not None:
        statement = statement.where(Rollout.to_candidate_id == canary_id)
    await session.execute(
        statement.values(status="cancelled", reason=reason, finished_at=datetime.now(UTC))
    )


async def let_go_of_candidate(
    session: WriteSession, leaderboard_id: UUID, candidate_id: UUID
) -> None:
    """End the rollout and the shadow that a candidate, which leaves its leaderboard, is tried in.

    Args:
        session: Has locked the leaderboard's row.
        leaderboard_id: Which it leaves.
        candidate_id: Who leaves.
    """
    reason = "the model has left the leaderboard"
    await cancel_running_rollout(session, leaderboard_id, reason, canary_id=candidate_id)
    await _stop_shadow_of(session, leaderboard_id, candidate_id, reason)


async def end_trials(session: WriteSession, board: Leaderboard, reason: str) -> None:
    """End a rollout when production has changed, and a shadow of who serves now.

    That would compare the model with itself.

    Args:
        session: Has locked the leaderboard's row.
        board: With its new model in production.
        reason: The rollout's, for people.
    """
    await cancel_running_rollout(session, board.id, reason)
    serving = board.production_candidate_id
    await _stop_shadow_of(session, board.id, serving, "its challenger is in production")


async def _stop_shadow_of(
    session: WriteSession, leaderboard_id: UUID, challenger_id: UUID | None, reason: str
) -> None:
    await session.execute(
        update(Shadow)
        .where(
            Shadow.leaderboard_id == leaderboard_id,
            Shadow.challenger_id == challenger_id,
            Shadow.status == "running",
        )
        .values(status="stopped", reason=reason, finished_at=datetime.now(UTC))
    )
