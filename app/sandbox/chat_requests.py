"""What a chat request says to the simulation, read from its body and checked."""

from dataclasses import dataclass
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request

from app.sandbox.simulation import count_tokens
from app.sandbox.tools import ToolCall, find_tool_calls

REQUEST_MAX_BYTES = 8 * 1024 * 1024
"""Larger than any prompt that fits the largest context."""

IMAGE_TOKENS = 85
"""What a picture counts as, whatever is on it: nobody looks at it.

Source: https://platform.openai.com/docs/guides/images-vision, low detail.
"""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What the simulation needs of a chat request.

    Attributes:
        streams: The answer is to come in parts.
        includes_usage: A streamed answer ends with its usage.
        tool_calls: What is to be answered instead of a text.
        json_schema: The answer is to be JSON of this schema; an empty one admits any object.
        tool_text: What a tool has just answered, if that is the last message.
    """

    system_text: str
    last_user_text: str
    prompt_tokens: int
    max_tokens: int | None
    streams: bool = False
    includes_usage: bool = False
    tool_calls: tuple[ToolCall, ...] = ()
    json_schema: dict[str, Any] | None = None
    tool_text: str | None = None


async def read_json_object(request: Request) -> dict[str, Any]:
    """Read a request's body as a JSON object.

    Raises:
        HTTPException: 400, not a JSON object; 413, over `REQUEST_MAX_BYTES`.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > REQUEST_MAX_BYTES:
            raise HTTPException(413, f"The body is over {REQUEST_MAX_BYTES} bytes.")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise HTTPException(400, f"The body is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise HTTPException(400, "The body is not a JSON object.")
    return value


def parse_chat(body: dict[str, Any]) -> ChatRequest:
    """Read the fields that the simulation knows from a chat request's body.

    Raises:
        HTTPException: 400, naming the field that is missing, wrong or unsupported.
    """
    temperature = body.get("temperature")
    if temperature is not None and not _is_number(temperature):
        raise HTTPException(400, "temperature: expected a number.")
    max_tokens = body.get("max_tokens")
    if max_tokens is not None and (type(max_tokens) is not int or max_tokens < 1):
        raise HTTPException(400, "max_tokens: expected a whole number of at least 1.")
    streams = body.get("stream")
    if streams is not None and not isinstance(streams, bool):
        raise HTTPException(400, "stream: expected true or false.")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise HTTPException(400, "messages: expected a list with at least one message.")
    system_text = last_user_text = role = text = ""
    prompt_tokens = 0
    for index, message in enumerate(messages):
        role, text, images = _parse_message(message, index)
        prompt_tokens += count_tokens(text) + IMAGE_TOKENS * images
        if role == "user":
            last_user_text = text
        elif role == "system":
            system_text = text
    return ChatRequest(
        system_text,
        last_user_text,
        prompt_tokens,
        max_tokens,
        streams=bool(streams),
        includes_usage=_includes_usage(body),
        tool_calls=_parse_tools(body, last_user_text) if role == "user" else (),
        json_schema=_parse_response_format(body.get("response_format")),
        tool_text=text if role == "tool" else None,
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _includes_usage(body: dict[str, Any]) -> bool:
    """Tell whether a stream's usage is wanted, as OpenAI has it or as OpenRouter does."""
    options, usage = body.get("stream_options"), body.get("usage")
    return (isinstance(options, dict) and options.get("include_usage") is True) or (
        isinstance(usage, dict) and usage.get("include") is True
    )


def _parse_tools(body: dict[str, Any], text: str) -> tuple[ToolCall, ...]:
    tools = body.get("tools")
    if tools is None:
        return ()
    if not isinstance(tools, list):
        raise HTTPException(400, "tools: expected a list.")
    names = []
    for index, tool in enumerate(tools):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise HTTPException(400, f"tools[{index}]: expected a function with a name.")
        names.append(function["name"])
    return find_tool_calls(names, body.get("tool_choice"), text)


def _parse_response_format(wanted: object) -> dict[str, Any] | None:
    match wanted:
        case None | {"type": "text"}:
            return None
        case {"type": "json_object"}:
            return {}
        case {"type": "json_schema", "json_schema": {"schema": dict() as schema}}:
            return schema
    raise HTTPException(
        400, "response_format: expected text, json_object, or json_schema with its schema."
    )


def _parse_message(message: object, index: int) -> tuple[str, str, int]:
    """Return a message's role, its text, and how many pictures it has."""
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise HTTPException(400, f"messages[{index}]: expected an object with a role.")
    match message.get("content"):
        case str(text):
            return message["role"], text, 0
        case None if message["role"] == "assistant":
            return message["role"], "", 0
        case [*parts] if all(_is_text(part) or _is_image(part) for part in parts):
            texts = [part["text"] for part in parts if _is_text(part)]
            return message["role"], "".join(texts), len(parts) - len(texts)
    raise HTTPException(
        400, f"messages[{index}].content: expected text or a list of text and image_url parts."
    )


def _is_text(part: object) -> bool:
    return isinstance(part, dict) and isinstance(part.get("text"), str)


def _is_image(part: object) -> bool:
    match part:
        case {"type": "image_url", "image_url": {"url": str()}}:
            return True
    return False
