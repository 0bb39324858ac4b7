"""Whether servers answer alike, and how much an answer holds.

Answers are compared as parsed JSON, key by key. Instants are compared as such,
because PostgreSQL writes no zeros at a fraction's end; 1 and 1.0 are the same
number. Decimals are strings and have to be the same ones.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


class DisagreementError(Exception):
    """Two servers answer one query differently; the message shows where."""


def _comparable(value: object) -> object:
    if isinstance(value, str) and INSTANT.fullmatch(value):
        return datetime.fromisoformat(value)
    return value


def differences(expected: Any, found: Any, path: str = "$") -> Iterator[str]:
    """Yield a line for each place at which two answers differ."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in expected.keys() | found.keys():
            if key not in expected or key not in found:
                yield f"{path}.{key} is missing in {'the first' if key in found else 'the second'}"
            else:
                yield from differences(expected[key], found[key], f"{path}.{key}")
    elif isinstance(expected, list) and isinstance(found, list):
        if len(expected) != len(found):
            yield f"{path} has {len(expected)} items and {len(found)}"
        for index, (left, right) in enumerate(zip(expected, found, strict=False)):
            yield from differences(left, right, f"{path}[{index}]")
    elif _comparable(expected) != _comparable(found):
        yield f"{path} is {expected!r} and {found!r}"


def check_agreement(query: str, answers: Mapping[str, Any]) -> None:
    """Compare the answers of all servers, by their names, with the first one's.

    Raises:
        DisagreementError: They differ, or the first one's has errors.
    """
    (first, expected), *others = answers.items()
    if "errors" in expected:
        raise DisagreementError(f"{query}: {first} answers errors: {expected['errors']}")
    for name, found in others:
        lines = sorted(differences(expected, found))
        if lines:
            shown = "\n  ".join(lines[:10])
            raise DisagreementError(
                f"{query}: {first} and {name} differ in {len(lines)} places\n  {shown}"
            )


@dataclass(frozen=True, slots=True)
class Extent:
    """What an answer holds.

    Attributes:
        objects: Objects with a leaf of their own; connections have none.
        leaves: Leaf fields, the null ones among them.
    """

    objects: int
    leaves: int


def extent_of(value: Any) -> Extent:
    """Count what *value* holds."""
    if isinstance(value, list):
        return _sum(map(extent_of, value))
    if isinstance(value, dict):
        below = _sum(map(extent_of, value.values()))
        is_object = any(not isinstance(inner, dict | list) for inner in value.values())
        return Extent(below.objects + is_object, below.leaves)
    return Extent(0, 1)


def _sum(extents: Iterator[Extent]) -> Extent:
    found = list(extents)
    return Extent(sum(each.objects for each in found), sum(each.leaves for each in found))
