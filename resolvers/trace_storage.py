"""Storing traces: many in one statement, each once, with its text and its share of the hour."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from itertools import repeat
from typing import Any, Final
from uuid import UUID

import orjson
from sqlalchemy import Column, Table
from sqlalchemy.dialects import postgresql

from db.base import new_id
from db.models import Trace, TraceHour, TraceText
from db.partitions import create_days, list_days
from db.session import Database, WriteSession
from engine.latency_buckets import bucket_of
from resolvers.redactors import Redactors, StorableTrace

# Counts in rows of its own, so that no two processes wait for each other's.
WRITER: Final = new_id()
NO_LEADERBOARD = UUID(int=0)
DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]
# What hours sum up, and what each trace adds to it.
SUMMED: Final = {
    "trace_count": "1",
    "error_count": "(status = 'error')::integer",
    "prompt_tokens": "coalesce(prompt_tokens, 0)",
    "completion_tokens": "coalesce(completion_tokens, 0)",
    "cost_usd": "coalesce(cost_usd, 0)",
    "unpriced_count": "(cost_usd IS NULL)::integer",
}
SUMS = tuple(SUMMED)
# In one order, so that nobody waits for who waits for him.
GROUPED: Final = "GROUP BY 1, 2, 3, 4, 5, 6, 7 ORDER BY 1, 2, 3, 4, 5, 6, 7"


def _columns(entity: Any) -> list[Column[Any]]:
    table: Table = entity.__table__
    return list(table.columns)


NARROW = _columns(Trace)
# The trace's own id and workspace are the text's.
WIDE = _columns(TraceText)[2:]
EPOCH = date(1970, 1, 1)
MILLISECONDS_A_DAY = 86_400_000
WRITTEN_OUT = (Decimal, UUID)
NOTHING_FURTHER: Final[Mapping[str, Any]] = {}
# What is given of each trace, and of which type.
GIVEN: Final = {
    **{column.key: column.type.compile(dialect=DIALECT) for column in [*NARROW, *WIDE]},
    "bucket": "INTEGER",
}
JSON_COLUMNS: Final = frozenset(name for name, kind in GIVEN.items() if kind == "JSONB")


def write_fresh(further: Mapping[str, str] = NOTHING_FURTHER, *, alone: bool = False) -> str:
    """Return what to select the traces from that were not stored before, and their further columns.

    They have their columns by their names in `Trace` and `TraceText`. Of one trace it is a query
    of parameters, which the planner takes apart: each part of the statement is left with those
    that it uses, where a row of all of them would be made, kept, and read by each.

    Args:
        further: See `write_storing`.
        alone: As well.
    """
    if not alone:
        return "fresh"
    given = ", ".join(
        f"${place}::{kind} AS {name}"
        for place, (name, kind) in enumerate({**GIVEN, **further}.items(), 2)
    )
    return f"(SELECT {given}) AS fresh"


def write_storing(further: Mapping[str, str] = NOTHING_FURTHER, *, alone: bool = False) -> str:
    """Return the part of a statement that stores traces.

    A repeat after a commit whose answer was lost changes nothing. The first parameters are
    `storing_values`.

    Args:
        further: Columns that they have beside those of `GIVEN`, with their types.
        alone: It is one trace, taken for fresh: if it was stored before, that is an
            `asyncpg.UniqueViolationError`. To tell traces apart takes a third of the time. The
            first parameters are `storing_values_alone`.
    """
    narrow = ", ".join(column.name for column in NARROW)
    insert = f"INSERT INTO trace ({narrow}) SELECT {', '.join(column.key for column in NARROW)}"
    texts = ", ".join(["id", "workspace_id", *(column.name for column in WIDE)])
    keys = ", ".join(column.name for column in _columns(TraceHour) if column.primary_key)
    added = ", ".join(value if alone else f"sum({value})" for value in SUMMED.values())
    sums = ", ".join(f"{name} = hour_of.{name} + excluded.{name}" for name in SUMS)
    fresh = write_fresh(further, alone=alone)
    if alone:
        storing = f"stored AS ({insert} FROM {fresh})"
    else:
        given = ", ".join(map(" ".join, {**GIVEN, **further}.items()))
        storing = f"""given AS (
        SELECT * FROM json_to_recordset($1::text::json) AS given({given})
    ), stored AS (
        {insert} FROM given ON CONFLICT DO NOTHING RETURNING id
    ), fresh AS (
        SELECT given.* FROM given JOIN stored USING (id)
    )"""  # noqa: S608 - as above
    return f"""
    WITH {storing}, texts AS (
        INSERT INTO trace_text ({texts}) SELECT {texts} FROM {fresh}
    ), unsearched AS (
        INSERT INTO trace_unsearched (workspace_id, id) SELECT workspace_id, id FROM {fresh}
    ), hours AS (
        INSERT INTO trace_hour AS hour_of ({keys}, {", ".join(SUMS)})
        SELECT workspace_id, coalesce(leaderboard_id, '{NO_LEADERBOARD}'),
            date_trunc('hour', created_at, 'UTC'), source, coalesce(provider, ''),
            coalesce(model, ''), bucket, {"$1" if alone else "$2"}::uuid, {added}
        FROM {fresh} {GROUPED * (not alone)}
        ON CONFLICT ({keys}) DO UPDATE SET {sums}
    )"""  # noqa: S608 - as above


STORE: Final = f"{write_storing()} SELECT id FROM fresh"  # noqa: S608 - as above


def storing_values(
    traces: Sequence[StorableTrace], further: Iterable[Mapping[str, Any]] = repeat(NOTHING_FURTHER)
) -> list[Any]:
    """Return the first parameters of a statement that begins with `write_storing`.

    All of it as one text: a driver that is given a list of each column spends more time on it than
    on all else.

    Args:
        traces: What is stored.
        further: Of each, its further columns.
    """
    rows = [
        {**trace, **more, "bucket": bucket_of(trace["latency_ms"])}
        for trace, more in zip(traces, further, strict=False)
    ]
    return [orjson.dumps(rows, default=_write_other).decode(), WRITER]


def storing_values_alone(trace: StorableTrace, further: Iterable[Any] = ()) -> list[Any]:
    """Return the first parameters of a statement that begins with `write_storing`, of one trace.

    Args:
        trace: What is stored.
        further: Its further columns.
    """
    row = {**trace, "bucket": bucket_of(trace["latency_ms"])}
    for name in JSON_COLUMNS:
        if row[name] is not None:
            row[name] = orjson.dumps(row[name], default=_write_other).decode()
    return [WRITER, *(row[name] for name in GIVEN), *further]


def _write_other(value: object) -> str:
    """Write a number exactly, and an id of the driver's own kind."""
    if isinstance(value, WRITTEN_OUT):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not written as JSON")


class TraceStore:
    """Stores traces, without what must not be stored, and makes partitions for them.

    Args:
        database: Where they go.
        redactors: What takes out of them what must not be stored.
    """

    def __init__(self, database: Database, redactors: Redactors) -> None:
        self._database = database
        self._redactors = redactors
        self._days: set[int] = set()  # there are partitions for, counted from 1970

    async def prepare(self, traces: Sequence[Mapping[str, Any]]) -> list[StorableTrace]:
        """Return traces as they may be stored, once there are partitions for them.

        Args:
            traces: Each a mapping of every column of `Trace` and `TraceText`.
        """
        await self.make_room(trace["id"] for trace in traces)
        return await self._redactors.redact(traces)

    async def store(
        self, session: WriteSession, traces: Sequence[StorableTrace]
    ) -> frozenset[UUID]:
        """Store traces in *session*'s transaction.

        Args:
            session: The caller's.
            traces: From `prepare`.

        Returns:
            Those that were not stored before.
        """
        connection = await session.connection()
        stored = await connection.exec_driver_sql(STORE, tuple(storing_values(traces)))
        return frozenset(stored.scalars())

    async def make_room(self, ids: Iterable[UUID]) -> None:
        """Make the partitions that traces of these ids belong to, where they are missing."""
        # Of a version 7 UUID, the first 48 bits are milliseconds since 1970.
        days = {(trace_id.int >> 80) // MILLISECONDS_A_DAY for trace_id in ids}
        if days <= self._days:
            return
        async with self._database.write() as session:
            await create_days(session, {EPOCH + timedelta(days=day) for day in days})
            self._days = {(day - EPOCH).days for day in await list_days(session)}
