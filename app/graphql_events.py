"""Answers as server-sent events: each as it comes, until the last one or until the client leaves.

Source: GraphQL over Server-Sent Events, distinct connections mode
(https://github.com/enisdenjo/graphql-sse/blob/master/PROTOCOL.md).
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Final

from starlette.types import Receive, Send

EVENTS_TYPE: Final = "text/event-stream"
# A proxy closes what is silent; a comment keeps it open, and finds out who has left.
SILENCE_SECONDS: Final = 12.0


async def send_events(answers: AsyncGenerator[bytes, None], receive: Receive, send: Send) -> None:
    """Send each of *answers*, which are encoded, as an event; stop once the client has left."""
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [
                (b"content-type", f"{EVENTS_TYPE}; charset=utf-8".encode()),
                (b"cache-control", b"no-store"),
                (b"x-accel-buffering", b"no"),
            ],
        }
    )
    sending = asyncio.create_task(_send_all(answers, send))
    leaving = asyncio.create_task(_await_disconnect(receive))
    try:
        await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            sending.result()
    finally:
        for task in (sending, leaving):
            task.cancel()
        # What the answers hold is given back before the request ends.
        for task in (sending, leaving):
            with suppress(asyncio.CancelledError):
                await task


async def _send_all(answers: AsyncGenerator[bytes, None], send: Send) -> None:
    async with aclosing(answers):
        coming = asyncio.ensure_future(anext(answers, None))
        try:
            while True:
                done, _ = await asyncio.wait({coming}, timeout=SILENCE_SECONDS)
                if not done:
                    await _send_piece(send, b":\n\n")
                    continue
                answer = coming.result()
                if answer is None:
                    break
                await _send_piece(send, b"event: next\ndata: " + answer + b"\n\n")
                coming = asyncio.ensure_future(anext(answers, None))
        finally:
            coming.cancel()
            with suppress(asyncio.CancelledError):
                await coming
    await _send_piece(send, b"event: complete\ndata:\n\n", is_last=True)


async def _send_piece(send: Send, piece: bytes, *, is_last: bool = False) -> None:
    await send({"type": "http.response.body", "body": piece, "more_body": not is_last})


async def _await_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
