"""Days of traces: making those that come next, indexing and dropping those that are over."""

import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from itertools import product

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from db.base import first_id_at

log = logging.getLogger("gero")

PARENTS = ("trace", "trace_text", "trace_words")
# Of every process that makes some, and of the one that indexes or drops some.
MAKING, CHANGING = 7251606912441703721, 7251606912441703722
LOCK = f"SELECT pg_advisory_xact_lock({MAKING})"
NAMES = r"""
SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
WHERE relname ~ '^trace(_text|_words)?_\d{8}$' AND NOT inhdetachpending
"""
# Those that are detached as well: whoever was about to drop one was killed.
TABLES = r"""
SELECT relname, inhparent::regclass::text, inhdetachpending
FROM pg_class LEFT JOIN pg_inherits ON inhrelid = pg_class.oid
WHERE relkind = 'r' AND relname ~ '^trace(_text|_words)?_\d{8}$'
  AND relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'trace'::regclass)
ORDER BY relname
"""
# Whoever stores a trace does not wait for these: they are made of days that are over.
LATER_INDEXED = ("latency_ms", "cost_usd", "score")
# Those that a kill has left half made are not valid, and nobody reads by them.
INDEXES = r"""
SELECT day.relname AS day, name.relname AS index, indisvalid AS is_valid
FROM pg_inherits JOIN pg_class AS day ON day.oid = inhrelid
JOIN pg_index ON indrelid = day.oid JOIN pg_class AS name ON name.oid = indexrelid
WHERE inhparent = 'trace'::regclass AND NOT inhdetachpending
"""


def day_of(instant: datetime) -> date:
    """Return the UTC day that *instant* is in."""
    return instant.astimezone(UTC).date()


def next_days(now: datetime, count: int) -> list[date]:
    """Return *now*'s UTC day and those after it, *count* in all."""
    today = day_of(now)
    return [today + timedelta(days=ahead) for ahead in range(count)]


async def list_days(session: AsyncSession) -> list[date]:
    """Return the days that every parent has a partition of, ascending."""
    found = Counter(map(_day_in, await session.scalars(text(NAMES))))
    return sorted(day for day, count in found.items() if count == len(PARENTS))


async def create_days(session: AsyncSession, days: Iterable[date]) -> None:
    """Make the partitions of *days* that are not there yet.

    A partition is made beside its parent and then attached, which lets others go on reading and
    writing; `CREATE TABLE ... PARTITION OF` would lock them all out.

    Source: https://www.postgresql.org/docs/18/ddl-partitioning.html
    """
    wanted = sorted(set(days) - set(await list_days(session)))
    if not wanted:
        return
    await session.execute(text(LOCK))
    there = set(await session.scalars(text(NAMES)))
    for day, parent in product(wanted, PARENTS):
        name = f"{parent}_{day:%Y%m%d}"
        if name not in there:
            for statement in _attach(parent, name, day):
                await session.execute(text(statement))


def _attach(parent: str, name: str, day: date) -> tuple[str, str]:
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    first, after = first_id_at(midnight), first_id_at(midnight + timedelta(days=1))
    return (
        f"CREATE TABLE {name} (LIKE {parent} INCLUDING ALL)",
        f"ALTER TABLE {parent} ATTACH PARTITION {name} FOR VALUES FROM ('{first}') TO ('{after}')",
    )


async def index_days(connection: AsyncConnection, before: date) -> list[str]:
    """Index what only days that end before *before* begins have an index for.

    Nobody waits for it: others go on reading and writing. What is killed is done again.

    Args:
        connection: One on which each statement is a transaction of its own.
        before: The first day that is left as it is.

    Returns:
        The indexes that are made; none while another process changes days.

    Source: https://www.postgresql.org/docs/18/sql-createindex.html
    """
    async with _changing(connection) as is_alone:
        return await _index_days(connection, before) if is_alone else []


async def _index_days(connection: AsyncConnection, before: date) -> list[str]:
    there = {
        (day, index): is_valid for day, index, is_valid in await connection.execute(text(INDEXES))
    }
    made = []
    # The newest first: these are read most, should it fail on one of the others again and again.
    for day, column in product(sorted({day for day, _ in there}, reverse=True), LATER_INDEXED):
        name = f"ix_{day}_workspace_id_{column}"
        if _day_in(day) >= before or there.get((day, name)):
            continue
        if (day, name) in there:
            await connection.execute(text(f"DROP INDEX CONCURRENTLY {name}"))
        await connection.execute(
            text(
                f"CREATE INDEX CONCURRENTLY {name} ON {day} (workspace_id, {column})"
                f" WHERE {column} IS NOT NULL"
            )
        )
        made.append(name)
    return made


async def drop_days(connection: AsyncConnection, before: date) -> list[str]:
    """Drop the days of traces, and of their texts, that end before *before* begins.

    Nobody waits for it: a partition is detached while others go on reading and writing, and nobody
    has a table that is detached. What a drop that was killed has left behind is finished.

    Args:
        connection: One on which each statement is a transaction of its own.
        before: The first day to keep.

    Returns:
        The tables that are dropped; none while another process changes days.

    Source: https://www.postgresql.org/docs/18/sql-altertable.html
    """
    async with _changing(connection) as is_alone:
        return await _drop_days(connection, before) if is_alone else []


@asynccontextmanager
async def _changing(connection: AsyncConnection) -> AsyncIterator[bool]:
    """Tell whether nobody else changes days that are over, and let nobody else until the end."""
    if not await connection.scalar(text(f"SELECT pg_try_advisory_lock({CHANGING})")):
        log.warning("another process is changing past days of traces: they are left for now")
        yield False
        return
    try:
        yield True
    except BaseException:
        await connection.invalidate()  # with which the lock goes
        raise
    await connection.execute(text(f"SELECT pg_advisory_unlock({CHANGING})"))


async def _drop_days(connection: AsyncConnection, before: date) -> list[str]:
    dropped = []
    for name, parent, is_pending in (await connection.execute(text(TABLES))).all():
        if _day_in(name) >= before:
            continue
        if parent is not None:
            how = "FINALIZE" if is_pending else "CONCURRENTLY"
            await connection.execute(text(f"ALTER TABLE {parent} DETACH PARTITION {name} {how}"))
        await connection.execute(text(f"DROP TABLE {name}"))
        dropped.append(name)
    return dropped


def _day_in(name: str) -> date:
    """Return the day that a partition's name ends with."""
    return datetime.strptime(name[-8:], "%Y%m%d").replace(tzinfo=UTC).date()
