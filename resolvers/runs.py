"""Run use cases that read: runs, how far they have come, and what was answered."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import BigInteger, Uuid, bindparam, select

from db.models import Run
from db.records import Row
from resolvers.auth import Scope, requires
from resolvers.columns import Columns, kept_query, read_columns
from resolvers.context import Context
from resolvers.errors import NotFoundError
from resolvers.leaderboards import get_leaderboard
from resolvers.loaders.answers import AnswerPlace, ComparisonsByPlace
from resolvers.loaders.base import own_workspace
from resolvers.loaders.runs import (
    CandidatesByRun,
    DisputedResultsByRun,
    ResultCountByRun,
    ResultsByRun,
    RunById,
    RunCountByLeaderboard,
    RunProgress,
    RunProgressByRun,
    RunsByLeaderboard,
)
from resolvers.paging import AnySelect, Page, PageRequest
from resolvers.where import NOTHING, ResultFilter


@requires(Scope.LEADERBOARDS_READ)
async def get_run(ctx: Context, run_id: UUID, columns: Columns = None) -> Row:
    """Return one run.

    Raises:
        NotFoundError: The workspace has no such run.
    """
    run = await ctx.loaders.get(RunById).load(run_id, columns)
    if run is None:
        raise NotFoundError(f"run {run_id} does not exist")
    return run


@requires(Scope.LEADERBOARDS_READ)
async def find_runs(
    ctx: Context, run_ids: Sequence[UUID | None], columns: Columns = None
) -> list[Row | None]:
    """Return runs by their ids; None where there is none."""
    return await ctx.loaders.get(RunById).load_many(run_ids, columns)


@requires(Scope.LEADERBOARDS_READ)
async def list_runs(
    ctx: Context, leaderboard_ids: Sequence[UUID], request: PageRequest, columns: Columns = None
) -> list[Page[Row]]:
    """Return a slice of each leaderboard's runs."""
    loader = ctx.loaders.get(RunsByLeaderboard)
    return await loader.load_pages(leaderboard_ids, request, NOTHING, columns)


@requires(Scope.LEADERBOARDS_READ)
async def count_runs(ctx: Context, leaderboard_id: UUID) -> int:
    """Return how many runs a leaderboard has had, batched."""
    return await ctx.loaders.get(RunCountByLeaderboard).load((leaderboard_id, NOTHING))


def _write_list() -> AnySelect:
    statement = select(*read_columns(Run, None)).where(
        Run.leaderboard_id == bindparam("leaderboard_id", type_=Uuid()),
        own_workspace(Run.workspace_id),
    )
    page = statement.order_by(Run.id.desc()).limit(bindparam("limit", type_=BigInteger()))
    return page.offset(bindparam("offset", type_=BigInteger()))


@requires(Scope.LEADERBOARDS_READ)
async def list_runs_by_offset(
    ctx: Context, leaderboard_id: UUID, *, limit: int, offset: int
) -> tuple[Sequence[Row], int]:
    """Return at most *limit* runs, newest first, behind *offset* others, and their total.

    Raises:
        NotFoundError: The workspace has no such leaderboard.
    """
    await get_leaderboard(ctx, leaderboard_id)
    rows = await ctx.database.fetch(
        kept_query(_write_list),
        workspace_id=ctx.workspace_id,
        leaderboard_id=leaderboard_id,
        limit=limit,
        offset=offset,
    )
    return rows, await count_runs(ctx, leaderboard_id)


@requires(Scope.LEADERBOARDS_READ)
async def list_progress(ctx: Context, run_ids: Sequence[UUID]) -> list[RunProgress]:
    """Return how far each run has come."""
    return await ctx.loaders.get(RunProgressByRun).load_many(run_ids)


@requires(Scope.LEADERBOARDS_READ)
async def list_run_candidates(
    ctx: Context, run_ids: Sequence[UUID], columns: Columns = None
) -> list[Sequence[Row]]:
    """Return the candidates that each run ranks, in its order."""
    return await ctx.loaders.get(CandidatesByRun).load_many(run_ids, columns)


@requires(Scope.LEADERBOARDS_READ)
async def list_results(
    ctx: Context,
    run_ids: Sequence[UUID],
    request: PageRequest,
    where: ResultFilter,
    columns: Columns = None,
) -> list[Page[Row]]:
    """Return a slice of each run's results."""
    is_disputed = request.order.column == "disagreement"
    loader = ctx.loaders.get(DisputedResultsByRun if is_disputed else ResultsByRun)
    return await loader.load_pages(run_ids, request, where, columns)


@requires(Scope.LEADERBOARDS_READ)
async def count_results(ctx: Context, run_id: UUID, where: ResultFilter) -> int:
    """Return how many of a run's results *where* admits, batched."""
    return await ctx.loaders.get(ResultCountByRun).load((run_id, where))


@requires(Scope.LEADERBOARDS_READ)
async def list_comparisons(ctx: Context, places: Sequence[AnswerPlace]) -> list[Sequence[Row]]:
    """Return how each answer did against the other candidates' answers to its row."""
    return await ctx.loaders.get(ComparisonsByPlace).load_many(places)
