"""How long a call may take, and until when it must have begun to answer."""

import asyncio
from types import TracebackType

from providers.base import ProviderError, ProviderErrorCode


class CallDeadline:
    """Limits the waits of one call; the time between them counts, and is not interrupted.

    Each wait is an `async with` block, one at a time.

    Args:
        timeout_seconds: For the whole call, from now on.
        first_byte_timeout_seconds: From `note_sent` to `note_first_byte`.
    """

    __slots__ = (
        "_first_at",
        "_first_seconds",
        "_has_begun",
        "_is_sent",
        "_total_at",
        "_total_seconds",
        "_wait",
    )

    def __init__(
        self, timeout_seconds: float | None, first_byte_timeout_seconds: float | None
    ) -> None:
        self._total_seconds = timeout_seconds
        self._first_seconds = first_byte_timeout_seconds
        self._total_at = _after(timeout_seconds)
        self._first_at: float | None = None
        self._is_sent = False
        self._has_begun = False
        self._wait: asyncio.Timeout | None = None

    async def __aenter__(self) -> None:
        self._wait = asyncio.timeout_at(self._next())
        await self._wait.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        wait, self._wait = self._wait, None
        if wait is None:
            raise RuntimeError("a wait ended that had not begun")
        try:
            await wait.__aexit__(kind, error, traceback)
        except TimeoutError as late:
            raise self._explain() from late

    def note_sent(self) -> None:
        """Note that the whole request is on its way; a first byte is waited for from now on."""
        self._is_sent = True
        if not self._has_begun:  # an answer may come before all of the request has left
            self._first_at = _after(self._first_seconds)
            self._reschedule()

    def note_first_byte(self) -> None:
        """Note that the answer has begun."""
        self._has_begun = True
        if self._first_at is not None:
            self._first_at = None
            self._reschedule()

    def _next(self) -> float | None:
        return min((at for at in (self._first_at, self._total_at) if at is not None), default=None)

    def _reschedule(self) -> None:
        if self._wait is not None and not self._wait.expired():
            self._wait.reschedule(self._next())

    def _explain(self) -> ProviderError:
        if self._first_at is not None and self._first_at == self._next():
            return ProviderError(
                ProviderErrorCode.TIMED_OUT,
                f"no first byte of an answer within {self._first_seconds:g} s of the request",
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


def _after(seconds: float | None) -> float | None:
    return None if seconds is None else asyncio.get_running_loop().time() + seconds
