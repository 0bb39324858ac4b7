"""Sharing commits: what concurrent callers bring while one commit runs goes into the next."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Generic, TypeVar

from resolvers.failures import describe, is_outage

log = logging.getLogger("gero")

T = TypeVar("T")


class GroupCommit(Generic[T]):
    """Stores items for many callers at once, and tells each when its own is durable.

    There is no delay to gather a batch: an item that comes while nothing is
    being stored is stored at once, and the others find company by themselves.

    Args:
        store: Stores a batch in one transaction, all of it or nothing.
        max_waiting: Items held at most, whether they wait or are being stored.
        size_of: Of an item, in bytes.
        max_batch_bytes: From which size on the next items wait for the next batch.
        keeps: Whether items outlast an outage that *store* has no patience for: whoever waits is
            told of it then, and the items are stored once that is over.

    Attributes:
        watchers: Told of every batch: its items, and how long storing it took in seconds.
    """

    def __init__(
        self,
        store: Callable[[Sequence[T]], Awaitable[None]],
        *,
        max_waiting: int,
        size_of: Callable[[T], int] = lambda _: 0,
        max_batch_bytes: int = 1,
        keeps: bool = False,
    ) -> None:
        self._store = store
        self._keeps = keeps
        self._size_of = size_of
        self._max_batch_bytes = max_batch_bytes
        self._max_waiting = max_waiting
        self._held = 0
        self._has_room = asyncio.Event()
        self._waiting: list[tuple[T, asyncio.Future[None]]] = []
        self._storing: asyncio.Task[None] | None = None
        self.watchers: list[Callable[[int, float], None]] = []

    @property
    def waiting_count(self) -> int:
        """How many items wait for the next batch."""
        return len(self._waiting)

    async def offer(self, item: T) -> "asyncio.Future[None]":
        """Hand *item* over, once there is room for it.

        Returns:
            Done when *item* is stored; fails with what storing it raised. A
            caller that does not wait for it leaves *item* to be stored.
        """
        while self._held >= self._max_waiting:
            self._has_room.clear()
            await self._has_room.wait()
        self._held += 1
        if self._storing is None:
            # It serves whoever comes next too, and so belongs to no request.
            self._storing = asyncio.create_task(self._store_waiting(), context=Context())
        stored: asyncio.Future[None] = self._storing.get_loop().create_future()
        self._waiting.append((item, stored))
        return stored

    async def _store_waiting(self) -> None:
        try:
            while self._waiting:
                await self._store_batch(self._next_batch())
        finally:
            self._storing = None

    def _next_batch(self) -> list[tuple[T, "asyncio.Future[None]"]]:
        count = size_bytes = 0
        for item, _ in self._waiting:
            count += 1
            size_bytes += self._size_of(item)
            if size_bytes >= self._max_batch_bytes:
                break
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return batch

    async def _store_batch(self, batch: Sequence[tuple[T, "asyncio.Future[None]"]]) -> None:
        """Store *batch*; when one of its items can't be stored, the others still are."""
        began = time.perf_counter()
        while (error := await self._attempt(batch)) is not None:
            is_away = is_outage(error)
            if is_away and self._keeps:
                log.warning("%d wait for the database: %s", self._held, describe(error))
                _tell([*batch, *self._waiting], error)
            elif is_away or len(batch) == 1:
                break
            if len(batch) > 1:
                for each in batch:
                    await self._store_batch([each])
                return
        for watch in self.watchers:
            watch(len(batch), time.perf_counter() - began)
        self._held -= len(batch)
        self._has_room.set()
        _tell(batch, error)

    async def _attempt(self, batch: Sequence[tuple[T, "asyncio.Future[None]"]]) -> Exception | None:
        """Store *batch*; returns why that failed, if it did."""
        try:
            await self._store([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - it is the callers' to handle
            return error
        return None


def _tell(items: Sequence[tuple[T, "asyncio.Future[None]"]], error: Exception | None) -> None:
    """Tell those who wait for *items* that they are stored, or why not."""
    for _, stored in items:
        if stored.done():  # its caller was cancelled, or told before
            if error is not None and not is_outage(error):
                log.error("what nobody waits for could not be stored: %s", describe(error))
        elif error is None:
            stored.set_result(None)
        else:
            stored.set_exception(error)
