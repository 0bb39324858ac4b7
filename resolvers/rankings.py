"""Ranking use cases: what a completed run found, and which model that puts in production."""

from collections.abc import Sequence
from uuid import UUID

from db.models import Leaderboard
from db.records import Row
from resolvers.auth import Scope, requires
from resolvers.columns import Columns
from resolvers.context import Context
from resolvers.errors import RankingNotReadyError
from resolvers.loaders.candidates import CandidateById
from resolvers.loaders.rankings import (
    EntriesByRanking,
    LatestRankingByLeaderboard,
    RankingByRun,
    WinnerByLeaderboard,
)


@requires(Scope.LEADERBOARDS_READ)
async def find_latest_rankings(
    ctx: Context, leaderboard_ids: Sequence[UUID], columns: Columns = None
) -> list[Row | None]:
    """Return each leaderboard's newest ranking, or None before the first."""
    return await ctx.loaders.get(LatestRankingByLeaderboard).load_many(leaderboard_ids, columns)


@requires(Scope.LEADERBOARDS_READ)
async def find_rankings_of_runs(
    ctx: Context, run_ids: Sequence[UUID], columns: Columns = None
) -> list[Row | None]:
    """Return what each run found, or None while it is not completed."""
    return await ctx.loaders.get(RankingByRun).load_many(run_ids, columns)


@requires(Scope.LEADERBOARDS_READ)
async def list_entries(
    ctx: Context, ranking_ids: Sequence[UUID | None], columns: Columns = None
) -> list[Sequence[Row]]:
    """Return each ranking's entries, best first."""
    return await ctx.loaders.get(EntriesByRanking).load_many(ranking_ids, columns)


@requires(Scope.LEADERBOARDS_READ)
async def find_production_candidates(
    ctx: Context, boards: Sequence[Row | Leaderboard], columns: Columns = None
) -> list[Row | None]:
    """Return each leaderboard's model in production, or None before its first ranking."""
    return await production_candidates(ctx, boards, columns)


async def production_candidates(
    ctx: Context, boards: Sequence[Row | Leaderboard], columns: Columns = None
) -> list[Row | None]:
    """Return each leaderboard's model in production, or None before its first ranking.

    The winner is the best of the latest ranking that is still on the leaderboard.
    """
    winners = await ctx.loaders.get(WinnerByLeaderboard).load_many([board.id for board in boards])
    chosen = [
        board.selected_candidate_id
        if winner is not None
        and board.model_selection == "manual"
        and board.selected_candidate_id is not None
        else winner
        for board, winner in zip(boards, winners, strict=True)
    ]
    return await ctx.loaders.get(CandidateById).load_many(chosen, columns)


async def require_production_candidate(ctx: Context, board: Leaderboard) -> Row:
    """Return the model in production.

    Raises:
        RankingNotReadyError: No run is completed, or every ranked model was removed.
    """
    (candidate,) = await production_candidates(ctx, [board])
    if candidate is None:
        raise RankingNotReadyError(
            f"leaderboard {board.id} has no completed ranking with a model still on it: "
            "run it first"
        )
    return candidate
