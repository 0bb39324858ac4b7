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
    place_of_unstorable,
    read_storable,
)

TEXTS = st.text(st.sampled_from('a\\u0\x00"/[{é\n'), max_size=8)
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
    ("value", "place"),
    [
        ({"a": [{"b": "x\x00"}]}, ("a", 0, "b")),
        ({"a": 1, "b": ["ok", ["ok", float("inf")]]}, ("b", 1, 1)),
        ({"a": {"b": 2**64}}, ("a", "b")),
        ({"a": [{"b\x00": 1}]}, ("a", 0)),
        ({"\ud800": 1}, ()),
        ("\ud800", ()),
        ({"fine": [1, None, True, "é"]}, ()),
    ],
)
def test_the_place_of_what_is_wrong_is_told(value: object, place: tuple[object, ...]) -> None:
    assert place_of_unstorable(value) == place
