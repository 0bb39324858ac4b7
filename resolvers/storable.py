"""Which of callers' values can be stored, and forwarded to models, as they are."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

# JSON has numbers of any size; what stores and forwards them has 64 bits.
SMALLEST_INTEGER = -(2**63)
LARGEST_INTEGER = 2**64 - 1
# Every reader of JSON ends somewhere: orjson at 254.
MAX_DEPTH = 100


class StorableObject(dict[str, Any]):
    """An object of JSON that is known to be storable as a whole; only `read_storable` makes one."""


def read_storable(text: bytes, parsed: dict[str, Any]) -> dict[str, Any]:
    """Return *parsed*, as a `StorableObject` if the text alone tells that it is one.

    Args:
        text: What orjson has read, which refuses lone surrogates and numbers that are not finite;
            its integers have at most 64 bits.
        parsed: What came of it.
    """
    is_deep = text.count(b"[") + text.count(b"{") > MAX_DEPTH
    if is_deep or (text.find(b"\\") >= 0 and text.find(b"\\u0000") >= 0):
        return parsed
    return StorableObject(parsed)


def find_unstorable(value: object) -> str | None:
    """Return what *value*, or a part of it, must not contain; None when nothing is wrong.

    Args:
        value: As JSON was read.
    """
    if isinstance(value, StorableObject):
        return None
    depth = 0
    level: list[object] = [value]
    while level:
        below: list[object] = []
        for part in level:
            if isinstance(part, str):
                if "\x00" in part or not (part.isascii() or _is_encodable(part)):
                    return "NUL characters or lone surrogates"
            elif isinstance(part, dict):
                below += part
                below += part.values()
            elif isinstance(part, list | tuple):
                below += part
            elif (found := _find_wrong_number(part)) is not None:
                return found
        level = below
        depth += 1
        if level and depth > MAX_DEPTH:
            return f"values nested more than {MAX_DEPTH} deep"
    return None


def place_of_unstorable(value: object) -> tuple[str | int, ...]:
    """Return the names and numbers that lead to what `find_unstorable` found, as far as it goes.

    Of a name that is wrong itself they lead to the object; of values too deep, nowhere.
    """
    level: list[tuple[_Place | None, object]] = [(None, value)]
    while level:
        below: list[tuple[_Place | None, object]] = []
        for place, part in level:
            steps: Iterable[tuple[str | int, object]] = ()
            if isinstance(part, dict):
                if any(map(find_unstorable, part)):
                    return _read_place(place)
                steps = part.items()
            elif isinstance(part, list | tuple):
                steps = enumerate(part)
            elif find_unstorable(part) is not None:
                return _read_place(place)
            below += ((_Place(place, step), each) for step, each in steps)
        level = below
    return ()


@dataclass(frozen=True, slots=True)
class _Place:
    """A step into a value, after others."""

    before: "_Place | None"
    step: str | int


def _read_place(place: _Place | None) -> tuple[str | int, ...]:
    steps: list[str | int] = []
    while place is not None:
        steps.append(place.step)
        place = place.before
    return tuple(reversed(steps))


def _find_wrong_number(value: object) -> str | None:
    if isinstance(value, int) and not SMALLEST_INTEGER <= value <= LARGEST_INTEGER:
        return "integers of more than 64 bits"
    if isinstance(value, float) and not math.isfinite(value):
        return "numbers that are not finite"
    return None


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
