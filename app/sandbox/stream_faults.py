"""Streams that go wrong on purpose: cut, broken, endless, slow, or failing half way."""

import asyncio
from collections.abc import AsyncIterator, Callable
from decimal import Decimal

from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from app.sandbox.faults import CHUNK_BYTES, ERROR, HUGE_BODY_BYTES, SLOW_PAUSE_SECONDS
from app.sandbox.simulation import Completion
from app.sandbox.streams import DONE, EventStreamResponse, list_chunks, write_event

_HEAD = {"id": "gen-sandbox-fault", "model": "sandbox/fault", "created": 0}
_HALF = "This answer is going to be cut off in the middle of a w"


class CutStreamResponse(EventStreamResponse):
    """A stream that hangs up before it is over."""

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **start})
        async for part in self.body_iterator:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        # Returning with more to come makes the server close the connection.


def _half() -> list[bytes]:
    completion = Completion(_HALF, "stop", 1, 1, Decimal(0), 0.0)
    return [write_event(chunk) for chunk in list_chunks(_HEAD, completion)[:-1]]


async def _events(*events: bytes) -> AsyncIterator[bytes]:
    for event in events:
        yield event


async def _slow_events() -> AsyncIterator[bytes]:
    completion = Completion("Slow but sure.", "stop", 1, 4, Decimal(0), 0.0)
    for chunk in list_chunks(_HEAD, completion):
        yield write_event(chunk)
        await asyncio.sleep(SLOW_PAUSE_SECONDS)
    yield DONE


async def _huge_events(latency_scale: float) -> AsyncIterator[bytes]:
    completion = Completion("x" * CHUNK_BYTES, "stop", 1, 1, Decimal(0), 0.0)
    role, *parts, end = (write_event(chunk) for chunk in list_chunks(_HEAD, completion))
    yield role
    part = b"".join(parts)
    for _ in range(HUGE_BODY_BYTES // len(part) + 1):
        await asyncio.sleep(0.002 * latency_scale)
        yield part
    yield end
    yield DONE


STREAM_FAULTS: dict[str, Callable[[float], Response]] = {
    "fault-garbage": lambda _: EventStreamResponse(_events(*_half(), b"data: {no JSON\n\n", DONE)),
    "fault-empty": lambda _: EventStreamResponse(_events(DONE)),
    "fault-huge": lambda scale: EventStreamResponse(_huge_events(scale)),
    "fault-disconnect": lambda _: CutStreamResponse(_events(*_half())),
    "fault-error": lambda _: EventStreamResponse(
        _events(*_half(), write_event({**_HEAD, "error": ERROR, "choices": []}))
    ),
    "fault-slow": lambda _: EventStreamResponse(_slow_events()),
}
"""The faults that look otherwise in a stream, each with its answer by the latency scale.

The others answer a stream as they answer anything: with a status, or after a long silence.
"""
