"""Days of traces: making the partitions that come next, and dropping those that are old."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from itertools import product

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from db.base import first_id_at

PARENTS = ("trace", "trace_text", "trace_words")
# Of every process that makes some, and of the one that drops some.
MAKING, DROPPING = 7251606912441703721, 7251606912441703722
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


async def drop_days(connection: AsyncConnection, before: date) -> list[str]:
    """Drop the days of traces, and of their texts, that end before *before* begins.

    Nobody waits for it: a partition is detached while others go on reading and writing, and nobody
    has a table that is detached. What a drop that was killed has left behind is finished.

    Args:
        connection: One on which each statement is a transaction of its own.
        before: The first day to keep.

    Returns:
        The tables that are dropped; none while another process drops some.

    Source: https://www.postgresql.org/docs/18/sql-altertable.html
    """
    if not await connection.scalar(text(f"SELECT pg_try_advisory_lock({DROPPING})")):
        return []
    try:
        dropped = await _drop_days(connection, before)
    except BaseException:
        await connection.invalidate()  # with which the lock goes
        raise
    await connection.execute(text(f"SELECT pg_advisory_unlock({DROPPING})"))
    return dropped


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
