"""JSON as endpoints write it, which is not always JSON."""

import json
import re
from collections.abc import Mapping
from typing import Any

import orjson

_SURROGATE = re.compile("[\ud800-\udfff]")
_MOST_DIGITS = 18  # of what surely is an integer of 64 bits
_DEEPEST = 250  # levels that can be written again


def whole(value: Any) -> Any:
    """Return *value* with U+FFFD in place of each half of a character."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [whole(each) for each in value]
    if isinstance(value, dict):
        return {whole(name): whole(each) for name, each in value.items()}
    return value


def load_json(content: bytes, *, keeps_halves: bool = False) -> Any:
    """Parse *content*, also where it has what the standard leaves out and Python's `json` takes.

    Halves of characters become U+FFFD, numbers that are none become null, and integers of more
    than 64 bits floats: whatever is returned can be written as JSON again.

    Args:
        content: What an endpoint sent.
        keeps_halves: Leave halves of characters to the caller.

    Raises:
        ValueError: It is no JSON, is cut off, or is nested too deeply.
    """
    try:
        try:
            value = orjson.loads(content)
        except orjson.JSONDecodeError:
            value = json.loads(content, parse_int=_number, parse_constant=_nothing)
            value = value if keeps_halves else whole(value)
        if content.count(b"{") + content.count(b"[") > _DEEPEST:
            orjson.dumps(whole(value) if keeps_halves else value)
    except (RecursionError, orjson.JSONEncodeError):
        raise ValueError("it is nested too deeply") from None
    return value


def first_choice(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the first choice of a completion or a chunk; an empty one where there is none."""
    choices = fields.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


def _nothing(_name: str) -> None:
    return None
