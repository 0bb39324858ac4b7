"""What answers say of rows: what they should expect, which are disputed, easy or telling."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.edits import EditField, find_value_problem
from engine.improvement import (
    EASY_WEIGHT,
    LARGEST_WEIGHT,
    Answer,
    AnsweredRow,
    Change,
    ChangeKind,
    propose_changes,
)
from engine.matching import MatchMode, comparable_form


def answers(*told: tuple[str | None, float | None]) -> list[Answer]:
    """Return answers with their scores; the first candidate is the best of the run."""
    return [
        Answer(f"c{place}", 1 - place / 10, output, score)
        for place, (output, score) in enumerate(told)
    ]


def changes(*told: tuple[str | None, float | None], **row: Any) -> list[Change]:
    given_row = {"expected": "4", "tags": [], "weight": 1.0, **row}
    is_judged = given_row.pop("is_judged", False)
    return propose_changes(
        AnsweredRow(answers=answers(*told), **given_row),
        is_judged=is_judged,
        match=MatchMode.NUMBER,
        extract=None,
    )


def test_a_row_that_expects_nothing_gets_what_more_than_half_agree_on() -> None:
    (change,) = changes(("5", 0), ("It is 4.", 0), ("4.0", 0), expected=None)
    assert (change.kind, change.field) == (ChangeKind.FILL, EditField.EXPECTED)
    assert change.new == "It is 4."  # the best of those who agree
    assert change.evidence["agreeing"] == 2
    assert change.evidence["of"] == 3
    assert change.evidence["candidate_ids"] == ["c1", "c2"]


@pytest.mark.parametrize(
    "told",
    [
        [("4", 0.0), ("5", 0.0)],
        [("4", 0.0), ("4", 0.0), ("5", 0.0), ("5", 0.0)],
        [("4", 0.0), (None, 0.0)],
        [("no number", 0.0), ("none", 0.0)],
        [],
    ],
)
def test_without_a_majority_nothing_is_filled_in(told: list[tuple[str | None, float]]) -> None:
    assert changes(*told, expected=None) == []


def test_a_judge_fills_in_the_best_answer_if_it_is_good() -> None:
    change, weight = changes(("a", 0.5), ("b", 0.95), ("c", 0.9), expected=None, is_judged=True)
    assert (change.new, change.evidence) == ("b", {"score": 0.95, "candidate_id": "c1", "of": 3})
    assert weight.field is EditField.WEIGHT
    poor = changes(("a", 0.5), ("b", 0.79), expected=None, is_judged=True)
    assert [each.kind for each in poor] == []


def test_candidates_that_agree_against_the_expected_output_dispute_it() -> None:
    (change,) = changes(("5", 0), ("5", 0), ("4", 1), expected="4", tags=["x"], weight=2.78)
    assert (change.kind, change.old, change.new) == (ChangeKind.FLAG, ["x"], ["x", "disputed"])
    assert change.evidence["answer"] == "5"
    assert change.evidence["expected"] == "4"
    again = changes(("5", 0), ("5", 0), ("4", 1), tags=["disputed"], weight=2.78)
    assert again == []


def test_those_who_agree_and_are_right_dispute_nothing() -> None:
    assert changes(("4", 1), ("4", 1), ("5", 0), weight=2.78) == []


@pytest.mark.parametrize(
    ("scores", "was_easy", "kind", "weight"),
    [
        ((1, 1, 1), True, ChangeKind.EASY, EASY_WEIGHT),
        ((1, 0), True, ChangeKind.SEPARATES, LARGEST_WEIGHT),
        ((1, 1, 0), True, ChangeKind.SEPARATES, 2.78),
    ],
)
def test_rows_are_weighted_by_how_they_tell_candidates_apart(
    scores: tuple[float, ...], was_easy: Any, kind: ChangeKind, weight: float
) -> None:
    told = [(f"answer {place}", score) for place, score in enumerate(scores)]
    (change,) = changes(*told, was_easy=was_easy)
    assert (change.kind, change.field, change.new) == (kind, EditField.WEIGHT, weight)
    assert changes(*told, was_easy=was_easy, weight=weight) == []


def test_a_row_that_was_hard_lately_or_is_too_hard_for_all_weighs_one() -> None:
    assert changes(("x", 1), ("y", 1), was_easy=False) == []
    assert changes(("x", 0), ("y", 0)) == []
    (back,) = changes(("x", 0), ("y", 0), weight=EASY_WEIGHT)
    assert (back.kind, back.new) == (ChangeKind.NEUTRAL, 1.0)


@given(
    st.lists(
        st.tuples(st.none() | st.sampled_from(["4", "5", "four", ""]), st.floats(0, 1)), max_size=6
    ),
    st.none() | st.just("4"),
    st.booleans(),
)
def test_what_is_proposed_can_be_stored_and_is_proposed_once(
    told: list[tuple[str | None, float]], expected: str | None, is_judged: Any
) -> None:
    made = changes(*told, expected=expected, is_judged=is_judged)
    assert len({change.field for change in made}) == len(made)
    for change in made:
        assert change.new is not None
        assert find_value_problem(change.field, change.new) is None
        assert change.new != change.old


@pytest.mark.parametrize(
    ("match", "one", "other"),
    [
        (MatchMode.EXACT, "a", "a"),
        (MatchMode.NORMALIZED, "The Answer!", "the answer"),
        (MatchMode.NUMBER, "#### 1,319.0", "It is 1319"),
        (MatchMode.NUMBER, "-0", "0"),
        (MatchMode.CHOICE, "Answer: B", "(b)"),
        (MatchMode.JSON, '{"a": 1.0, "b": [2, true]}', '```json\n{"b":[2,true],"a":1}\n```'),
        (MatchMode.CONTAINS, "Paris.", "paris"),
        (MatchMode.REGEX, "Paris.", "paris"),
    ],
)
def test_answers_that_are_the_same_have_one_form(match: MatchMode, one: str, other: str) -> None:
    form = comparable_form(one, match=match)
    assert form is not None
    assert form == comparable_form(other, match=match)
    assert form != comparable_form("something else, 17: (c)", match=match)


def test_a_form_is_of_what_is_extracted() -> None:
    found = comparable_form("x Answer: a", match=MatchMode.EXACT, extract=r"Answer:\s*(.+)")
    assert found == "a"
    assert comparable_form("nothing", match=MatchMode.EXACT, extract=r"Answer:\s*(.+)") is None
