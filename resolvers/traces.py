"""Trace use cases: what every model call was asked, answered and cost."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func, select

from db.models import Trace
from db.records import Row
from resolvers.auth import Scope, requires
from resolvers.columns import ID_ALONE, Columns, is_wide, kept_query, read_columns
from resolvers.context import Context
from resolvers.errors import NotFoundError
from resolvers.loaders.traces import (
    TraceById,
    TraceCountByLeaderboard,
    TracesByLeaderboard,
    own_traces,
)
from resolvers.paging import (
    AnySelect,
    Page,
    PageRequest,
    SliceShape,
    cut_page,
    slice_shape,
    slice_statement,
    slice_values,
)
from resolvers.trace_filter import TraceFilter, around, planned, planned_for_values
from resolvers.trace_search import read_in_spans


@requires(Scope.LEADERBOARDS_READ)
async def get_trace(ctx: Context, trace_id: UUID, columns: Columns = None) -> Row:
    """Return one trace.

    Raises:
        NotFoundError: The workspace has no such trace.
    """
    trace = await ctx.loaders.get(TraceById).load(trace_id, columns)
    if trace is None:
        raise NotFoundError(f"trace {trace_id} does not exist")
    return trace


@requires(Scope.LEADERBOARDS_READ)
async def find_traces(
    ctx: Context, trace_ids: Sequence[UUID | None], columns: Columns = None
) -> list[Row | None]:
    """Return traces by their ids; None where there is none."""
    return await ctx.loaders.get(TraceById).load_many(trace_ids, columns)


@requires(Scope.LEADERBOARDS_READ)
async def list_leaderboard_traces(
    ctx: Context,
    leaderboard_ids: Sequence[UUID],
    request: PageRequest,
    where: TraceFilter,
    columns: Columns = None,
) -> list[Page[Row]]:
    """Return a slice of each leaderboard's traces."""
    loader = ctx.loaders.get(TracesByLeaderboard)
    return await loader.load_pages(leaderboard_ids, request, where, columns)


def _write_list(columns: Columns, shape: SliceShape, where: TraceFilter) -> AnySelect:
    own = read_columns(Trace, columns, always=("id", shape.order.column))
    statement = select(*own).where(own_traces())
    return planned(slice_statement(where.narrow(statement, Trace), Trace, shape), where)


@requires(Scope.LEADERBOARDS_READ)
async def list_traces(
    ctx: Context, request: PageRequest, where: TraceFilter, columns: Columns = None
) -> Page[Row]:
    """Return a slice of the workspace's traces."""
    if is_wide(columns) and where.search is None:
        found = await _read_list(ctx, request, where, ID_ALONE)
        where = around(where, [row.id for row in found])
    return cut_page(await _read_list(ctx, request, where, columns), request)


async def _read_list(
    ctx: Context, request: PageRequest, where: TraceFilter, columns: Columns
) -> list[Row]:
    rows: list[Row] = []

    async def read(part: TraceFilter) -> tuple[int, int]:
        query = kept_query(_write_list, columns, slice_shape(request), part.shape())
        values = {**slice_values(request), **part.values()}
        found = await ctx.database.fetch(query, **ctx.trace_values, **values)
        rows.extend(found[: request.size + 1 - len(rows)])
        return len(found), request.size + 1 - len(rows)

    await read_in_spans(where, request, ctx.oldest_trace_id, read)
    return rows


def _write_count(where: TraceFilter) -> AnySelect:
    statement = select(func.count().label("count")).select_from(Trace)
    return planned_for_values(where.narrow(statement.where(own_traces()), Trace), where)


@requires(Scope.LEADERBOARDS_READ)
async def count_traces(ctx: Context, where: TraceFilter) -> int:
    """Return how many of the workspace's traces *where* admits."""
    query = kept_query(_write_count, where.shape())
    (row,) = await ctx.database.fetch(query, **ctx.trace_values, **where.values())
    return int(row["count"])


@requires(Scope.LEADERBOARDS_READ)
async def count_leaderboard_traces(ctx: Context, leaderboard_id: UUID, where: TraceFilter) -> int:
    """Return how many of a leaderboard's traces *where* admits, batched."""
    return await ctx.loaders.get(TraceCountByLeaderboard).load((leaderboard_id, where))
