"""Whether many want to leave in one turn of the event loop.

What leaves by itself finds its receiver asleep, and to wake that takes the kernel longer than to
send. So those of a crowd leave one right after the other, at the end of the turn; when there are
few, each leaves at once.
"""

import asyncio

# So many of one turn are a crowd.
CROWD = 4


class Crowd:
    """Counts who wants to leave; the turn before tells what to expect of this one."""

    __slots__ = ("_count", "_is_here")

    def __init__(self) -> None:
        self._count = 0
        self._is_here = False

    def join(self) -> bool:
        """Count one more, and tell whether to wait for the end of the turn."""
        self._count += 1
        if self._count == 1:
            asyncio.get_running_loop().call_soon(self._end_turn)
        return self._is_here

    def _end_turn(self) -> None:
        self._is_here, self._count = self._count >= CROWD, 0
