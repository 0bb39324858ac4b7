"""Replies of models that are to be one JSON object, read strictly."""

import json
import re
from typing import Any, NoReturn

UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
"""What PostgreSQL text holds none of."""

_FENCE = "```"
_SHOWN_CHARACTERS = 60


class ReplyError(ValueError):
    """A reply that is not what was asked for; the text says why."""


def read_json_object(text: str) -> dict[str, Any]:
    """Read a whole reply as one JSON object; white space and one code fence may surround it.

    Raises:
        ReplyError: It is anything else, or a key stands in an object twice.
    """
    try:
        value: object = _JSON.decode(_without_fence(text))
    except (ValueError, RecursionError) as error:
        raise ReplyError(f"the reply can't be read as one JSON object: {error}") from error
    if not isinstance(value, dict):
        raise ReplyError(f"the reply must be a JSON object, not {shown(value)}")
    return value


def shown(value: object) -> str:
    """Quote what was found, briefly: it may be long or deep, and goes into messages and logs."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "an array"
    return repr(value)[:_SHOWN_CHARACTERS]


def _without_fence(text: str) -> str:
    stripped = text.strip()
    if not stripped.startswith(_FENCE):
        return stripped
    opening, _, rest = stripped.partition("\n")
    if opening.strip().lower() not in {_FENCE, f"{_FENCE}json"} or not rest.endswith(_FENCE):
        raise ReplyError("its code fence must stand on lines of its own, around everything")
    return rest.removesuffix(_FENCE)


def _object_of_distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a key stands in it twice")
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"JSON has no number {name}")


_JSON = json.JSONDecoder(object_pairs_hook=_object_of_distinct, parse_constant=_refuse_constant)
