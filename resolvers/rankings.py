"""Ranking use cases: what a completed run found, and which model that puts in production."""

from collections.abc import Sequence
from uuid import UUID

from db.models import Leaderboard
from db.records import Row
from resolvers.auth import Scope, requires
from resolvers.columns import Columns
from resolvers.context import Context
from resolvers.loaders.rankings import (
    EntriesByRanking,
    LatestRankingByLeaderboard,
    RankingByRun,
)
from resolvers.production import production_candidates


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
