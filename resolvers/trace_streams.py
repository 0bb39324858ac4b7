"""Traces by the thousand: whole, a bounded number of bytes at a time, each read by itself.

A reader that is slow holds no connection and no transaction, and one that goes away is read for no
further.
"""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Uuid,
    bindparam,
    desc,
    func,
    inspect,
    select,
    union,
)

from db.models import Trace, TraceHour, TraceSum, TraceText
from db.models.trace import texts_within
from db.records import Row
from resolvers.auth import Scope, requires
from resolvers.columns import WIDE, kept_query, read_columns
from resolvers.context import Context
from resolvers.leaderboards import get_leaderboard
from resolvers.loaders.base import own_workspace
from resolvers.loaders.traces import own_traces
from resolvers.paging import (
    OLDEST_FIRST,
    AnySelect,
    PageRequest,
    SliceShape,
    slice_shape,
    slice_statement,
    slice_values,
)
from resolvers.trace_filter import TraceFilter, planned
from resolvers.trace_intake import MOST_AHEAD
from resolvers.trace_search import read_in_spans

# Read at once: so many traces, and their texts as long as these are short.
STREAMED_TRACES: Final = 500
STREAMED_TEXT_BYTES: Final = 4 * 2**20
TEXTS: Final = ("input", "messages", "output", "expected")

# Every column of a trace, its texts too.
WholeTrace: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TraceListing:
    """A leaderboard's traces, newest first, in the published form.

    Attributes:
        batch_count: UTC days looked at.
        batches: The traces themselves, whole, a bounded number at a time.
    """

    batch_count: int
    batches: AsyncIterator[Sequence[WholeTrace]]


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
    oldest = [instant for instant in (where.since, *days[-1:]) if instant is not None]
    where = replace(where, leaderboard_id=leaderboard_id, since=max(oldest, default=None))
    return TraceListing(
        batch_count=len(days),
        batches=_stream(ctx, where, PageRequest(), limit=limit if days else 0, offset=offset),
    )


@requires(Scope.LEADERBOARDS_READ)
async def open_trace_export(
    ctx: Context, leaderboard_id: UUID, *, where: TraceFilter, oldest_first: bool
) -> AsyncIterator[Sequence[WholeTrace]]:
    """Return all traces of a leaderboard that *where* admits, up to those of clocks ahead of ours.

    Raises:
        NotFoundError: The workspace has no such leaderboard.
    """
    await get_leaderboard(ctx, leaderboard_id)
    # An end there must be: oldest first, it would go on as long as traces come.
    end = datetime.now(UTC) + MOST_AHEAD
    where = replace(where, leaderboard_id=leaderboard_id, until=min(where.until or end, end))
    request = PageRequest(order=OLDEST_FIRST) if oldest_first else PageRequest()
    return _stream(ctx, where, request, limit=None, offset=0)


async def _newest_days(ctx: Context, leaderboard_id: UUID, count: int) -> list[datetime]:
    """Return the newest UTC days with traces, as the sums tell."""
    past = select(TraceSum.begins_at.label("day")).where(
        TraceSum.workspace_id == ctx.workspace_id,
        TraceSum.leaderboard_id == leaderboard_id,
        TraceSum.span == "day",
    )
    present = select(func.date_trunc("day", TraceHour.hour, "UTC")).where(
        TraceHour.workspace_id == ctx.workspace_id, TraceHour.leaderboard_id == leaderboard_id
    )
    days = union(past, present).order_by(desc("day")).limit(count)
    async with ctx.database.read() as session:
        return list(await session.scalars(days))


def _write_batch(shape: SliceShape, where: TraceFilter) -> AnySelect:
    """Return the statement for traces without their texts, and how long these are."""
    # What is compressed in storage is told as it is stored; messages repeat the input.
    length = 2 * func.octet_length(func.coalesce(TraceText.input, ""))
    length += func.octet_length(func.coalesce(TraceText.output, ""))
    length += func.coalesce(func.pg_column_size(TraceText.messages), 0)
    texts = select(length).where(TraceText.id == Trace.id, texts_within())
    text_bytes = texts.correlate_except(TraceText)
    narrow = frozenset(inspect(Trace).mapper.column_attrs.keys()) - WIDE
    statement = select(
        *read_columns(Trace, narrow), text_bytes.scalar_subquery().label("text_bytes")
    )
    statement = where.narrow(statement.where(own_traces()), Trace)
    batch = slice_statement(statement, Trace, shape)
    return planned(batch.offset(bindparam("offset", type_=BigInteger())), where)


def _write_texts() -> AnySelect:
    """Return the statement for the texts of some traces, which lie next to each other."""
    return select(TraceText.id, *(getattr(TraceText, name) for name in TEXTS)).where(
        TraceText.id == bindparam("trace_ids", type_=ARRAY(Uuid())).any_(),
        texts_within(),
        own_workspace(TraceText.workspace_id),
    )


async def _stream(
    ctx: Context, where: TraceFilter, request: PageRequest, *, limit: int | None, offset: int
) -> AsyncIterator[Sequence[WholeTrace]]:
    """Yield whole traces, as many as *limit* behind the first *offset*, some at a time."""
    left = limit
    while left is None or left > 0:
        size = STREAMED_TRACES if left is None else min(left, STREAMED_TRACES)
        request = replace(request, size=size)
        traces = await _read_batch(ctx, where, request, offset)
        for some in _some_at_a_time(traces):
            yield await _with_texts(ctx, some)
        if len(traces) < size:
            return
        left = None if left is None else left - size
        offset = 0
        last = traces[-1].id
        request = replace(request, after=(last, last))


async def _read_batch(
    ctx: Context, where: TraceFilter, request: PageRequest, offset: int
) -> Sequence[Row]:
    """Return the next traces without their texts; none is passed over but the first *offset*."""
    traces: list[Row] = []

    async def read(part: TraceFilter) -> tuple[int, int]:
        query = kept_query(_write_batch, slice_shape(request), part.shape())
        values = {**slice_values(request), **part.values()}
        values |= {"slice_size": request.size - len(traces), "offset": offset}
        found = await ctx.database.fetch(query, **ctx.trace_values, **values)
        traces.extend(found)
        return len(found), request.size - len(traces)

    if offset:  # which is one of all spans together
        await read(where)
    else:
        await read_in_spans(where, request, ctx.oldest_trace_id, read)
    return traces


def _some_at_a_time(traces: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Yield *traces* in groups whose texts are short together, or in one whose text is not."""
    some: list[Row] = []
    size_bytes = 0
    for trace in traces:
        text_bytes = trace["text_bytes"] or 0
        if some and size_bytes + text_bytes > STREAMED_TEXT_BYTES:
            yield some
            some, size_bytes = [], 0
        some.append(trace)
        size_bytes += text_bytes
    if some:
        yield some


async def _with_texts(ctx: Context, traces: Sequence[Row]) -> list[WholeTrace]:
    ids = [trace.id for trace in traces]
    texts = await ctx.database.fetch(
        kept_query(_write_texts),
        trace_ids=ids,
        texts_from=min(ids),
        texts_to=max(ids),
        workspace_id=ctx.workspace_id,
    )
    text_of = {text["id"]: text for text in texts}
    absent: Mapping[str, Any] = dict.fromkeys(TEXTS)
    return [dict([*row.items(), *text_of.get(row["id"], absent).items()]) for row in traces]
