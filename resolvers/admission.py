"""How many calls of production a process has under way: no more than it can hold."""

import asyncio
from collections.abc import Callable

from resolvers.errors import UnavailableError

RETRY_SECONDS = 1


class Admission:
    """Lets calls begin while there is room for them, and refuses them at once when there is none.

    A call has its place until it is stored: when the database can't keep up, or a provider takes
    long, those that come are told to come back rather than to wait in a line that grows.

    Args:
        max_calls: Under way at once.
        note_refusal: Told of each that is refused.
    """

    def __init__(self, max_calls: int, *, note_refusal: Callable[[], None] = lambda: None) -> None:
        self._max_calls = max_calls
        self._note_refusal = note_refusal
        self._emptied: asyncio.Event | None = None
        self.count = 0

    def enter(self) -> None:
        """Take a place.

        Raises:
            UnavailableError: There is none.
        """
        if self.count >= self._max_calls:
            self._note_refusal()
            raise UnavailableError(
                f"the server has {self._max_calls} calls under way, and takes no more just now",
                retry_after_seconds=RETRY_SECONDS,
            )
        self.count += 1

    def leave(self, count: int = 1) -> None:
        """Give places back."""
        self.count -= count
        if self._emptied is not None and self.count <= 0:
            self._emptied.set()

    async def until_empty(self) -> None:
        """Wait until no call is under way."""
        while self.count > 0:
            self._emptied = asyncio.Event()
            await self._emptied.wait()
