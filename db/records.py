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

# Options of a statement whose planning is not left to PostgreSQL. One plan serves for all values of
# its parameters: of a table with many partitions, planning takes longer than reading a page.
PLANNED_ONCE = {"plan_cache_mode": "force_generic_plan"}
# What is rare is read by another plan than what is not, and PostgreSQL can't tell from the costs of
# both that one plan for any value is none for a rare one.
PLANNED_EACH_TIME = {"plan_cache_mode": "force_custom_plan"}
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
        plan_cache_mode: How PostgreSQL plans it.
    """

    sql: str
    names: Sequence[str]
    constants: Mapping[str, Any]
    plan_cache_mode: str = "auto"

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
    plan_cache_mode = statement.get_execution_options().get("plan_cache_mode", "auto")
    return Query(str(compiled), tuple(compiled.positiontup or ()), constants, plan_cache_mode)


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
        self._idle: dict[str, list[asyncpg.Connection]] = {}
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
        mode = query.plan_cache_mode
        await self._take_place()
        try:
            connection = self._idle_connection(mode) or await self._connect(mode)
        except BaseException:
            self._free_place()
            raise
        try:
            rows: list[Row] = await connection.fetch(query.sql, *arguments)
        except BaseException:
            self._part_with(connection)
            raise
        self._give_back(connection, mode)
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

    def _idle_connection(self, mode: str) -> asyncpg.Connection | None:
        idle = self._idle.setdefault(mode, [])
        while idle:
            connection = idle.pop()
            if not connection.is_closed():  # by the server, when it was restarted
                return connection
        others = list(self._idle.values())
        if self._in_use + sum(map(len, others)) > self._max_connections:
            max(others, key=len).pop(0).terminate()  # for the one that is to be opened
        return None

    def _give_back(self, connection: asyncpg.Connection, mode: str) -> None:
        if self._is_closed:
            connection.terminate()
        else:
            self._idle[mode].append(connection)
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

    async def _connect(self, mode: str) -> asyncpg.Connection:
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
                "plan_cache_mode": mode,
                # Rows come from memory, or from disks that have no arm to move. As if they had,
                # few rows of many would be read by passing over all the others.
                "random_page_cost": "1.1",
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
