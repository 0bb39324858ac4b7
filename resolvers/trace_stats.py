"""Statistics of traces over time: read from sums alone, however many traces there were."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final
from uuid import UUID

from db.base import EPOCH, instant_of
from db.models.trace import ALL_BOARDS
from db.records import Query, Row
from engine.instants import rfc3339
from engine.latency_buckets import quantiles_ms
from resolvers.auth import Scope, requires
from resolvers.context import Context
from resolvers.errors import InvalidInputError, NotFoundError
from resolvers.inputs import TraceStatsQuery
from resolvers.leaderboards import get_leaderboard
from resolvers.trace_storage import SUMS

MAX_POINTS: Final = 2_000
SPANS: Final = {"hour": timedelta(hours=1), "day": timedelta(days=1)}
# Behind it, no hour and no day ends before time does.
LAST_DAY: Final = datetime(9999, 12, 31, tzinfo=UTC)
SHARES: Final = (0.5, 0.95, 0.99)
NAMES: Final = (
    "workspace_id", "leaderboard_ids", "interval", "since", "until", "by", "source", "model",
    "all_boards",
)  # fmt: skip


def _write_stats() -> Query:
    """Return the statement: the sums of past hours and what has been stored since, put together."""
    parameter = {name: f"${place}" for place, name in enumerate(NAMES, start=1)}
    sums = ", ".join(SUMS)
    admitted = f"""
        workspace_id = {parameter["workspace_id"]}::uuid
        AND ({parameter["source"]}::text IS NULL OR source = {parameter["source"]})
        AND ({parameter["model"]}::text IS NULL OR model = {parameter["model"]})
    """
    series = f"CASE {parameter['by']}::text WHEN 'model' THEN model WHEN 'source' THEN source END"
    added = ", ".join(
        f"sum({name}) AS {name}" if name == "cost_usd" else f"sum({name})::bigint AS {name}"
        for name in SUMS
    )
    text = f"""
    WITH part AS MATERIALIZED (
        SELECT leaderboard_id, begins_at, {series} AS series, {sums}, buckets, bucket_counts
        FROM trace_sum
        WHERE {admitted}
          AND leaderboard_id = ANY({parameter["leaderboard_ids"]}::uuid[])
          AND span = {parameter["interval"]}
          AND begins_at >= {parameter["since"]}::timestamptz
          AND begins_at < {parameter["until"]}::timestamptz
        UNION ALL
        SELECT board, date_trunc({parameter["interval"]}, hour, 'UTC'), {series}, {sums},
            ARRAY[bucket], ARRAY[trace_count]
        FROM trace_hour CROSS JOIN LATERAL unnest({parameter["leaderboard_ids"]}::uuid[]) AS board
        WHERE {admitted}
          AND (board = leaderboard_id OR board = {parameter["all_boards"]}::uuid)
          AND hour >= {parameter["since"]} AND hour < {parameter["until"]}
    ), counted AS (
        SELECT leaderboard_id, begins_at, series, bucket, sum(count)::bigint AS count
        FROM part CROSS JOIN LATERAL unnest(buckets, bucket_counts) AS each(bucket, count)
        GROUP BY leaderboard_id, begins_at, series, bucket
    ), latency AS (
        SELECT leaderboard_id, begins_at, series, array_agg(bucket ORDER BY bucket) AS buckets,
            array_agg(count ORDER BY bucket) AS bucket_counts
        FROM counted GROUP BY leaderboard_id, begins_at, series
    ), total AS (
        SELECT leaderboard_id, begins_at, series, {added}
        FROM part GROUP BY leaderboard_id, begins_at, series
    )
    SELECT total.*, buckets, bucket_counts
    FROM total JOIN latency ON latency.leaderboard_id = total.leaderboard_id
        AND latency.begins_at = total.begins_at
        AND latency.series IS NOT DISTINCT FROM total.series
    ORDER BY begins_at, series LIMIT {MAX_POINTS + 1}
    """  # noqa: S608 - of our own columns' names
    return Query(text, NAMES, {})


STATS: Final = _write_stats()


@dataclass(frozen=True, slots=True)
class TraceStatsPoint:
    """What the traces of an hour or a day come to.

    Attributes:
        begins_at: In UTC.
        model: Whose, where points are told apart by it; empty when it is not known.
        source: What they were made for, where points are told apart by it.
        latency_ms_p50: Within 2.5% of the true one, as those that follow.
        cost_usd: Of those whose cost is known.
        unpriced_count: Those whose cost is not known.
    """

    begins_at: datetime
    model: str | None
    source: str | None
    count: int
    error_count: int
    latency_ms_p50: float
    latency_ms_p95: float
    latency_ms_p99: float
    prompt_tokens: int
    completion_tokens: int
    cost_usd: Decimal
    unpriced_count: int


@requires(Scope.LEADERBOARDS_READ)
async def get_workspace_stats(
    ctx: Context, workspace_id: UUID, query: TraceStatsQuery
) -> Sequence[TraceStatsPoint]:
    """Return statistics of the workspace's traces, by time and then by name.

    Intervals without traces have no point.

    Raises:
        InvalidInputError: The time is none, or there are too many points.
        NotFoundError: It is not the workspace that the caller works in.
    """
    if workspace_id != ctx.workspace_id:
        raise NotFoundError(
            f"statistics of workspace {workspace_id} are told within it: choose it with "
            "X-Workspace-Id"
        )
    (points,) = await _read_stats(ctx, [ALL_BOARDS], query)
    return points


@requires(Scope.LEADERBOARDS_READ)
async def get_leaderboard_stats(
    ctx: Context, leaderboard_id: UUID, query: TraceStatsQuery
) -> Sequence[TraceStatsPoint]:
    """Return statistics of one leaderboard's traces, as `get_workspace_stats` does.

    Raises:
        InvalidInputError: The time is none, or there are too many points.
        NotFoundError: The workspace has no such leaderboard.
    """
    await get_leaderboard(ctx, leaderboard_id)
    (points,) = await _read_stats(ctx, [leaderboard_id], query)
    return points


@requires(Scope.LEADERBOARDS_READ)
async def list_leaderboard_stats(
    ctx: Context, leaderboard_ids: Sequence[UUID], query: TraceStatsQuery
) -> Sequence[Sequence[TraceStatsPoint]]:
    """Return statistics of each leaderboard's traces, as `get_workspace_stats` does.

    Raises:
        InvalidInputError: The time is none, or there are too many points for all of them.
    """
    return await _read_stats(ctx, leaderboard_ids, query)


async def _read_stats(
    ctx: Context, leaderboard_ids: Sequence[UUID], query: TraceStatsQuery
) -> list[list[TraceStatsPoint]]:
    since, until = _span_of(ctx, query)
    rows = await ctx.database.fetch(
        STATS,
        workspace_id=ctx.workspace_id,
        leaderboard_ids=list(dict.fromkeys(leaderboard_ids)),
        interval=query.interval,
        since=since,
        until=until,
        by=query.by,
        source=query.source,
        model=query.model,
        all_boards=ALL_BOARDS,
    )
    if len(rows) > MAX_POINTS:
        raise InvalidInputError(
            f"by: there are more than {MAX_POINTS} points by {query.by}; ask for a shorter time, "
            "longer intervals or fewer leaderboards"
        )
    points: dict[UUID, list[TraceStatsPoint]] = {board_id: [] for board_id in leaderboard_ids}
    for row in rows:
        points[row["leaderboard_id"]].append(_point_of(row, query.by))
    return [points[board_id] for board_id in leaderboard_ids]


def _span_of(ctx: Context, query: TraceStatsQuery) -> tuple[datetime, datetime]:
    """Return the whole intervals that are asked for, of the time that traces are kept.

    Raises:
        InvalidInputError: They are none, or too many.
    """
    span = SPANS[query.interval]
    until = query.until or datetime.now(UTC)
    since = query.since or until - timedelta(days=1)
    if since >= until:
        raise InvalidInputError(
            f"since: must be before until, {rfc3339(until)} (got {rfc3339(since)})"
        )
    first = max(_begin(since, span), _begin(instant_of(ctx.oldest_trace_id), span))
    end = min(until, LAST_DAY)
    after = _begin(end, span) + (timedelta(0) if end == _begin(end, span) else span)
    if (after - first) / span > MAX_POINTS:
        raise InvalidInputError(
            f"since: {rfc3339(since)} is more than {MAX_POINTS} intervals of one {query.interval} "
            f"before {rfc3339(until)}"
        )
    return first, after


def _begin(instant: datetime, span: timedelta) -> datetime:
    """Return the beginning of the hour or the UTC day that *instant* is in."""
    return EPOCH + (instant - EPOCH) // span * span


def _point_of(row: Row, by: str) -> TraceStatsPoint:
    p50, p95, p99 = quantiles_ms(row["buckets"], row["bucket_counts"], SHARES)
    return TraceStatsPoint(
        begins_at=row["begins_at"],
        model=row["series"] if by == "model" else None,
        source=row["series"] if by == "source" else None,
        count=row["trace_count"],
        error_count=row["error_count"],
        latency_ms_p50=p50,
        latency_ms_p95=p95,
        latency_ms_p99=p99,
        prompt_tokens=row["prompt_tokens"],
        completion_tokens=row["completion_tokens"],
        cost_usd=row["cost_usd"],
        unpriced_count=row["unpriced_count"],
    )
