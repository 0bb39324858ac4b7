"""Upkeep of traces: days made, indexed and dropped, hours put together, words found."""

import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import TextClause, select, text

from db.base import first_id_at, instant_of
from db.models import Workspace
from db.models.trace import ALL_BOARDS
from db.partitions import create_days, day_of, drop_days, index_days, next_days
from resolvers.auth import SYSTEM, requires
from resolvers.context import Context
from resolvers.trace_storage import SUMS
from resolvers.trace_words import WORDS

log = logging.getLogger("gero")

DAYS_AHEAD: Final = 4  # today, and the three after it
# Rows that one transaction deletes or puts together: an instant's work, which nobody waits for.
BATCH_ROWS: Final = 5_000
# Traces whose words are found in one transaction: some tenths of a second's work.
BATCH_TEXTS: Final = 200
# The sweep that finds them comes back after a minute.
LONGEST_SECONDS: Final = 50.0
# What is taken at the last moment may be stored for so long after it.
LATENESS: Final = timedelta(minutes=10)

FIND_OLD = text("""
SELECT id FROM trace WHERE workspace_id = :workspace_id AND id > :after AND id < :before
ORDER BY id LIMIT :batch
""")
# The bounds tell which days they are in; the planner can't see it from an array alone.
DELETE_TRACES = text("DELETE FROM trace WHERE id = ANY(:ids) AND id >= :first AND id <= :last")
DELETE_TEXTS = text("DELETE FROM trace_text WHERE id = ANY(:ids) AND id >= :first AND id <= :last")
DELETE_WORDS = text("DELETE FROM trace_words WHERE id = ANY(:ids) AND id >= :first AND id <= :last")
TAKE_UNSEARCHED = text("""
DELETE FROM trace_unsearched WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM trace_unsearched LIMIT :batch FOR UPDATE SKIP LOCKED
)) RETURNING id
""")
STORE_WORDS = text(f"""
INSERT INTO trace_words (id, workspace_id, words)
SELECT id, workspace_id, {WORDS} FROM trace_text
WHERE id = ANY(:ids) AND id >= :first AND id <= :last
ON CONFLICT (id) DO UPDATE SET words = EXCLUDED.words
""")  # noqa: S608 - of our own constants
DELETE_FEEDBACK = text("""
DELETE FROM trace_feedback WHERE id IN (
    SELECT id FROM trace_feedback WHERE workspace_id = :workspace_id AND trace_id < :before
    LIMIT :batch
) RETURNING 1
""")
DELETE_SUMS = text("""
DELETE FROM trace_sum WHERE workspace_id = :workspace_id
AND begins_at < date_trunc(span, :before, 'UTC')
""")


def _write_putting_together() -> TextClause:
    """Return the statement that makes rows of hours that are over a part of the sums.

    It waits for nobody: a row that is being added to is left for the next time. The sums that a row
    belongs to are taken out, and put back with it: by the hour and by the day, of its leaderboard
    and of the whole workspace.
    """
    series = "source, provider, model"
    keys = f"workspace_id, leaderboard_id, span, begins_at, {series}"
    sums = ", ".join(SUMS)
    added = ", ".join(f"sum({name}) AS {name}" for name in SUMS)
    return text(f"""
    WITH old AS (
        SELECT ctid FROM trace_hour WHERE hour < :hour LIMIT :batch FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM trace_hour WHERE ctid = ANY(ARRAY(SELECT ctid FROM old)) RETURNING *
    ), fresh AS (
        SELECT workspace_id, board AS leaderboard_id, span, begins_at, {series}, bucket, {sums}
        FROM gone CROSS JOIN LATERAL (VALUES
            (leaderboard_id, 'hour', hour),
            (leaderboard_id, 'day', date_trunc('day', hour, 'UTC')),
            ('{ALL_BOARDS}', 'hour', hour),
            ('{ALL_BOARDS}', 'day', date_trunc('day', hour, 'UTC'))
        ) AS part(board, span, begins_at)
    ), kept AS (
        DELETE FROM trace_sum USING (SELECT DISTINCT {keys} FROM fresh) AS touched
        WHERE ({_of("trace_sum", keys)}) = ({_of("touched", keys)})
        RETURNING trace_sum.*
    ), whole AS (
        SELECT {keys}, {added}
        FROM (SELECT {keys}, {sums} FROM fresh UNION ALL SELECT {keys}, {sums} FROM kept) AS every
        GROUP BY {keys}
    ), latencies AS (
        SELECT {keys}, array_agg(bucket ORDER BY bucket) AS buckets,
            array_agg(count ORDER BY bucket) AS bucket_counts
        FROM (
            SELECT {keys}, bucket, sum(count)::bigint AS count FROM (
                SELECT {keys}, bucket, trace_count AS count FROM fresh
                UNION ALL
                SELECT {keys}, bucket, count FROM kept
                CROSS JOIN LATERAL unnest(buckets, bucket_counts) AS part(bucket, count)
            ) AS every GROUP BY {keys}, bucket
        ) AS counted GROUP BY {keys}
    ), stored AS (
        INSERT INTO trace_sum ({keys}, {sums}, buckets, bucket_counts)
        SELECT {keys}, {sums}, buckets, bucket_counts FROM whole JOIN latencies USING ({keys})
    )
    SELECT count(*) FROM gone
    """)  # noqa: S608 - of our own columns' names


def _of(table: str, names: str) -> str:
    return ", ".join(f"{table}.{name}" for name in names.split(", "))


PUT_TOGETHER = _write_putting_together()
ONE_AT_A_TIME = text("SELECT pg_try_advisory_xact_lock(7251606912441703723)")


@requires(SYSTEM)
async def make_next_days(ctx: Context) -> None:
    """Make the partitions of today and the next three days, where they are missing."""
    async with ctx.database.write() as session:
        await create_days(session, next_days(datetime.now(UTC), DAYS_AHEAD))


@requires(SYSTEM)
async def index_past_days(ctx: Context, now: datetime | None = None) -> None:
    """Index the latency, cost and score of the traces of days that are over.

    Args:
        ctx: The system's.
        now: When it is.
    """
    today = day_of((now or datetime.now(UTC)) - LATENESS)
    async with ctx.database.alone() as connection:
        made = await index_days(connection, today)
    if made:
        log.info("past days: made the indexes %s", ", ".join(made))


@requires(SYSTEM)
async def find_words(ctx: Context) -> int:
    """Have traces found by their words that have been stored since, and return how many.

    Several workers share the work: each takes what no other has taken.
    """
    until = time.monotonic() + LONGEST_SECONDS
    total = 0
    while time.monotonic() < until:
        async with ctx.database.write() as session:
            taken = await session.scalars(TAKE_UNSEARCHED, {"batch": BATCH_TEXTS})
            ids: Sequence[UUID] = taken.all()
            if ids:
                # A server of before may have made days without a partition of words.
                await create_days(session, {day_of(instant_of(trace_id)) for trace_id in ids})
                named = {"ids": ids, "first": min(ids), "last": max(ids)}
                await session.execute(STORE_WORDS, named)
        total += len(ids)
        if len(ids) < BATCH_TEXTS:
            break
    return total


@requires(SYSTEM)
async def put_hours_together(ctx: Context, now: datetime | None = None) -> int:
    """Put the writers' rows of hours that are over together, and return how many there were.

    Args:
        ctx: The system's.
        now: When it is.
    """
    hour = _hour_of((now or datetime.now(UTC)) - LATENESS)
    total = 0
    while True:
        async with ctx.database.write() as session:
            if not await session.scalar(ONE_AT_A_TIME):
                return total
            values = {"hour": hour, "batch": BATCH_ROWS}
            gone: int = (await session.execute(PUT_TOGETHER, values)).scalar_one()
        total += gone
        if gone < BATCH_ROWS:
            return total


@requires(SYSTEM)
async def drop_old_traces(ctx: Context, now: datetime | None = None) -> None:
    """Drop the traces that are older than they are kept, with what was said of them and their sums.

    Days that are too old for every workspace are dropped whole; of workspaces that keep theirs for
    a shorter time, they are deleted row by row.

    Args:
        ctx: The system's.
        now: When it is.
    """
    now = now or datetime.now(UTC)
    most = ctx.services.limits.trace_retention_days
    async with ctx.database.read() as session:
        found = await session.execute(select(Workspace.id, Workspace.trace_retention_days))
        kept = [(row.id, min(row.trace_retention_days or most, most)) for row in found]
    longest = max((days for _, days in kept), default=most)
    async with ctx.database.alone() as connection:
        dropped = await drop_days(connection, day_of(now - timedelta(days=longest) - LATENESS))
    deleted = 0
    for workspace_id, days in kept:
        before = now - timedelta(days=days)
        if days < longest:
            deleted += await _delete_traces(ctx, workspace_id, first_id_at(before))
        await _delete_feedback(ctx, workspace_id, first_id_at(before))
        async with ctx.database.write() as session:
            await session.execute(DELETE_SUMS, {"workspace_id": workspace_id, "before": before})
    if dropped or deleted:
        log.info("old traces: dropped %s and deleted %s rows", dropped or "no table", deleted)


async def _delete_traces(ctx: Context, workspace_id: UUID, before: UUID) -> int:
    """Delete a workspace's traces below an id, the oldest first, and return how many."""
    total, after = 0, UUID(int=0)
    while True:
        values = {"workspace_id": workspace_id, "before": before, "batch": BATCH_ROWS}
        async with ctx.database.write() as session:
            found = await session.scalars(FIND_OLD, values | {"after": after})
            ids: Sequence[UUID] = found.all()
            if not ids:
                return total
            named = {"ids": ids, "first": ids[0], "last": ids[-1]}
            for statement in (DELETE_TEXTS, DELETE_WORDS, DELETE_TRACES):
                await session.execute(statement, named)
        total += len(ids)
        after = ids[-1]


async def _delete_feedback(ctx: Context, workspace_id: UUID, before: UUID) -> None:
    """Delete what was said of a workspace's traces below an id."""
    values = {"workspace_id": workspace_id, "before": before, "batch": BATCH_ROWS}
    while True:
        async with ctx.database.write() as session:
            deleted = (await session.execute(DELETE_FEEDBACK, values)).all()
        if len(deleted) < BATCH_ROWS:
            return


def _hour_of(instant: datetime) -> datetime:
    """Return the beginning of the hour that *instant* is in."""
    return instant.replace(minute=0, second=0, microsecond=0)
