"""Completions in parts: as chunks, and as the events that carry them."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import orjson
from starlette.responses import StreamingResponse

from app.sandbox.simulation import Completion
from app.sandbox.tools import ToolCall

PART_CHARACTERS = 16
"""Of a text in one chunk: four tokens."""

FEWEST_PARTS = 3
"""Of a text that is long enough: a stream that comes at once shows nothing."""

DONE = b"data: [DONE]\n\n"
PROCESSING = b": OPENROUTER PROCESSING\n\n"
"""What OpenRouter sends to keep a connection open.

Source: https://openrouter.ai/docs/api/reference/streaming.
"""


class EventStreamResponse(StreamingResponse):
    """An answer of server-sent events."""

    media_type = "text/event-stream"


def write_event(value: object) -> bytes:
    """Write one event."""
    return b"data: " + orjson.dumps(value) + b"\n\n"


def list_chunks(head: Mapping[str, Any], completion: Completion) -> list[dict[str, Any]]:
    """Split a completion into chunks: the role, the content in parts, and how it ended.

    Args:
        head: The fields that every chunk has.
        completion: What is said, or which tools are called.
    """
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    if completion.tool_calls:
        deltas[0]["content"] = None
        for index, call in enumerate(completion.tool_calls):
            deltas += _call_deltas(index, call)
    else:
        deltas += [{"content": part} for part in _split(completion.text)]
    chunks = [_chunk(head, delta, None) for delta in deltas]
    return [*chunks, _chunk(head, {}, completion.finish_reason)]


def render_tool_call(index: int, call: ToolCall) -> dict[str, Any]:
    """Write a tool call as a message has it."""
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": f"call_sandbox_{index}", "type": "function", "function": function}


async def stream_events(
    events: Sequence[bytes], pause_seconds: float, on_end: Callable[[], None]
) -> AsyncIterator[bytes]:
    """Yield events with pauses between them; *on_end* is called if the client stays to the end."""
    for event in events:
        yield event
        if pause_seconds:
            await asyncio.sleep(pause_seconds)
    on_end()
    yield DONE


def _chunk(head: Mapping[str, Any], delta: object, finish_reason: str | None) -> dict[str, Any]:
    choice = {
        "index": 0,
        "delta": delta,
        "logprobs": None,
        "finish_reason": finish_reason,
        "native_finish_reason": finish_reason,
    }
    return {**head, "object": "chat.completion.chunk", "choices": [choice]}


def _call_deltas(index: int, call: ToolCall) -> list[dict[str, Any]]:
    """Write the call with its name first, and then its arguments in parts."""
    named = render_tool_call(index, ToolCall(call.name, ""))
    return [
        {"tool_calls": [{"index": index, **named}]},
        *(
            {"tool_calls": [{"index": index, "function": {"arguments": part}}]}
            for part in _split(call.arguments)
        ),
    ]


def _split(text: str) -> list[str]:
    size = max(1, min(PART_CHARACTERS, math.ceil(len(text) / FEWEST_PARTS)))
    return [text[start : start + size] for start in range(0, len(text), size)]
