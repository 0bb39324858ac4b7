"""What the text of a body tells of its values is what a look at each of them finds."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolvers.storable import (
    MAX_DEPTH,
    StorableObject,
    find_unstorable,
    read_storable,
)

TEXTS = st.text(st.sampled_from('a\\u0\x00"/[{é\n'), max_size=8)
TEXT = "NUL characters or lone surrogates"
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(-1e9, 1e9) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(TEXTS, VALUES, max_size=4), st.booleans())
def test_what_is_known_to_be_storable_is(value: dict[str, Any], escaped: bool) -> None:  # noqa: FBT001
    text = json.dumps(value, ensure_ascii=escaped).encode()
    parsed = orjson.loads(text)
    read = read_storable(text, parsed)
    assert read == parsed
    assert find_unstorable(read) == find_unstorable(parsed)


@pytest.mark.parametrize(
    ("text", "is_known"),
    [
        (b'{"a": "plain"}', True),
        (rb'{"a": "\\ \" \n \u0001"}', True),
        (rb'{"a": ["\u0000"]}', False),
        (rb'{"\u0000": 1}', False),
        (rb'{"a": "\\u0000"}', False),  # it has no NUL; a closer look finds that out
        (b'{"a": %s}' % (b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1)), True),
        (b'{"a": %s}' % (b"[" * MAX_DEPTH + b"]" * MAX_DEPTH), False),
    ],
)
def test_the_text_tells(text: bytes, is_known: bool) -> None:  # noqa: FBT001
    parsed = orjson.loads(text)
    assert isinstance(read_storable(text, parsed), StorableObject) is is_known
    if is_known:
        assert find_unstorable(parsed) is None


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"a": [{"b": "x\x00"}]}, (("a", 0, "b"), TEXT)),
        ({"a": 1, "b": ["ok", ["ok", float("inf")]]}, (("b", 1, 1), "numbers that are not finite")),
        ({"a": {"b": 2**64}}, (("a", "b"), "integers of more than 64 bits")),
        ({"a": [{"b\x00": 1}], "b": 1.5}, (("a", 0), TEXT)),
        ({"a": [{"b\x00": 1}], "b": float("nan")}, (("b",), "numbers that are not finite")),
        ({"b": [float("nan")], "a\x00": 1}, ((), TEXT)),
        ({"a": [1, {}, []], "b": ["\ud800"]}, (("b", 0), TEXT)),
        ("\ud800", ((), TEXT)),
        ({"fine": [1, None, True, 2**64 - 1, -(2**63), 0.5, "é", {}, [[]]]}, None),
    ],
)
def test_the_place_of_what_is_wrong_is_told(value: object, found: object) -> None:
    assert find_unstorable(value) == found


def test_values_too_deep_are_told_by_where_they_are() -> None:
    deepest: Any = 1
    for _ in range(MAX_DEPTH):
        deepest = [deepest]
    assert find_unstorable(deepest) is None
    found = find_unstorable({"a": {"b": deepest}})
    assert found is not None
    assert found.place == ("a", "b", *[0] * (MAX_DEPTH - 2))
    assert found.what == f"values nested more than {MAX_DEPTH} deep"
