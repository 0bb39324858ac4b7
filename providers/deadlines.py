"""How long a call may take, and until when it must have begun to answer."""

import asyncio
import time
from collections.abc import Awaitable
from math import inf
from typing import TypeVar

from providers.base import ProviderError, ProviderErrorCode

T = TypeVar("T")


class Alarm:
    """Makes a future False at some time, and costs next to nothing when it is always too late.

    A timer of the loop is dear, and nearly all of them are taken back. This one is left to run:
    when it ends it is set again, for whatever it has been put off to meanwhile.
    """

    __slots__ = ("_at", "_loop", "_timer", "_timer_at", "_waiter")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[bool] | None = None
        self._at = inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf

    def set(self, at: float, waiter: asyncio.Future[bool]) -> None:
        """Make *waiter* False at the loop's time *at*, unless it is done, and no other any more."""
        self._waiter = waiter
        self._at = at
        if at < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = at
            self._timer = self._loop.call_at(at, self._ring)

    def unset(self) -> None:
        """Wait for nothing; the timer is left to run."""
        self._waiter = None

    def close(self) -> None:
        """Take the timer back."""
        self._waiter = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._timer_at = None, inf

    def _ring(self) -> None:
        rang_at, self._timer_at, self._timer = self._timer_at, inf, None
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        if self._at > rang_at:
            self.set(self._at, waiter)
        else:
            waiter.set_result(False)


class CallDeadline:
    """Limits the waits of one call; the time between them counts, and is not interrupted.

    Args:
        host: Who is called, for what is said of a connection.
        timeout_seconds: For the whole call, from now on.
        first_byte_timeout_seconds: From `note_sent` to `note_first_byte`.
        read_timeout_seconds: For each wait.
    """

    __slots__ = (
        "_alarm", "_first_at", "_first_seconds", "_has_begun", "_host", "_is_connected", "_is_sent",
        "_read_seconds", "_total_at", "_total_seconds", "_wait_at", "_waiter",
    )  # fmt: skip

    def __init__(
        self,
        host: str,
        timeout_seconds: float | None,
        first_byte_timeout_seconds: float | None = None,
        read_timeout_seconds: float | None = None,
    ) -> None:
        self._host = host
        self._total_seconds = timeout_seconds
        self._first_seconds = first_byte_timeout_seconds
        self._read_seconds = read_timeout_seconds
        # By the monotonic clock, which is the loop's.
        self._total_at = inf if timeout_seconds is None else time.monotonic() + timeout_seconds
        self._first_at = inf
        self._wait_at = inf
        self._is_connected = False
        self._is_sent = False
        self._has_begun = False
        self._waiter: asyncio.Future[bool] | None = None
        self._alarm: Alarm | None = None

    async def wait(self, waiter: asyncio.Future[bool], alarm: Alarm) -> None:
        """Wait until *waiter* is True; *alarm* makes it False when the time is up.

        Raises:
            ProviderError: The time is up.
        """
        if self._read_seconds is not None:
            self._wait_at = time.monotonic() + self._read_seconds
        self._waiter, self._alarm = waiter, alarm
        alarm.set(self._next(), waiter)
        try:
            in_time = await waiter
        except asyncio.CancelledError:
            self._wait_at = inf
            raise
        finally:
            self._waiter = None
            alarm.unset()
        if not in_time:
            raise self._explain()
        self._wait_at = inf

    async def limit(self, work: Awaitable[T]) -> T:
        """Await *work*, which has no future of its own, and cancel it when the time is up.

        Raises:
            ProviderError: The time is up.
        """
        if self._read_seconds is not None:
            self._wait_at = time.monotonic() + self._read_seconds
        until = self._next()
        try:
            async with asyncio.timeout_at(None if until == inf else until):
                found = await work
        except TimeoutError as late:
            raise self._explain() from late
        self._wait_at = inf
        return found

    def note_connected(self) -> None:
        """Note that there is a connection, and that some of the request may have left."""
        self._is_connected = True

    def note_sent(self) -> None:
        """Note that the whole request is on its way; a first byte is waited for from now on."""
        self._is_sent = True
        # An answer may come before all of the request has left.
        if self._first_seconds is not None and not self._has_begun:
            self._first_at = time.monotonic() + self._first_seconds
            if self._waiter is not None and self._alarm is not None:
                self._alarm.set(self._next(), self._waiter)

    def note_first_byte(self) -> None:
        """Note that the answer has begun."""
        self._has_begun = True
        self._first_at = inf

    def _next(self) -> float:
        first_at, wait_at = self._first_at, self._wait_at
        if first_at == wait_at == inf:  # as of most
            return self._total_at
        return min(self._total_at, first_at, wait_at)

    def _explain(self) -> ProviderError:
        at = self._next()
        if at == self._first_at:
            return ProviderError(
                ProviderErrorCode.TIMED_OUT,
                f"no first byte of an answer within {self._first_seconds:g} s of the request",
            )
        if at == self._wait_at:
            if self._is_connected:
                return ProviderError(ProviderErrorCode.TIMED_OUT, "no answer in time")
            return ProviderError(
                ProviderErrorCode.CONNECTION_FAILED,
                f"can't connect to {self._host}: no connection in time",
                is_retryable=True,
            )
        if not self._is_sent:
            # It waited for one of our sockets, or for a server that takes nothing.
            return ProviderError(
                ProviderErrorCode.CONNECTION_FAILED,
                f"the request could not be sent within {self._total_seconds:g} s",
            )
        return ProviderError(
            ProviderErrorCode.TIMED_OUT, f"no complete answer within {self._total_seconds:g} s"
        )
