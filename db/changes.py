"""Hearing of every change that a call depends on, and knowing when that can't be heard.

Triggers in the database announce them, whoever makes them: see migration 0017.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import asyncpg

log = logging.getLogger("gero.listening")

CHANNEL = "gero_changes"
RECONNECT_SECONDS = 0.5
# The last is the driver's own trouble, where the server ends a connection at an odd moment.
LOST = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
CONNECT_SECONDS = 5
# A connection that is lost without a word is found out by asking.
PING_SECONDS = 0.4
LONGEST_SILENCE_SECONDS = 1.0


class ChangeFeed:
    """Tells of changes as they are committed.

    Args:
        dsn: Where to connect, as asyncpg writes it.

    Attributes:
        count: Changes heard so far, and connections lost and made: whoever reads something and
            sees the same count afterwards has missed no change meanwhile.
        subscribers: Called with `kind:id` of what has changed, or None when anything may have.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._listening: asyncio.Task[None] | None = None
        self._heard_at = float("-inf")
        self.count = 0
        self.subscribers: list[Callable[[str | None], None]] = []

    def is_live(self) -> bool:
        """Tell whether every change up to a second ago has been heard."""
        return time.monotonic() - self._heard_at < LONGEST_SILENCE_SECONDS

    def start(self) -> None:
        """Begin to listen, and go on until `aclose`."""
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen())

    async def aclose(self) -> None:
        """Stop listening."""
        if self._listening is not None:
            self._listening.cancel()
            with suppress(asyncio.CancelledError):
                await self._listening
            self._listening = None

    async def _listen(self) -> None:
        while True:
            try:
                await self._listen_once()
            except LOST as error:
                log.warning("nothing is cached, for want of news of changes: %s", error or "lost")
            finally:
                self._heard_at = float("-inf")
                self._tell(None)
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _listen_once(self) -> None:
        """Listen until the connection is lost."""
        connection = await asyncpg.connect(
            self._dsn,
            timeout=CONNECT_SECONDS,
            command_timeout=LONGEST_SILENCE_SECONDS,
            server_settings={"application_name": "gero changes"},
        )
        connection.add_termination_listener(self._lose)
        try:
            await connection.add_listener(CHANNEL, self._hear)
            # What is being read may be older than changes that nobody listened to.
            self._tell(None)
            while True:
                # Asked at this moment, answered later: what was committed before it is heard.
                asked_at = time.monotonic()
                await connection.execute("SELECT 1")
                self._heard_at = asked_at
                await asyncio.sleep(PING_SECONDS)
        finally:
            with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection.terminate()

    def _lose(self, _connection: Any) -> None:
        self._heard_at = float("-inf")

    def _hear(self, _connection: Any, _pid: int, _channel: str, name: str) -> None:
        self._tell(name)

    def _tell(self, name: str | None) -> None:
        self.count += 1
        for tell in self.subscribers:
            tell(name)
