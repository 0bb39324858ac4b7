"""The only module that opens a session or ends a transaction."""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NewType, cast

import orjson
from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry
from typing_extensions import override

from db.records import PoolUse, Query, RecordReader, Row

ReadSession = NewType("ReadSession", AsyncSession)
WriteSession = NewType("WriteSession", ReadSession)


class SessionPool(AsyncAdaptedQueuePool):
    """Counts who waits for a connection, be it for a free one or for a new one to open."""

    waiting = 0

    @override
    def _do_get(self) -> ConnectionPoolEntry:
        self.waiting += 1
        try:
            return super()._do_get()
        finally:
            self.waiting -= 1


class Database:
    """Hands out short-lived sessions over one engine, and reads light rows beside it.

    Attributes:
        watchers: Told of every statement: its text, and how long it took in seconds.
    """

    def __init__(self, engine: AsyncEngine, reader: RecordReader) -> None:
        self.engine = engine
        self.watchers: list[Callable[[str, float], None]] = []
        self._records = reader
        _watch(engine, self.watchers)
        read_only = engine.execution_options(postgresql_readonly=True)
        self._read = async_sessionmaker(read_only, expire_on_commit=False)
        self._write = async_sessionmaker(engine, expire_on_commit=False)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[ReadSession]:
        """Yield a session whose transaction PostgreSQL itself holds READ ONLY."""
        async with self._read() as session:
            yield ReadSession(session)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[WriteSession]:
        """Yield a session that commits on success and rolls back on any error."""
        async with self._write.begin() as session:
            yield WriteSession(ReadSession(session))

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[AsyncConnection]:
        """Yield a connection on which each statement is a transaction of its own."""
        async with self.engine.connect() as connection:
            yield await connection.execution_options(isolation_level="AUTOCOMMIT")

    async def fetch(self, query: Query, **values: Any) -> list[Row]:
        """Return the rows of *query*, read in a transaction that can't write.

        Args:
            query: From `write_query`.
            values: Its parameters.
        """
        began = time.perf_counter()
        rows = await self._records.fetch(query, values)
        for watch in self.watchers:
            watch(query.sql, time.perf_counter() - began)
        return rows

    @property
    def session_pool(self) -> PoolUse:
        """How the pool of sessions is used."""
        pool = cast("SessionPool", self.engine.pool)
        return PoolUse(pool.checkedout(), pool.waiting)

    @property
    def record_pool(self) -> PoolUse:
        """How the connections for light rows are used."""
        return self._records.use

    async def dispose(self) -> None:
        """Close every pooled connection."""
        await self._records.aclose()
        await self.engine.dispose()


def _to_json(value: object) -> str:
    return orjson.dumps(value).decode()


def open_database(
    url: str,
    *,
    pool_size: int,
    answer_timeout_seconds: float | None = None,
    connect_timeout_seconds: float = 5.0,
) -> Database:
    """Open a pool on *url*; nothing connects until the first session is used.

    Args:
        url: A SQLAlchemy URL with the asyncpg driver.
        pool_size: Connections at most, for sessions and for light rows each; who needs
            one waits as long as for an answer, or 10 seconds, and then fails.
        answer_timeout_seconds: How long the server may take to answer a
            statement before it counts as gone; None waits for ever.
        connect_timeout_seconds: How long one connection attempt may take.
    """
    patience = answer_timeout_seconds or 10.0
    engine = create_async_engine(
        url,
        poolclass=SessionPool,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=patience,
        pool_pre_ping=False,
        hide_parameters=True,  # they are users' texts and secrets: not for an error's message
        json_serializer=_to_json,
        json_deserializer=orjson.loads,
        connect_args={
            "timeout": min(connect_timeout_seconds, patience),
            "command_timeout": answer_timeout_seconds,
            "server_settings": {"application_name": "gero", "timezone": "UTC"},
        },
    )
    event.listen(engine.sync_engine, "checkout", _refuse_closed)
    event.listen(engine.sync_engine, "handle_error", _give_up_unanswered)
    reader = RecordReader(
        url, max_connections=pool_size, answer_timeout_seconds=answer_timeout_seconds
    )
    return Database(engine, reader)


def _watch(engine: AsyncEngine, watchers: Sequence[Callable[[str, float], None]]) -> None:
    """Tell *watchers* of the statements that sessions run."""

    def begin(
        _connection: Any, _cursor: Any, _sql: str, _values: Any, context: Any, _: Any
    ) -> None:
        if watchers:
            context.began = time.perf_counter()

    def end(_connection: Any, _cursor: Any, sql: str, _values: Any, context: Any, _: Any) -> None:
        for watch in watchers:
            watch(sql, time.perf_counter() - getattr(context, "began", time.perf_counter()))

    event.listen(engine.sync_engine, "before_cursor_execute", begin)
    event.listen(engine.sync_engine, "after_cursor_execute", end)


def _refuse_closed(connection: Any, *_: object) -> None:
    """Have the pool replace a connection whose server has gone, before anybody uses it.

    The driver has noticed by itself, so that this costs no round trip, as a
    ping would.
    """
    if connection.driver_connection.is_closed():
        raise DisconnectionError


def _give_up_unanswered(failure: ExceptionContext) -> None:
    """Drop a connection that did not answer in time: a rollback would wait as long again."""
    if isinstance(failure.original_exception, TimeoutError):
        failure.is_disconnect = True
        failure.invalidate_pool_on_disconnect = False
