"""Trace use cases: what every model call was asked, answered and cost."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, bindparam, func, inspect, select

from db.models import Trace, TraceHour
from db.records import Row
from resolvers.auth import Scope, requires
from resolvers.columns import Columns, kept_query, read_columns
from resolvers.context import Context
from resolvers.errors import NotFoundError
from resolvers.leaderboards import get_leaderboard
from resolvers.loaders.base import own_workspace
from resolvers.loaders.traces import (
    TraceById,
    TraceCountByLeaderboard,
    TracesByLeaderboard,
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
from resolvers.where import TraceFilter

# Traces held at once while a listing is streamed out.
STREAMED_TRACES = 100


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
    statement = select(*own).where(own_workspace(Trace.workspace_id))
    return slice_statement(where.narrow(statement, Trace), Trace, shape)


@requires(Scope.LEADERBOARDS_READ)
async def list_traces(
    ctx: Context, request: PageRequest, where: TraceFilter, columns: Columns = None
) -> Page[Row]:
    """Return a slice of the workspace's traces."""
    query = kept_query(_write_list, columns, slice_shape(request), where.shape())
    values = {**slice_values(request), **where.values()}
    rows = await ctx.database.fetch(query, workspace_id=ctx.workspace_id, **values)
    return cut_page(rows, request)


def _write_count(where: TraceFilter) -> AnySelect:
    statement = select(func.count().label("count")).select_from(Trace)
    return where.narrow(statement.where(own_workspace(Trace.workspace_id)), Trace)


@requires(Scope.LEADERBOARDS_READ)
async def count_traces(ctx: Context, where: TraceFilter) -> int:
    """Return how many of the workspace's traces *where* admits."""
    query = kept_query(_write_count, where.shape())
    (row,) = await ctx.database.fetch(query, workspace_id=ctx.workspace_id, **where.values())
    return int(row["count"])


@requires(Scope.LEADERBOARDS_READ)
async def count_leaderboard_traces(ctx: Context, leaderboard_id: UUID, where: TraceFilter) -> int:
    """Return how many of a leaderboard's traces *where* admits, batched."""
    return await ctx.loaders.get(TraceCountByLeaderboard).load((leaderboard_id, where))


@dataclass(frozen=True, slots=True)
class TraceListing:
    """A leaderboard's traces, newest first, in the published form.

    Attributes:
        batch_count: UTC days looked at.
        batches: The traces themselves, whole, a bounded number at a time.
    """

    batch_count: int
    batches: AsyncIterator[Sequence[Row]]


@requires(Scope.LEADERBOARDS_READ)
async def open_trace_listing(
    ctx: Context,
    leaderboard_id: UUID,
    *,
    where: TraceFilter,
    limit: int,
    offset: int,
    batch_limit: int,
) -> TraceListing:
    """List a leaderboard's traces over its newest *batch_limit* UTC days.

    Args:
        ctx: Who asks.
        leaderboard_id: Whose traces.
        where: Which of them.
        limit: Traces at most.
        offset: Traces to pass over first.
        batch_limit: Days with traces to look at, at most.

    Raises:
        NotFoundError: The workspace has no such leaderboard.
    """
    await get_leaderboard(ctx, leaderboard_id)
    days = await _newest_days(ctx, leaderboard_id, batch_limit)
    since = days[-1] if days else None
    where = replace(where, leaderboard_id=leaderboard_id, since=since)
    return TraceListing(
        batch_count=len(days),
        batches=_stream(ctx, where, limit=limit if days else 0, offset=offset),
    )


async def _newest_days(ctx: Context, leaderboard_id: UUID, count: int) -> list[datetime]:
    """Return the newest UTC days with traces, by hopping down the hours' index from day to day."""

    def newest(before: Any) -> Any:
        statement = (
            select(func.date_trunc("day", TraceHour.hour, "UTC"))
            .where(
                TraceHour.workspace_id == ctx.workspace_id,
                TraceHour.leaderboard_id == leaderboard_id,
            )
            .order_by(TraceHour.hour.desc())
            .limit(1)
        )
        return statement if before is None else statement.where(TraceHour.hour < before)

    walk = select(newest(None).scalar_subquery().label("day")).cte("walk", recursive=True)
    walk = walk.union_all(
        select(newest(walk.c.day).correlate(walk).scalar_subquery()).where(walk.c.day.is_not(None))
    )
    statement = select(walk.c.day).where(walk.c.day.is_not(None)).limit(count)
    async with ctx.database.read() as session:
        return list(await session.scalars(statement))


def _write_batch(shape: SliceShape, where: TraceFilter) -> AnySelect:
    whole = inspect(Trace).mapper.column_attrs.keys()
    statement = select(*read_columns(Trace, frozenset(whole)))
    statement = where.narrow(statement.where(own_workspace(Trace.workspace_id)), Trace)
    batch = slice_statement(statement, Trace, shape)
    return batch.offset(bindparam("offset", type_=BigInteger()))


async def _stream(
    ctx: Context, where: TraceFilter, *, limit: int, offset: int
) -> AsyncIterator[Sequence[Row]]:
    """Yield whole traces a batch at a time, each read by itself.

    A reader that is slow then holds no connection.
    """
    left, request = limit, PageRequest(size=0)
    while left > 0:
        request = replace(request, size=min(left, STREAMED_TRACES))
        query = kept_query(_write_batch, slice_shape(request), where.shape())
        values = {**slice_values(request), **where.values()}
        page = cut_page(
            await ctx.database.fetch(query, workspace_id=ctx.workspace_id, offset=offset, **values),
            request,
        )
        if page.rows:
            yield page.rows
        if not page.has_next:
            return
        left -= len(page.rows)
        offset = 0
        last = page.rows[-1]
        request = replace(request, after=(last.id, last.id))
