"""Which tools a simulated model calls: those that it is plainly told to call."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

_ARGUMENTS = re.compile(r"\s+with\s+(?=\{)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool: its name, and its arguments as JSON."""

    name: str
    arguments: str


def find_tool_calls(names: Sequence[str], choice: object, text: str) -> tuple[ToolCall, ...]:
    """Find what a message asks to call.

    `call <name>` calls a tool that there is, with the JSON object that follows after `with`, else
    with no arguments: `Call get_weather with {"city": "Oslo"}, then call get_time`. A `tool_choice`
    that names a function calls it in any case, `required` calls the first tool unless another is
    named, and `none` calls nothing.

    Args:
        names: The tools that there are.
        choice: The request's `tool_choice`.
        text: The last user message.
    """
    if choice == "none" or not names:
        return ()
    known = "|".join(sorted((re.escape(name) for name in names), key=len, reverse=True))
    calls = [
        ToolCall(match[1], _arguments_at(text, match.end()))
        for match in re.finditer(rf"\bcall\s+`?({known})(?![\w-])`?", text, re.IGNORECASE)
        if match[1] in names
    ]
    match choice:
        case {"function": {"name": str(forced)}} if forced in names:
            calls = [call for call in calls if call.name == forced] or [ToolCall(forced, "{}")]
        case "required":
            calls = calls or [ToolCall(names[0], "{}")]
    return tuple(calls)


def _arguments_at(text: str, position: int) -> str:
    """Return the JSON object that a call is told to be made with, or an empty one."""
    opening = _ARGUMENTS.match(text, position)
    if opening is None:
        return "{}"
    depth = 0
    for end in range(opening.end(), len(text)):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if depth == 0:
            written = text[opening.end() : end + 1]
            return written if _is_json(written) else "{}"
    return "{}"


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True
