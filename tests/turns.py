"""Whether others have their turn on the event loop while something is done."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """How many turns another task has had."""

    def __init__(self) -> None:
        self.count = 0

    async def take(self) -> None:
        """Take every turn."""
        while True:
            self.count += 1
            await asyncio.sleep(0)


@asynccontextmanager
async def other_turns() -> AsyncIterator[Turns]:
    """Have another task take its turns while the block runs."""
    turns = Turns()
    other = asyncio.create_task(turns.take())
    try:
        yield turns
    finally:
        other.cancel()
