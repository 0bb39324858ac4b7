"""Storing traces: many in one statement, each once, with its text and its share of the hour."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from enum import Enum
from typing import Any, Final
from uuid import UUID

import orjson
from sqlalchemy import Column, String, Table
from sqlalchemy.dialects import postgresql

from db.base import instant_of, new_id
from db.models import Trace, TraceHour, TraceText
from db.partitions import create_days, day_of, list_days
from db.session import Database, WriteSession
from db.writing import array_literal
from engine.latency_buckets import bucket_of
from resolvers.redactors import Redactors, StorableTrace

# Counts in rows of its own, so that no two processes wait for each other's.
WRITER: Final = new_id()
# Whose values are words of ours.
CLOSED_SETS = frozenset({"source", "status", "cost_source"})
NO_LEADERBOARD = UUID(int=0)
DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]
SUMS = (
    "trace_count",
    "error_count",
    "prompt_tokens",
    "completion_tokens",
    "cost_usd",
    "unpriced_count",
)


def _columns(entity: Any) -> list[Column[Any]]:
    table: Table = entity.__table__
    return list(table.columns)


NARROW = _columns(Trace)
WIDE = _columns(TraceText)
COLUMNS = [*NARROW, *WIDE[1:]]


class Written(Enum):
    """How an array of a column's values is written."""

    PLAIN = 1
    JSON = 2
    TEXT = 3


def _how_written(column: Column[Any]) -> Written:
    if isinstance(column.type, postgresql.JSONB):
        return Written.JSON
    is_text = isinstance(column.type, String) and column.key not in CLOSED_SETS
    return Written.TEXT if is_text else Written.PLAIN


def _array_type(column: Column[Any]) -> str:
    """Return how an array of *column*'s values comes: JSON as text, what is plain as a literal."""
    if _how_written(column) is Written.PLAIN:
        return f"text::{column.type.compile(dialect=DIALECT)}[]"
    return "text[]"


def _cast(column: Column[Any]) -> str:
    is_json = isinstance(column.type, postgresql.JSONB)
    return f"{column.name}::jsonb" if is_json else column.name


def _write_storing() -> tuple[str, int]:
    """Return the part of a statement that stores traces, and how many parameters it has.

    It ends with `stored`, the ids of those that were not stored before: a repeat after a commit
    whose answer was lost changes nothing.
    """
    parameters = [f"${place}::{_array_type(column)}" for place, column in
                  enumerate(COLUMNS, start=1)]  # fmt: skip
    given = [column.name for column in NARROW] + [f"text_{column.name}" for column in WIDE[1:]]
    bucket, writer = len(parameters) + 1, len(parameters) + 2
    parameters.append(f"${bucket}::text::integer[]")
    narrow = ", ".join(column.name for column in NARROW)
    wide = ", ".join(column.name for column in WIDE)
    texts = ", ".join(f"text_{_cast(column)}" for column in WIDE[1:])
    keys = ", ".join(column.name for column in _columns(TraceHour) if column.primary_key)
    sums = ", ".join(f"{name} = hour_of.{name} + excluded.{name}" for name in SUMS)
    text = f"""
    WITH given AS (
        SELECT * FROM unnest({", ".join(parameters)}) AS given({", ".join([*given, "bucket"])})
    ), stored AS (
        INSERT INTO trace ({narrow}) SELECT {", ".join(map(_cast, NARROW))} FROM given
        ON CONFLICT DO NOTHING RETURNING id
    ), texts AS (
        INSERT INTO trace_text ({wide}) SELECT id, {texts} FROM given JOIN stored USING (id)
    ), unsearched AS (
        INSERT INTO trace_unsearched (workspace_id, id)
        SELECT workspace_id, id FROM given JOIN stored USING (id)
    ), hours AS (
        INSERT INTO trace_hour AS hour_of ({keys}, {", ".join(SUMS)})
        SELECT workspace_id, coalesce(leaderboard_id, '{NO_LEADERBOARD}'),
            date_trunc('hour', created_at, 'UTC'), source, coalesce(provider, ''),
            coalesce(model, ''), bucket, ${writer}::uuid, count(*),
            count(*) FILTER (WHERE status = 'error'), coalesce(sum(prompt_tokens), 0),
            coalesce(sum(completion_tokens), 0), coalesce(sum(cost_usd), 0),
            count(*) FILTER (WHERE cost_usd IS NULL)
        FROM given JOIN stored USING (id) GROUP BY 1, 2, 3, 4, 5, 6, 7
        ORDER BY 1, 2, 3, 4, 5, 6, 7 -- so that nobody waits for who waits for him
        ON CONFLICT ({keys}) DO UPDATE SET {sums}
    )"""  # noqa: S608 - made of our own columns' names
    return text, writer


WRITTEN = [_how_written(column) for column in COLUMNS]
STORING, STORING_PARAMETERS = _write_storing()
STORE = f"{STORING} SELECT id FROM stored"  # noqa: S608 - as above


def storing_values(traces: Sequence[StorableTrace]) -> list[Any]:
    """Return the parameters of `STORING`."""
    values: list[Any] = [
        _values(column.key, how, traces) for column, how in zip(COLUMNS, WRITTEN, strict=True)
    ]
    buckets = array_literal([bucket_of(trace["latency_ms"]) for trace in traces])
    return [*values, buckets, WRITER]


def _values(key: str, how: Written, traces: Sequence[StorableTrace]) -> list[Any] | str:
    values = [trace[key] for trace in traces]
    if how is Written.PLAIN:
        return array_literal(values)
    if how is Written.JSON:
        return [None if value is None else orjson.dumps(value).decode() for value in values]
    return values


class TraceStore:
    """Stores traces, without what must not be stored, and makes partitions for them.

    Args:
        database: Where they go.
        redactors: What takes out of them what must not be stored.
    """

    def __init__(self, database: Database, redactors: Redactors) -> None:
        self._database = database
        self._redactors = redactors
        self._days: set[date] = set()

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
        days = {day_of(instant_of(trace_id)) for trace_id in ids}
        if days <= self._days:
            return
        async with self._database.write() as session:
            await create_days(session, days)
            self._days = set(await list_days(session))
