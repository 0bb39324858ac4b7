"""Ranking use cases: what a completed run found, and which model that puts in production."""

from collections.abc import Sequence
from uuid import UUID

from db.models import Candidate, Leaderboard, Ranking, RankingEntry
from resolvers.auth import Scope, requires
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
async def find_latest_ranking(ctx: Context, leaderboard_id: UUID) -> Ranking | None:
    """Return a leaderboard's newest ranking, batched, or None before the first."""
    return await ctx.loaders.get(LatestRankingByLeaderboard).load(leaderboard_id)


@requires(Scope.LEADERBOARDS_READ)
async def find_ranking_of_run(ctx: Context, run_id: UUID) -> Ranking | None:
    """Return what a run found, batched, or None while it is not completed."""
    return await ctx.loaders.get(RankingByRun).load(run_id)


@requires(Scope.LEADERBOARDS_READ)
async def list_entries(ctx: Context, ranking_id: UUID) -> Sequence[RankingEntry]:
    """Return a ranking's entries, best first, batched."""
    return await ctx.loaders.get(EntriesByRanking).load(ranking_id)


@requires(Scope.LEADERBOARDS_READ)
async def find_production_candidate(ctx: Context, board: Leaderboard) -> Candidate | None:
    """Return the model in production, batched, or None before the first ranking."""
    return await production_candidate(ctx, board)


async def production_candidate(ctx: Context, board: Leaderboard) -> Candidate | None:
    """Return the model in production, or None before the first ranking.

    The winner is the best of the latest ranking that is still on the leaderboard.
    """
    winner_id = await ctx.loaders.get(WinnerByLeaderboard).load(board.id)
    if winner_id is None:
        return None
    if board.model_selection == "manual" and board.selected_candidate_id is not None:
        winner_id = board.selected_candidate_id
    return await ctx.loaders.get(CandidateById).load(winner_id)


async def require_production_candidate(ctx: Context, board: Leaderboard) -> Candidate:
    """Return the model in production.

    Raises:
        RankingNotReadyError: No run is completed, or every ranked model was removed.
    """
    candidate = await production_candidate(ctx, board)
    if candidate is None:
        raise RankingNotReadyError(
            f"leaderboard {board.id} has no completed ranking with a model still on it: "
            "run it first"
        )
    return candidate
