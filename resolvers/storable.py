"""Which of callers' values can be stored, and forwarded to models, as they are."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

# JSON has numbers of any size; what stores and forwards them has 64 bits.
SMALLEST_INTEGER = -(2**63)
LARGEST_INTEGER = 2**64 - 1
# Every reader of JSON ends somewhere: orjson at 254.
MAX_DEPTH = 100
HOLDING = (dict, list, tuple)


_Holder: TypeAlias = tuple[Any, int, "tuple[_Holder, str | int] | None"]


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


class Unstorable(NamedTuple):
    """Why a value can't be stored.

    Attributes:
        place: The names and numbers that lead to the part; of a wrong name, to its object.
        what: What the part must not contain.
    """

    place: tuple[str | int, ...]
    what: str


def find_unstorable(value: object) -> Unstorable | None:
    """Return a part of *value* that can't be stored; None when all of it can.

    Args:
        value: As JSON was read.
    """
    if isinstance(value, StorableObject):
        return None
    # Objects and lists that are left, each with how deep it is, and what holds it where.
    left: list[_Holder] = [((value,), 0, None)]
    while left:
        holder = left.pop()
        held, depth, _ = holder
        pairs: Iterable[tuple[str | int, object]] = enumerate(held)
        if isinstance(held, dict):
            found = next(filter(None, map(_find_in_text, held)), None)
            if found is not None:
                return Unstorable(_steps_to(holder), found)
            pairs = held.items()
        for step, part in pairs:
            find = FINDERS.get(type(part))
            found = None if find is None else find(part)
            if find is None and part and isinstance(part, HOLDING):
                if depth < MAX_DEPTH:
                    left.append((part, depth + 1, (holder, step)))
                else:
                    found = f"values nested more than {MAX_DEPTH} deep"
            if found is not None:
                return Unstorable((*_steps_to(holder), step) if depth else (), found)
    return None


def _steps_to(holder: "_Holder") -> tuple[str | int, ...]:
    steps = []
    while holder[2] is not None:
        holder, step = holder[2]
        steps.append(step)
    return tuple(reversed(steps))[1:]


def _find_in_text(text: str) -> str | None:
    is_fine = "\x00" not in text and (text.isascii() or _is_encodable(text))
    return None if is_fine else "NUL characters or lone surrogates"


def _find_in_integer(number: int) -> str | None:
    fits = SMALLEST_INTEGER <= number <= LARGEST_INTEGER
    return None if fits else "integers of more than 64 bits"


def _find_in_float(number: float) -> str | None:
    return None if math.isfinite(number) else "numbers that are not finite"


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# Objects are told apart by their very type, as JSON's are: true is no integer.
FINDERS: Final[Mapping[type, Callable[[Any], str | None]]] = {
    str: _find_in_text,
    int: _find_in_integer,
    float: _find_in_float,
}
