"""Statements that write, each a transaction of its own and one round trip, over one connection."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from db.records import PREPARED_STATEMENTS, Row


def array_literal(values: Iterable[object]) -> str:
    """Write an array as PostgreSQL reads it, of values that need no quotation marks.

    These are ids, numbers, instants, and words of a closed set. The driver would look closely at
    each element of a list, which takes longer than all else that it does.
    """
    listed = list(values)
    if len(listed) > 1 and len(set(map(id, listed))) == 1:  # as of one workspace, or of none
        parts = [_element(listed[0])] * len(listed)
    else:
        parts = list(map(_element, listed))
    return "{" + ",".join(parts) + "}"


def _element(value: object) -> str:
    return "NULL" if value is None else str(value)


class StatementWriter:
    """Runs statements one after another, for those who gather many changes into one.

    Args:
        url: A SQLAlchemy URL with the asyncpg driver.
        answer_timeout_seconds: For connecting and for each answer.
    """

    def __init__(self, url: str, *, answer_timeout_seconds: float) -> None:
        self._dsn = urlsplit(url)._replace(scheme="postgresql").geturl()
        self._timeout = answer_timeout_seconds
        self._connection: asyncpg.Connection | None = None
        self._turn = asyncio.Lock()

    async def fetch(self, sql: str, values: Sequence[Any]) -> list[Row]:
        """Run a statement, commit it, and return its rows.

        Raises:
            asyncpg.PostgresError: The server refused.
            OSError: It can't be reached, or went away: whether it committed is not known.
            TimeoutError: It does not answer: nor is it known then.
        """
        async with self._turn:
            connection = self._connection
            if connection is None or connection.is_closed():
                connection = self._connection = await self._connect()
            try:
                rows: list[Row] = await connection.fetch(sql, *values)
            except BaseException as error:
                # After a refusal it can be used again, unless it is closed; but not one to a server
                # that another has taken the place of.
                is_refused = isinstance(error, asyncpg.PostgresError)
                if not is_refused or isinstance(error, asyncpg.ReadOnlySQLTransactionError):
                    connection.terminate()
                    self._connection = None
                raise
            return rows

    async def _connect(self) -> asyncpg.Connection:
        connection: asyncpg.Connection = await asyncpg.connect(
            self._dsn,
            record_class=Row,
            timeout=self._timeout,  # pyright: ignore[reportArgumentType] - floats are fine
            command_timeout=self._timeout,
            statement_cache_size=PREPARED_STATEMENTS,
            max_cached_statement_lifetime=0,
            server_settings={"application_name": "gero writer", "timezone": "UTC"},
        )
        return connection

    async def aclose(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
