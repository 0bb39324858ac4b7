"""Waiting for something to happen, and not for ever."""

import asyncio


async def wait_for_event(event: asyncio.Event | None, seconds: float) -> bool:
    """Wait until *event* is set, or so long at most; tell whether it is. None never is."""
    if event is None:
        await asyncio.sleep(seconds)
        return False
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
