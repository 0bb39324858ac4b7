"""Canonical JSON, digests and folded text."""

import json
import math
import unicodedata
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.canonical import (
    MAX_JSON_DEPTH,
    canonical_json,
    compatibility_form,
    fold_text,
    iter_scalars,
)

TEXT = st.text(st.characters(codec="utf-8"))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
JSON_VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=20
)


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def test_keys_are_sorted_at_every_level_and_no_white_space_is_written() -> None:
    assert canonical_json({"b": [1, {"d": None, "c": True}], "a": "é"}) == (
        '{"a":"é","b":[1,{"c":true,"d":null}]}'.encode()
    )


@given(JSON_VALUES)
def test_canonical_json_parses_back_to_the_same_value(value: object) -> None:
    assert json.loads(canonical_json(value)) == value


@given(st.dictionaries(TEXT, SCALARS))
def test_the_order_of_insertion_does_not_show(value: dict[str, object]) -> None:
    backwards = dict(reversed(value.items()))
    assert canonical_json(backwards) == canonical_json(value)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_does_not_have_is_refused_however_deep(number: float) -> None:
    with pytest.raises(ValueError, match="JSON has no number"):
        canonical_json({"a": [{"b": (number,)}]})


@dataclass
class Opaque:
    score: float = math.nan


@pytest.mark.parametrize(
    "value", [2**64, "\ud800", {"\udfff": 1}, {1: 2}, Decimal(1), {1, 2}, b"x", Opaque()]
)
def test_what_json_can_not_say_is_a_value_error(value: object) -> None:
    with pytest.raises(ValueError, match="not a JSON value"):
        canonical_json([value])


def test_the_deepest_accepted_value_is_encoded_and_the_next_is_refused() -> None:
    assert canonical_json(nested(MAX_JSON_DEPTH)).startswith(b"[[[")
    with pytest.raises(ValueError, match="nested more than 200 levels"):
        canonical_json(nested(MAX_JSON_DEPTH + 1))


def test_a_value_that_holds_itself_is_refused() -> None:
    value: list[object] = []
    value += [value, value]
    with pytest.raises(ValueError, match="nested more than 200 levels"):
        canonical_json(value)


def test_scalars_and_keys_are_all_visited() -> None:
    value = {"a": [1, None, ("x",)], "b": {"c": True}}
    assert sorted(map(str, iter_scalars(value))) == ["1", "None", "True", "a", "b", "c", "x"]


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("  The\tCAT\n\nsat\u00a0", "the cat sat"),
        ("\uff28\uff49 \ufb01ne", "hi fine"),
        ("Stra\xdfe", "strasse"),
        ("caf\u0065\u0301", "caf\xe9"),
        ("", ""),
    ],
)
def test_case_white_space_and_compatibility_forms_are_folded(text: str, folded: str) -> None:
    assert fold_text(text) == folded


@given(st.text())
def test_folded_text_has_single_spaces_and_none_at_its_ends(text: str) -> None:
    folded = fold_text(text)
    assert folded == " ".join(folded.split())


@given(st.text(st.characters(codec="ascii")))
def test_plain_text_is_folded_as_any_other_is(text: str) -> None:
    other = "\u5317"  # which no folding changes
    assert fold_text(f"{text} {other}") == f"{fold_text(text)} {other}".lstrip()


@given(st.text())
def test_texts_of_every_script_are_in_nfkc(text: str) -> None:
    assert compatibility_form(text) == unicodedata.normalize("NFKC", text)


def test_thirty_marks_in_a_row_are_sorted_as_the_standard_says() -> None:
    text = "a" + "\u0301\u0316" * 15
    assert compatibility_form(text) == unicodedata.normalize("NFKC", text)


def test_a_longer_run_of_marks_is_interrupted() -> None:
    assert compatibility_form("\u0316" * 61) == "\u034f".join(
        ("\u0316" * 30, "\u0316" * 30, "\u0316")
    )


def test_a_long_run_of_letters_is_not_interrupted() -> None:
    letters = "\u5317\u4eac" * 100
    assert compatibility_form(letters) == letters


def test_a_hundred_thousand_marks_out_of_order_are_folded() -> None:
    assert len(fold_text("\u0301\u0316" * 50_000)) == 103_333
