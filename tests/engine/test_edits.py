"""What a row is with its edits, and what an edit may say."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.edits import Edit, EditField, EditOrigin, apply_edits, find_value_problem
from engine.rows import DatasetRow, read_line, row_line

ROW = DatasetRow("Why?", "So.", external_id="1", tags=("a",))


def said(number: int, field: EditField, value: Any, origin: EditOrigin = EditOrigin.HUMAN) -> Edit:
    return Edit(number, field, value, origin, {"at": "now"})


def test_the_latest_word_of_one_origin_counts_and_says_who_gave_it() -> None:
    edits = [said(2, EditField.EXPECTED, "second"), said(1, EditField.EXPECTED, "first")]
    row = apply_edits(ROW, edits)
    assert row is not None
    assert row.expected == "second"
    assert row.labels == {"expected": {"origin": "human", "at": "now"}}


@given(st.permutations(list(EditOrigin)), st.permutations([1, 2, 3]))
def test_a_person_has_the_last_word_whenever_it_was_said(
    origins: list[EditOrigin], numbers: list[int]
) -> None:
    edits = [
        said(number, EditField.EXPECTED, origin.value, origin)
        for number, origin in zip(numbers, origins, strict=True)
    ]
    row = apply_edits(ROW, edits)
    assert row is not None
    assert row.expected == "human"
    without = [edit for edit in edits if edit.origin is not EditOrigin.HUMAN]
    row = apply_edits(ROW, without)
    assert row is not None
    assert row.expected == "improvement"


def test_null_takes_a_label_away_and_a_weight_or_an_input_back() -> None:
    edits = [said(1, field, None) for field in EditField]
    row = apply_edits(ROW, edits)
    assert row is not None
    assert (row.input, row.expected, row.tags, row.weight) == ("Why?", None, (), 1.0)


def test_a_row_that_is_excluded_is_none_until_it_is_let_in_again() -> None:
    out = said(1, EditField.EXCLUDED, value=True)
    assert apply_edits(ROW, [out]) is None
    assert apply_edits(ROW, [out, said(2, EditField.EXCLUDED, value=False)]) == ROW


def test_a_corrected_input_takes_the_place_of_the_messages_that_said_it() -> None:
    row = DatasetRow("Why?", messages=[{"role": "user", "content": "Why?"}])
    edited = apply_edits(row, [said(1, EditField.INPUT, "How?")])
    assert edited is not None
    assert (edited.input, edited.messages) == ("How?", None)


def test_an_edited_row_is_the_same_again_from_its_line() -> None:
    edits = [
        said(1, EditField.WEIGHT, 2),
        said(2, EditField.QUALITY, 1),
        said(3, EditField.TAGS, ["x", "y"]),
    ]
    row = apply_edits(ROW, edits)
    assert row is not None
    assert read_line(row_line(row)) == row


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        (EditField.INPUT, "x", " "),
        (EditField.EXPECTED, "", 1),
        (EditField.RUBRIC, "x", []),
        (EditField.TAGS, ["x"], ["x", 1]),
        (EditField.TAGS, [], ["x"] * 101),
        (EditField.QUALITY, 0.5, 1.5),
        (EditField.QUALITY, 1, True),
        (EditField.WEIGHT, 1_000, 1_000.5),
        (EditField.WEIGHT, 0, float("nan")),
        (EditField.EXCLUDED, True, "true"),
    ],
)
def test_a_value_must_be_what_its_field_is(field: EditField, good: Any, bad: Any) -> None:
    assert find_value_problem(field, good) is None
    assert find_value_problem(field, None) is None
    assert find_value_problem(field, bad) is not None
