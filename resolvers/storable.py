"""Which of callers' values can be stored, and forwarded to models, as they are."""

import math
from collections.abc import Iterable

# JSON has numbers of any size; what stores and forwards them has 64 bits.
SMALLEST_INTEGER = -(2**63)
LARGEST_INTEGER = 2**64 - 1
# Every reader of JSON ends somewhere: orjson at 254.
MAX_DEPTH = 100


def find_unstorable(value: object, depth: int = 0) -> str | None:
    """Return what *value*, or a part of it, must not contain; None when nothing is wrong.

    Args:
        value: As JSON was read.
        depth: How many lists and objects it is in.
    """
    if isinstance(value, str):
        if "\x00" in value or not (value.isascii() or _is_encodable(value)):
            return "NUL characters or lone surrogates"
    elif depth > MAX_DEPTH:
        return f"values nested more than {MAX_DEPTH} deep"
    elif isinstance(value, int):
        if not SMALLEST_INTEGER <= value <= LARGEST_INTEGER:
            return "integers of more than 64 bits"
    elif isinstance(value, float):
        if not math.isfinite(value):
            return "numbers that are not finite"
    elif isinstance(value, dict):
        return _first(value, depth) or _first(value.values(), depth)
    elif isinstance(value, list | tuple):
        return _first(value, depth)
    return None


def _first(parts: Iterable[object], depth: int) -> str | None:
    for part in parts:
        found = find_unstorable(part, depth + 1)
        if found is not None:
            return found
    return None


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
