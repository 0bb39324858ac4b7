"""Searching traces a span of time after the other, which ends as soon as there are enough.

The index of words knows no order: all that a day has of a word would be read, and every day, for
the fifty newest. So the last five minutes are searched first, and then what is before them, in
spans as long as it seems to take.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from db.base import MILLISECOND, instant_of
from resolvers.paging import PageRequest
from resolvers.trace_filter import TraceFilter

# No span is shorter.
FIRST_SPAN: Final = timedelta(minutes=5)
# The next span is for so many times what is missing, if they stay as frequent.
MARGIN: Final = 2
# And at most so many times as long as the last one, where that had some, and where it had none.
GROWTH: Final = 4
GROWTH_WITHOUT_ANY: Final = 16
# Ids are of the time that a client told, which may be ahead.
AHEAD: Final = timedelta(days=2)


async def read_in_spans(
    where: TraceFilter,
    request: PageRequest,
    oldest_trace_id: UUID,
    read: Callable[[TraceFilter], Awaitable[tuple[int, int]]],
) -> None:
    """Read what *where* admits, span by span where it searches, else at once.

    Args:
        where: What is asked for.
        request: Which slice of it, in the order of ids.
        oldest_trace_id: Where traces begin.
        read: Reads a part; returns how many of those that were missing it found there, and how
            many still are.
    """
    if where.search is None:
        await read(where)
        return
    low, high = _bounds(where, request, oldest_trace_id)
    descending = request.order.descending != request.backward
    # Nearly all traces are of the past: that is where the first span is.
    edge = min(high, datetime.now(UTC)) if descending else low
    span, ended = FIRST_SPAN, False
    begin, end = (edge, high) if descending else (low, edge)
    while not ended:
        if descending:
            begin = max(edge - span, low)
            ended = begin <= low
        else:
            ended = high - edge <= span
            end = high if ended else edge + span
        found, missing = await read(replace(where, since=begin, until=end))
        if not missing:
            return
        edge = begin if descending else end
        begin, end = (begin, begin) if descending else (end, end)
        growth = min(MARGIN * missing / found, GROWTH) if found else GROWTH_WITHOUT_ANY
        span = max(span * growth, FIRST_SPAN)


def _bounds(
    where: TraceFilter, request: PageRequest, oldest_trace_id: UUID
) -> tuple[datetime, datetime]:
    """Return between which instants the slice must lie, the later one excluded."""
    now = datetime.now(UTC)
    lows = [instant_of(oldest_trace_id), where.since]
    highs = [now + AHEAD, where.until]
    for mark, is_after in ((request.after, True), (request.before, False)):
        if mark is not None:
            _, trace_id = mark
            beyond = is_after == request.order.descending
            (highs if beyond else lows).append(
                instant_of(trace_id) + (MILLISECOND if beyond else timedelta(0))
            )
    return (
        max(instant for instant in lows if instant is not None),
        min(instant for instant in highs if instant is not None),
    )
