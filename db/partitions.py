"""Days of traces: making the partitions that come next, and dropping those that are old."""

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from db.base import first_id_at

PARENTS = ("trace", "trace_text")
PARTITION = re.compile(r"^trace_(\d{8})$")
# Of every process that makes or drops one.
LOCK = "SELECT pg_advisory_xact_lock(7251606912441703721)"
NAMES = (
    "SELECT inhrelid::regclass::text FROM pg_inherits "
    "WHERE inhparent = 'trace'::regclass ORDER BY 1"
)


def day_of(instant: datetime) -> date:
    """Return the UTC day that *instant* is in."""
    return instant.astimezone(UTC).date()


def next_days(now: datetime, count: int) -> list[date]:
    """Return *now*'s UTC day and those after it, *count* in all."""
    today = day_of(now)
    return [today + timedelta(days=ahead) for ahead in range(count)]


async def list_days(session: AsyncSession) -> list[date]:
    """Return the days that there are partitions of, ascending."""
    names = await session.scalars(text(NAMES))
    found = (PARTITION.match(name) for name in names)
    return [datetime.strptime(match[1], "%Y%m%d").replace(tzinfo=UTC).date()
            for match in found if match]  # fmt: skip


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
    there = set(await list_days(session))
    for day in wanted:
        if day not in there:
            for parent in PARENTS:
                for statement in _attach(parent, day):
                    await session.execute(text(statement))


def _attach(parent: str, day: date) -> tuple[str, str]:
    name = f"{parent}_{day:%Y%m%d}"
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    first, after = first_id_at(midnight), first_id_at(midnight + timedelta(days=1))
    return (
        f"CREATE TABLE {name} (LIKE {parent} INCLUDING ALL)",
        f"ALTER TABLE {parent} ATTACH PARTITION {name} FOR VALUES FROM ('{first}') TO ('{after}')",
    )


async def drop_day(session: AsyncSession, day: date) -> None:
    """Drop a day of traces, with its texts."""
    await session.execute(text(LOCK))
    for parent in PARENTS:
        await session.execute(text(f"DROP TABLE IF EXISTS {parent}_{day:%Y%m%d}"))
