"""The model in production: who serves, and the one way in which that changes."""

from collections.abc import Sequence
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Text, cast, false, func, select

from db.models import Candidate, Leaderboard, PromotionEvent, Ranking, RankingEntry
from db.records import Row
from db.session import ReadSession, WriteSession
from resolvers.columns import Columns
from resolvers.context import Context
from resolvers.loaders.candidates import CandidateById
from resolvers.rollout_rows import cancel_running_rollout, end_trials

Cause = Literal["promotion", "selection", "removal", "rollback", "rollout"]

# The cause of the one event that leaves production as it is: a canary was taken back.
ROLLOUT_ROLLBACK = "rollout_rollback"


async def production_candidates(
    ctx: Context, boards: Sequence[Row | Leaderboard], columns: Columns = None
) -> list[Row | None]:
    """Return each leaderboard's model in production, or None before its first ranking."""
    ids = [board.production_candidate_id for board in boards]
    return await ctx.loaders.get(CandidateById).load_many(ids, columns)


async def change_production(
    session: WriteSession,
    ctx: Context,
    board: Leaderboard,
    candidate_id: UUID | None,
    *,
    cause: Cause,
    run_id: UUID | None = None,
    rule: str | None = None,
    numbers: dict[str, Any] | None = None,
    undone_event_id: UUID | None = None,
    rollout_id: UUID | None = None,
) -> PromotionEvent | None:
    """Put a model into production and record that, in the caller's transaction; rollouts end.

    Args:
        session: The caller's, which holds a lock on the leaderboard's row.
        ctx: Who changes it.
        board: The leaderboard's row.
        candidate_id: Who serves from now on; None for nobody.
        cause: Why.
        run_id: The run whose ranking it rests on.
        rule: The rule that decided.
        numbers: What that rested on.
        undone_event_id: The event that is rolled back.
        rollout_id: The rollout that is complete.

    Returns:
        The event; None when that model serves already, which changes nothing.
    """
    if candidate_id == board.production_candidate_id:
        return None
    event = PromotionEvent(
        workspace_id=board.workspace_id,
        leaderboard_id=board.id,
        cause=cause,
        from_candidate_id=board.production_candidate_id,
        to_candidate_id=candidate_id,
        run_id=run_id,
        rule=rule,
        numbers=numbers or {},
        undone_event_id=undone_event_id,
        rollout_id=rollout_id,
        token_id=ctx.principal.token_id,
        user_id=ctx.principal.user_id,
    )
    board.production_candidate_id = candidate_id
    session.add(event)
    await end_trials(session, board, f"production was changed by a {cause}")
    return event


async def select_production(session: WriteSession, ctx: Context, board: Leaderboard) -> None:
    """Let a selection take effect, once the leaderboard has a completed ranking.

    A pinned model serves from now on, and a rollout ends even if it served already: else the
    canary would take its place in the end. One that is pinned no more goes on serving until a
    ranking changes that, by the promotion's rule: its limits and its confidence are not passed by
    here.
    """
    if board.model_selection == "manual":
        reason = f"model {board.selected_candidate_id} was pinned"
        await cancel_running_rollout(session, board.id, reason)
    elif board.production_candidate_id is not None:
        return
    winner = await find_winner(session, board.id)
    if winner is None:
        return
    chosen = board.selected_candidate_id if board.model_selection == "manual" else winner
    await change_production(session, ctx, board, chosen, cause="selection")


async def find_winner(session: ReadSession, leaderboard_id: UUID) -> UUID | None:
    """Return the best of the latest ranking that may serve and is still on the leaderboard."""
    latest = (
        select(Ranking.id)
        .where(Ranking.leaderboard_id == leaderboard_id)
        .order_by(Ranking.completed_at.desc(), Ranking.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    # Whom the promotion's limits kept from production is not let in by another door.
    refused = Ranking.decision["refused"].has_key(cast(RankingEntry.candidate_id, Text))
    return await session.scalar(
        select(RankingEntry.candidate_id)
        .join(Candidate, Candidate.id == RankingEntry.candidate_id)
        .join(Ranking, Ranking.id == RankingEntry.ranking_id)
        .where(
            RankingEntry.ranking_id == latest,
            Candidate.removed_at.is_(None),
            func.coalesce(refused, false()).is_(False),
        )
        .order_by(RankingEntry.rank)
        .limit(1)
    )
