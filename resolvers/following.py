"""Following what changes, from any replica and from any moment on, to its end."""

import asyncio
from abc import abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Protocol, TypeVar
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from db.listening import Listener
from resolvers.failures import is_outage
from resolvers.waiting import wait_for_event

# What is followed may store dozens of results a second: nobody reads as many states.
SHORTEST_WAIT_SECONDS = 0.25
# A notification can be lost with the connection that brings it.
LONGEST_WAIT_SECONDS = 2.0
OUTAGE_WAIT_SECONDS = 1.0
# The speed is that of the latest seconds.
SPEED_SECONDS = 10


class State(Protocol):
    """How far something has come."""

    @property
    @abstractmethod
    def has_ended(self) -> bool:
        """Whether nothing more will come."""


S = TypeVar("S", bound=State)


async def follow(
    changes: Listener, key: UUID, read: Callable[[], Awaitable[S]]
) -> AsyncGenerator[S, None]:
    """Yield the states of something, from the present one to its last.

    Args:
        changes: Wakes those who watch *key* when it may have changed.
        key: What is followed.
        read: Returns its state; an outage of the database is waited for.
    """
    shown: S | None = None
    # Watched before it is looked at: what changes in between is not missed.
    with changes.watch(str(key)) as changed:
        while shown is None or not shown.has_ended:
            changed.clear()
            state = await _read_patiently(read)
            if state != shown:
                yield state
                shown = state
            if not state.has_ended:
                await asyncio.sleep(SHORTEST_WAIT_SECONDS)
                await wait_for_event(changed, LONGEST_WAIT_SECONDS - SHORTEST_WAIT_SECONDS)


async def _read_patiently(read: Callable[[], Awaitable[S]]) -> S:
    """Return a state, once the database is there to be asked."""
    while True:
        try:
            return await read()
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            if not is_outage(error):
                raise
            await asyncio.sleep(OUTAGE_WAIT_SECONDS)


def measure_speed(started_at: datetime | None, recent_count: int) -> float:
    """Return the calls a second of the latest seconds, or of those since the beginning.

    Args:
        started_at: The beginning; None before it.
        recent_count: Calls of the latest `SPEED_SECONDS`.
    """
    if started_at is None:
        return 0.0
    age = (datetime.now(UTC) - started_at).total_seconds()
    return round(recent_count / min(max(age, 1.0), SPEED_SECONDS), 1)


def estimate_seconds_left(done: int, total: int | None, speed: float) -> float | None:
    """Return how long the rest takes at a speed; None when that is not known."""
    if total is None or not speed:
        return None
    return round((total - done) / speed, 1)
