"""Answers that go wrong on purpose: by status, by body, by silence and by hanging up."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import orjson
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send
from typing_extensions import override

STALL_SECONDS = 60.0
"""How long a stalled answer keeps its client waiting, whatever the latency scale."""

SLOW_PAUSE_SECONDS = 0.1
"""Between the parts of a slow answer, whatever the latency scale."""

HUGE_BODY_BYTES = 100_000_000
CHUNK_BYTES = 64 * 1024
ERROR = {"code": 502, "message": "Simulated fault: the provider failed half way."}

_GARBAGE = bytes(range(128, 256)) * 8


class JsonResponse(Response):
    """A JSON answer, written by orjson."""

    media_type = "application/json"

    @override
    def render(self, content: object) -> bytes:
        return orjson.dumps(content)


class StalledResponse(JsonResponse):
    """An answer that comes after `STALL_SECONDS`, or never if the client leaves before."""

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(STALL_SECONDS):
                while (await receive())["type"] != "http.disconnect":
                    pass
        except TimeoutError:
            await super().__call__(scope, receive, send)


class CutResponse(Response):
    """An answer that declares its whole body, sends half of it and hangs up."""

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "HEAD":
            await super().__call__(scope, receive, send)
            return
        start = {"status": self.status_code, "headers": self.raw_headers}
        half = bytes(self.body[: len(self.body) // 2])
        await send({"type": "http.response.start", **start})
        # Returning with more to come makes the server close the connection.
        await send({"type": "http.response.body", "body": half, "more_body": True})


def error_response(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error in OpenRouter's shape.

    Source: https://openrouter.ai/docs/api/reference/errors-and-debugging.
    """
    return JsonResponse(
        {"error": {"code": status, "message": message}}, status_code=status, headers=headers
    )


_STATUS_FAULTS: dict[str, tuple[int, str, dict[str, str]]] = {
    "fault-401": (401, "Simulated fault: the key was refused.", {}),
    "fault-402": (402, "Simulated fault: the account has no credits left.", {}),
    "fault-429": (429, "Simulated fault: the rate limit is always passed.", {"Retry-After": "1"}),
    "fault-500": (500, "Simulated fault: the provider failed.", {}),
}
_ONCE_FAULTS: dict[str, tuple[int, str, dict[str, str]]] = {
    "fault-429-once": (429, "Simulated fault: try the same again.", {"Retry-After": "0"}),
    "fault-503-once": (503, "Simulated fault: try the same again.", {}),
}


async def _huge_body(latency_scale: float) -> AsyncIterator[bytes]:
    """Write a well-formed completion whose only fault is its size."""
    opening = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"'
    closing = b'"},"finish_reason":"stop"}]}'
    filling_bytes = HUGE_BODY_BYTES - len(opening) - len(closing)
    chunk = b"x" * CHUNK_BYTES
    yield opening
    for _ in range(filling_bytes // CHUNK_BYTES):
        await asyncio.sleep(0.002 * latency_scale)
        yield chunk
    yield chunk[: filling_bytes % CHUNK_BYTES] + closing


def _stalled(_latency_scale: float) -> Response:
    content = {"error": {"code": 504, "message": "Simulated fault: too late."}}
    return StalledResponse(content, status_code=504)


def _garbage(_latency_scale: float) -> Response:
    return Response(_GARBAGE, media_type="application/json")


def _empty(_latency_scale: float) -> Response:
    return JsonResponse({"id": "gen-sandbox-empty", "object": "chat.completion", "choices": []})


def _huge(latency_scale: float) -> Response:
    return StreamingResponse(_huge_body(latency_scale), media_type="application/json")


def _disconnect(_latency_scale: float) -> Response:
    body = {"choices": [{"message": {"role": "assistant", "content": "cut " * 500}}]}
    return CutResponse(orjson.dumps(body), media_type="application/json")


def _error(_latency_scale: float) -> Response:
    return JsonResponse({"error": ERROR})


async def _slow_body() -> AsyncIterator[bytes]:
    body = {"choices": [{"message": {"role": "assistant", "content": "Slow but sure."}}]}
    written = orjson.dumps(body)
    for start in range(0, len(written), 16):
        yield written[start : start + 16]
        await asyncio.sleep(SLOW_PAUSE_SECONDS)


def _slow(_latency_scale: float) -> Response:
    return StreamingResponse(_slow_body(), media_type="application/json")


_BODY_FAULTS: dict[str, Callable[[float], Response]] = {
    "fault-timeout": _stalled,
    "fault-garbage": _garbage,
    "fault-empty": _empty,
    "fault-huge": _huge,
    "fault-disconnect": _disconnect,
    "fault-error": _error,
    "fault-slow": _slow,
}
NO_USAGE_FAULT = "fault-no-usage"

FAULTS = (*_STATUS_FAULTS, *_ONCE_FAULTS, *_BODY_FAULTS, NO_USAGE_FAULT)
"""Every fault by its name, which is its model id without `sandbox/`."""


def has_once_fault(name: str) -> bool:
    """Tell whether the fault shows only the first time a message comes."""
    return name in _ONCE_FAULTS


def create_fault(name: str, latency_scale: float) -> Response | None:
    """Create the answer of a fault; None for one that lets a completion be answered.

    Args:
        name: One of `FAULTS`; a `-once` fault gives the refusal of its first time.
        latency_scale: Scales the pauses of `fault-huge`, about 3 s in all at 1.
    """
    if (refusal := _STATUS_FAULTS.get(name) or _ONCE_FAULTS.get(name)) is not None:
        return error_response(*refusal)
    create = _BODY_FAULTS.get(name)
    return create(latency_scale) if create else None
