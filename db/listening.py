"""Hearing what other processes have changed, by PostgreSQL's LISTEN and NOTIFY."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import Context
from typing import Any

import asyncpg

from db.changes import LOST

log = logging.getLogger("gero.listening")

RECONNECT_SECONDS = 1.0
CONNECT_SECONDS = 10


class Listener:
    """Wakes those who wait for a key, when it is notified on a channel.

    One connection serves all who wait, and is there only while somebody does. What is notified
    while it is lost can't be heard: everybody is woken when it is back, and has to look.

    Args:
        dsn: Where to connect, as asyncpg writes it.
        channel: Its payloads are the keys.
    """

    def __init__(self, dsn: str, channel: str) -> None:
        self._dsn = dsn
        self._channel = channel
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._listening: asyncio.Task[None] | None = None

    @contextmanager
    def watch(self, key: str) -> Iterator[asyncio.Event]:
        """Yield an event that is set whenever *key* is notified, or may have been."""
        woken = asyncio.Event()
        self._waiting[key].add(woken)
        if self._listening is None:
            # It outlives the request that begins it.
            self._listening = asyncio.create_task(self._listen(), context=Context())
        try:
            yield woken
        finally:
            self._waiting[key].discard(woken)
            if not self._waiting[key]:
                del self._waiting[key]
            if not self._waiting and self._listening is not None:
                self._listening.cancel()
                self._listening = None

    @property
    def watcher_count(self) -> int:
        """How many are waiting."""
        return sum(len(events) for events in self._waiting.values())

    @property
    def is_listening(self) -> bool:
        """Whether a connection is held, or sought."""
        return self._listening is not None

    async def _listen(self) -> None:
        while True:
            try:
                await self._listen_once()
            except LOST as error:
                log.warning("not listening on %s, and trying again: %s", self._channel, error)
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _listen_once(self) -> None:
        """Listen until the connection is lost."""
        connection = await asyncpg.connect(self._dsn, timeout=CONNECT_SECONDS)
        lost = asyncio.Event()
        try:
            connection.add_termination_listener(lambda _: lost.set())
            await connection.add_listener(self._channel, self._hear)
            for events in self._waiting.values():
                for woken in events:
                    woken.set()
            await lost.wait()
        finally:
            with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await connection.close(timeout=1)

    def _hear(self, _connection: Any, _pid: int, _channel: str, key: str) -> None:
        for woken in self._waiting.get(key, ()):
            woken.set()
