"""Light rows: statements that SQLAlchemy writes once and asyncpg runs, without entities."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import orjson
from sqlalchemy import Insert, Select
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

# An option of a statement that is as well served by one plan for all values of its parameters. Of
# a table with many partitions, planning takes longer than reading a page.
PLANNED_ONCE = {"planned_once": True}
# Statements that a connection keeps prepared.
PREPARED_STATEMENTS = 500

CLOSE_TIMEOUT_SECONDS = 5.0

log = logging.getLogger("gero")


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
        is_planned_once: One plan serves for all values.
    """

    sql: str
    names: Sequence[str]
    constants: Mapping[str, Any]
    is_planned_once: bool = False

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        """Return the parameters in order.

        Raises:
            KeyError: One is missing.
        """
        constants = self.constants
        return [values[name] if name in values else constants[name] for name in self.names]


def write_query(statement: Select[*tuple[Any, ...]] | Insert) -> Query:
    """Have SQLAlchemy write *statement*; its `bindparam`s without values are the parameters."""
    compiled = statement.compile(dialect=PGDialect_asyncpg())  # type: ignore[no-untyped-call]
    constants = {
        name: bind.effective_value for name, bind in compiled.binds.items() if not bind.required
    }
    is_planned_once = PLANNED_ONCE.items() <= statement.get_execution_options().items()
    return Query(str(compiled), tuple(compiled.positiontup or ()), constants, is_planned_once)


@dataclass(frozen=True, slots=True)
class PoolUse:
    """How a pool of connections is used at a moment.

    Attributes:
        in_use: Connections that somebody holds.
        waiting: Callers that want one.
    """

    in_use: int
    waiting: int


def _to_json(value: object) -> str:
    return orjson.dumps(value).decode()


class RecordReader:
    """Reads rows over connections on which PostgreSQL itself refuses writes.

    Each statement is a transaction of its own, and costs one round trip. Nothing can be changed
    on such a connection, so it is kept for the next read as it is: asyncpg's pool, which resets
    each one in a task of its own, would take a tenth of a short request's time.

    Args:
        url: A SQLAlchemy URL with the asyncpg driver.
        max_connections: Further reads wait for one.
        answer_timeout_seconds: For waiting, connecting and answering, each.
    """

    def __init__(
        self, url: str, *, max_connections: int, answer_timeout_seconds: float | None
    ) -> None:
        self._dsn = urlsplit(url)._replace(scheme="postgresql").geturl()
        self._timeout = answer_timeout_seconds
        self._places = asyncio.Semaphore(max_connections)
        self._in_use = 0
        self._waiting = 0
        self._max_connections = max_connections
        # By how they plan.
        self._idle: dict[bool, list[asyncpg.Connection]] = {False: [], True: []}
        self._closing: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def fetch(self, query: Query, values: Mapping[str, Any]) -> list[Row]:
        """Return the rows of *query*.

        Raises:
            asyncpg.PostgresError: The server refused.
            OSError: It can't be reached.
            TimeoutError: It does not answer, or no connection becomes free.
        """
        arguments = query.arguments(values)
        kind = query.is_planned_once
        await self._take_place()
        try:
            connection = self._idle_connection(kind) or await self._connect(kind)
        except BaseException:
            self._free_place()
            raise
        try:
            rows: list[Row] = await connection.fetch(query.sql, *arguments)
        except BaseException:
            self._part_with(connection)
            raise
        self._give_back(connection, kind)
        return rows

    @property
    def use(self) -> PoolUse:
        """How the connections are used; one that is being closed still is."""
        return PoolUse(self._in_use, self._waiting)

    async def _take_place(self) -> None:
        if not self._places.locked():  # there is nothing to wait for, and so to limit
            await self._places.acquire()
        else:
            self._waiting += 1
            try:
                async with asyncio.timeout(self._timeout):
                    await self._places.acquire()
            finally:
                self._waiting -= 1
        self._in_use += 1

    def _free_place(self) -> None:
        self._in_use -= 1
        self._places.release()

    def _idle_connection(self, kind: bool) -> asyncpg.Connection | None:  # noqa: FBT001 - a key
        idle = self._idle[kind]
        while idle:
            connection = idle.pop()
            if not connection.is_closed():  # by the server, when it was restarted
                return connection
        others = self._idle[not kind]
        if others and self._in_use + len(others) > self._max_connections:
            others.pop(0).terminate()  # for the one that is to be opened
        return None

    def _give_back(self, connection: asyncpg.Connection, kind: bool) -> None:  # noqa: FBT001
        if self._is_closed:
            connection.terminate()
        else:
            self._idle[kind].append(connection)
        self._free_place()

    def _part_with(self, connection: asyncpg.Connection) -> None:
        """Close a connection, and free its place once the server is done with its statement."""
        closing = asyncio.create_task(self._close(connection))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _close(self, connection: asyncpg.Connection) -> None:
        try:
            await connection.close(timeout=CLOSE_TIMEOUT_SECONDS)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            log.info("a reading connection ended without a farewell: %r", error)
        finally:
            self._free_place()

    async def _connect(self, kind: bool) -> asyncpg.Connection:  # noqa: FBT001 - a key
        connection = await asyncpg.connect(
            self._dsn,
            record_class=Row,
            timeout=self._timeout or 10,  # pyright: ignore[reportArgumentType] - floats are fine
            command_timeout=self._timeout,
            statement_cache_size=PREPARED_STATEMENTS,
            max_cached_statement_lifetime=0,
            server_settings={
                "application_name": "gero reader",
                "timezone": "UTC",
                "datestyle": "ISO",
                "default_transaction_read_only": "on",
                "plan_cache_mode": "force_generic_plan" if kind else "auto",
            },
        )
        try:
            await connection.set_type_codec(
                "jsonb", schema="pg_catalog", encoder=_to_json, decoder=orjson.loads
            )
            # Sooner read from their text than from the parts that asyncpg's own codecs are sent.
            await connection.set_type_codec(
                "numeric", schema="pg_catalog", encoder=str, decoder=Decimal
            )
            await connection.set_type_codec(
                "timestamptz",
                schema="pg_catalog",
                encoder=datetime.isoformat,
                decoder=datetime.fromisoformat,
            )
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def aclose(self) -> None:
        """Close every connection; one that is in use, when it is given back."""
        self._is_closed = True
        for idle in self._idle.values():
            while idle:
                idle.pop().terminate()
        await asyncio.gather(*self._closing)
