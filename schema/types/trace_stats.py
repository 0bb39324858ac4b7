"""The TraceStatsPoint object type, and the arguments of fields that return them."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated

import strawberry

from db.models import Workspace as WorkspaceRow
from db.records import Row
from resolvers import trace_stats
from resolvers.inputs import TraceStatsQuery
from resolvers.trace_stats import TraceStatsPoint as Point
from schema.context import Info
from schema.enums import StatsInterval, StatsSeries, TraceSource

Since = Annotated[
    datetime | None,
    strawberry.argument(
        description="From the hour, or the UTC day, that this is in; a day before until when left "
        "out."
    ),
]
Until = Annotated[
    datetime | None,
    strawberry.argument(
        description="To the end of the hour, or the UTC day, that is under way then; now when left "
        "out."
    ),
]
Interval = Annotated[StatsInterval, strawberry.argument(description="What a point spans.")]
By = Annotated[StatsSeries, strawberry.argument(description="What else points are told apart by.")]
Source = Annotated[
    TraceSource | None, strawberry.argument(description="Of traces made for this alone.")
]
Model = Annotated[str | None, strawberry.argument(description="Of traces of this model alone.")]


@strawberry.type(description="What the model calls of an hour or a UTC day come to.")
class TraceStatsPoint:
    """Over `resolvers.trace_stats.TraceStatsPoint`."""

    begins_at: datetime = strawberry.field(description="When the hour or the day begins.")
    model: str | None = strawberry.field(description="Whose, by MODEL; empty when not known.")
    source: TraceSource | None = strawberry.field(description="Made for what, by SOURCE.")
    count: int = strawberry.field(description="How many there were.")
    error_count: int = strawberry.field(description="Those that failed.")
    latency_ms_p50: float = strawberry.field(
        description="The median latency; within 2.5% of the true one, as the other percentiles.",
    )
    latency_ms_p95: float = strawberry.field(description="The latency that 95% stay within.")
    latency_ms_p99: float = strawberry.field(description="The latency that 99% stay within.")
    prompt_tokens: float = strawberry.field(description="Tokens sent.")
    completion_tokens: float = strawberry.field(description="Tokens generated.")
    cost_usd: Decimal = strawberry.field(description="US dollars, of those whose cost is known.")
    unpriced_count: int = strawberry.field(description="Those whose cost is not known.")


def _read(
    since: datetime | None,
    until: datetime | None,
    interval: StatsInterval,
    by: StatsSeries,
    source: TraceSource | None,
    model: str | None,
) -> TraceStatsQuery:
    given = {
        "since": since,
        "until": until,
        "interval": interval.value,
        "by": by.value,
        "source": source.value if source else None,
        "model": model,
    }
    return TraceStatsQuery.model_validate(given)


async def leaderboard_stats(
    roots: Sequence[Row],
    info: Info,
    *,
    since: Since = None,
    until: Until = None,
    interval: Interval = StatsInterval.HOUR,
    by: By = StatsSeries.NONE,
    source: Source = None,
    model: Model = None,
) -> Sequence[Sequence[Point]]:
    """Return statistics of each one's traces."""
    query = _read(since, until, interval, by, source, model)
    return await trace_stats.list_leaderboard_stats(
        info.context.ctx, [root.id for root in roots], query
    )


async def workspace_stats(
    root: strawberry.Parent[WorkspaceRow],
    info: Info,
    *,
    since: Since = None,
    until: Until = None,
    interval: Interval = StatsInterval.HOUR,
    by: By = StatsSeries.NONE,
    source: Source = None,
    model: Model = None,
) -> Sequence[Point]:
    """Return statistics of the workspace's traces."""
    query = _read(since, until, interval, by, source, model)
    return await trace_stats.get_workspace_stats(info.context.ctx, root.id, query)
