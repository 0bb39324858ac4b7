"""Doing once, within a process, what several want at the same time."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class SingleFlight(Generic[K, V]):
    """Lets those who want the same thing wait for the first of them to get it."""

    def __init__(self) -> None:
        self._under_way: dict[K, asyncio.Task[V]] = {}

    async def share(self, key: K, work: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """Return what *work* returns, or what somebody's work for the same key did.

        A failure is its own caller's: the others try for themselves. A caller that is cancelled
        leaves the work to go on: it may be paid for, and others may be waiting for it.
        """
        while (task := self._under_way.get(key)) is not None:
            await asyncio.wait({task})
            if not task.cancelled() and task.exception() is None:
                return task.result()
        task = asyncio.create_task(work())
        self._under_way[key] = task
        task.add_done_callback(lambda done: self._forget(key, done))
        return await asyncio.shield(task)

    def _forget(self, key: K, task: "asyncio.Task[V]") -> None:
        del self._under_way[key]
        if not task.cancelled():
            task.exception()  # seen, also when nobody waits for it any longer
