"""Light rows: statements that SQLAlchemy writes once and asyncpg runs, without entities."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import orjson
from sqlalchemy import Select
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from typing_extensions import override

# Statements that a connection keeps prepared.
PREPARED_STATEMENTS = 500


class Row(asyncpg.Record):  # type: ignore[misc]
    """A row that was read: its columns by name, as items and as attributes."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        """Return a column that was selected.

        Raises:
            AttributeError: It was not.
        """
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(f"the column {name!r} was not selected") from error


@dataclass(frozen=True, slots=True)
class Query:
    """A statement as text, and where its parameters go.

    Attributes:
        sql: With `$1`, `$2`, ... for the parameters.
        names: Their names, in that order.
        constants: Values that the statement itself holds, by name.
    """

    sql: str
    names: Sequence[str]
    constants: Mapping[str, Any]

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        """Return the parameters in order.

        Raises:
            KeyError: One is missing.
        """
        constants = self.constants
        return [values[name] if name in values else constants[name] for name in self.names]


def write_query(statement: Select[*tuple[Any, ...]]) -> Query:
    """Have SQLAlchemy write *statement*; its `bindparam`s without values are the parameters."""
    compiled = statement.compile(dialect=PGDialect_asyncpg())  # type: ignore[no-untyped-call]
    constants = {
        name: bind.effective_value for name, bind in compiled.binds.items() if not bind.required
    }
    return Query(str(compiled), tuple(compiled.positiontup or ()), constants)


class _ReadConnection(asyncpg.Connection):  # type: ignore[misc]
    """Is not reset when it goes back to the pool: nothing can be changed on it."""

    @override
    def get_reset_query(self) -> str:
        return ""


class RecordReader:
    """Reads rows over connections on which PostgreSQL itself refuses writes.

    Each statement is a transaction of its own, and costs one round trip.

    Args:
        url: A SQLAlchemy URL with the asyncpg driver.
        max_connections: Further reads wait for one.
        answer_timeout_seconds: For waiting, connecting and answering, each.
    """

    def __init__(
        self, url: str, *, max_connections: int, answer_timeout_seconds: float | None
    ) -> None:
        self._dsn = urlsplit(url)._replace(scheme="postgresql").geturl()
        self._max_connections = max_connections
        self._timeout = answer_timeout_seconds
        self._pool: asyncpg.Pool | None = None
        self._opening = asyncio.Lock()

    async def fetch(self, query: Query, values: Mapping[str, Any]) -> list[Row]:
        """Return the rows of *query*.

        Raises:
            asyncpg.PostgresError: The server refused.
            OSError: It can't be reached.
            TimeoutError: It does not answer.
        """
        pool = self._pool or await self._open()
        # There is nothing to wait for, and so to limit, while a connection is idle.
        patience = None if pool.get_idle_size() else self._timeout
        async with pool.acquire(timeout=patience) as connection:
            rows: list[Row] = await connection.fetch(query.sql, *query.arguments(values))
        return rows

    async def _open(self) -> asyncpg.Pool:
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    self._dsn,
                    min_size=0,
                    max_size=self._max_connections,
                    connection_class=_ReadConnection,
                    record_class=Row,
                    init=_teach_json,
                    timeout=self._timeout or 10.0,
                    command_timeout=self._timeout,
                    statement_cache_size=PREPARED_STATEMENTS,
                    max_cached_statement_lifetime=0,
                    server_settings={
                        "application_name": "gero reader",
                        "timezone": "UTC",
                        "default_transaction_read_only": "on",
                    },
                )
            return self._pool

    async def aclose(self) -> None:
        """Close every connection."""
        if self._pool is not None:
            self._pool.terminate()
            self._pool = None


async def _teach_json(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=orjson.dumps, decoder=orjson.loads
    )
