"""Trace use cases: what every model call was asked, answered and cost."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, func, select

from db.models import Trace
from resolvers.auth import Scope, requires
from resolvers.context import Context
from resolvers.errors import NotFoundError
from resolvers.leaderboards import get_leaderboard
from resolvers.loaders.traces import (
    TraceBodyById,
    TraceById,
    TraceCountByLeaderboard,
    TraceFilter,
    TracesByLeaderboard,
    TraceText,
    narrow_traces,
    utc_day,
)
from resolvers.paging import Order, Page, PageRequest, cut_page, slice_statement

# Traces held at once while a listing is streamed out.
STREAMED_TRACES = 100

TRACE_ORDER = Order(column="created_at", parse=datetime.fromisoformat, descending=True)


@requires(Scope.LEADERBOARDS_READ)
async def get_trace(ctx: Context, trace_id: UUID) -> Trace:
    """Return one trace, without its texts.

    Raises:
        NotFoundError: The workspace has no such trace.
    """
    trace = await find_trace(ctx, trace_id)
    if trace is None:
        raise NotFoundError(f"trace {trace_id} does not exist")
    return trace


@requires(Scope.LEADERBOARDS_READ)
async def find_trace(ctx: Context, trace_id: UUID) -> Trace | None:
    """Return a trace without its texts, batched, or None when there is none."""
    return await ctx.loaders.get(TraceById).load(trace_id)


@requires(Scope.LEADERBOARDS_READ)
async def get_trace_text(ctx: Context, trace_id: UUID) -> TraceText:
    """Return a trace's texts, batched; they are wide and read only when asked for."""
    return await ctx.loaders.get(TraceBodyById).load(trace_id)


@requires(Scope.LEADERBOARDS_READ)
async def list_leaderboard_traces(
    ctx: Context, leaderboard_id: UUID, request: PageRequest, where: TraceFilter
) -> Page[Trace]:
    """Return a slice of a leaderboard's traces without their texts, batched."""
    return await ctx.loaders.get(TracesByLeaderboard).load((leaderboard_id, request, where))


@requires(Scope.LEADERBOARDS_READ)
async def list_traces(ctx: Context, request: PageRequest, where: TraceFilter) -> Page[Trace]:
    """Return a slice of the workspace's traces, without their texts."""
    statement = narrow_traces(select(Trace), where).where(Trace.workspace_id == ctx.workspace_id)
    statement = slice_statement(statement, Trace, request)
    async with ctx.database.read() as session:
        rows = (await session.scalars(statement.options(*TracesByLeaderboard.narrow(Trace)))).all()
    return cut_page(rows, request)


@requires(Scope.LEADERBOARDS_READ)
async def count_traces(ctx: Context, where: TraceFilter) -> int:
    """Return how many of the workspace's traces *where* admits."""
    statement = narrow_traces(select(func.count()).select_from(Trace), where)
    async with ctx.database.read() as session:
        total = await session.scalar(statement.where(Trace.workspace_id == ctx.workspace_id))
    return total or 0


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
    batches: AsyncIterator[Sequence[Trace]]


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
    statement = narrow_traces(select(Trace), where).where(
        Trace.workspace_id == ctx.workspace_id, Trace.leaderboard_id == leaderboard_id
    )
    if days:
        statement = statement.where(Trace.created_at >= days[-1])
    return TraceListing(
        batch_count=len(days),
        batches=_stream(ctx, statement, limit=limit if days else 0, offset=offset),
    )


async def _newest_days(ctx: Context, leaderboard_id: UUID, count: int) -> list[datetime]:
    """Return the newest UTC days with traces, by hopping down the index from day to day."""

    def newest(before: Any) -> Any:
        statement = (
            select(utc_day(Trace.created_at))
            .where(Trace.workspace_id == ctx.workspace_id, Trace.leaderboard_id == leaderboard_id)
            .order_by(Trace.created_at.desc())
            .limit(1)
        )
        return statement if before is None else statement.where(Trace.created_at < before)

    walk = select(newest(None).scalar_subquery().label("day")).cte("walk", recursive=True)
    walk = walk.union_all(
        select(newest(walk.c.day).correlate(walk).scalar_subquery()).where(walk.c.day.is_not(None))
    )
    statement = select(walk.c.day).where(walk.c.day.is_not(None)).limit(count)
    async with ctx.database.read() as session:
        return list(await session.scalars(statement))


async def _stream(
    ctx: Context, statement: Select[Trace], *, limit: int, offset: int
) -> AsyncIterator[Sequence[Trace]]:
    """Yield traces a batch at a time, each from a session of its own.

    A reader that is slow then holds no connection.
    """
    left, request = limit, PageRequest(size=0, order=TRACE_ORDER)
    while left > 0:
        request = PageRequest(
            size=min(left, STREAMED_TRACES), order=TRACE_ORDER, after=request.after
        )
        page = slice_statement(statement, Trace, request).offset(offset)
        async with ctx.database.read() as session:
            rows = cut_page((await session.scalars(page)).all(), request)
        if rows.rows:
            yield rows.rows
        if not rows.has_next:
            return
        left -= len(rows.rows)
        offset = 0
        request = PageRequest(order=TRACE_ORDER, after=(rows.rows[-1].created_at, rows.rows[-1].id))
