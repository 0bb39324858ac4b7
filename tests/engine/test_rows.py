"""Rows as clients push them, their lines and their hashes."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.rows import (
    FIELD_ALIASES,
    DatasetRow,
    RowError,
    find_names,
    normalize_row,
    row_hash,
    row_line,
)
from tests.engine.test_canonical import JSON_VALUES, nested

STORABLE = st.text(st.characters(codec="utf-8", exclude_characters="\x00"))
NOT_BLANK = STORABLE.filter(lambda text: bool(text.strip()))
STORABLE_JSON = JSON_VALUES.filter(lambda value: "\\u0000" not in json.dumps(value))
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": NOT_BLANK}),
    min_size=1,
    max_size=3,
)
PUSHED_ROWS = st.fixed_dictionaries(
    {"input": NOT_BLANK},
    optional={
        "id": NOT_BLANK | st.integers(0, 2**63),
        "output": STORABLE_JSON,
        "messages": MESSAGES,
        "rubric": STORABLE,
        "metadata": st.dictionaries(STORABLE, STORABLE_JSON, max_size=3),
        "tags": st.lists(STORABLE, max_size=3),
        "unknown": STORABLE_JSON,
    },
)


def refusal(value: object) -> tuple[str, str]:
    with pytest.raises(RowError) as caught:
        normalize_row(value)
    return caught.value.code, caught.value.message


@pytest.mark.parametrize("alias", FIELD_ALIASES["input"])
def test_the_input_goes_by_each_of_its_names(alias: str) -> None:
    assert normalize_row({alias: " Why? "}) == DatasetRow(input=" Why? ")


@pytest.mark.parametrize("alias", FIELD_ALIASES["expected"])
def test_the_expected_output_goes_by_each_of_its_names(alias: str) -> None:
    assert normalize_row({"input": "a", alias: "b"}).expected == "b"


@pytest.mark.parametrize("alias", FIELD_ALIASES["id"])
def test_the_stable_id_goes_by_each_of_its_names(alias: str) -> None:
    assert normalize_row({"input": "a", alias: "r-1"}).external_id == "r-1"


def test_the_first_name_that_is_present_and_not_null_wins() -> None:
    row = normalize_row(
        {"query": "q", "prompt": "p", "input": None, "answer": "a", "completion": 0, "output": None}
    )
    assert (row.input, row.expected) == ("p", "0")


def test_the_names_in_use_are_found_as_rows_are_read() -> None:
    row = {"input": None, "prompt": "p", "question": "q", "answer": 0, "tags": None, "kind": "k"}
    assert find_names(row) == {"input": "prompt", "expected": "answer"}
    assert normalize_row(row) == DatasetRow(input="p", expected="0")


def test_all_fields_are_taken_and_unknown_ones_ignored() -> None:
    message = {"role": "user", "content": "Why?"}
    pushed = {
        "id": "7",
        "input": "Why?",
        "output": "Because.",
        "messages": [message],
        "rubric": "Be kind.",
        "metadata": {"lang": "en"},
        "tags": ["a", "b"],
        "surprise": "\x00",
    }
    assert normalize_row(pushed) == DatasetRow(
        input="Why?",
        expected="Because.",
        messages=[message],
        rubric="Be kind.",
        external_id="7",
        metadata={"lang": "en"},
        tags=("a", "b"),
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [(42, "42"), (1.5, "1.5"), (True, "true"), ({"b": 1, "a": [None]}, '{"a":[null],"b":1}')],
)
def test_what_is_not_text_becomes_its_canonical_json(value: object, text: str) -> None:
    row = normalize_row({"input": "a", "output": value, "id": value})
    assert (row.expected, row.external_id) == (text, text)


def test_a_blank_id_is_no_id_and_an_empty_expected_output_is_one() -> None:
    row = normalize_row({"input": "a", "id": "  ", "output": ""})
    assert (row.external_id, row.expected) == (None, "")


def test_messages_become_the_input_of_a_row_that_has_none() -> None:
    messages = [{"role": "user", "content": "Why?"}]
    assert normalize_row({"messages": messages}) == DatasetRow(input="Why?", messages=messages)


def test_messages_beside_an_input_are_kept_and_not_rendered() -> None:
    messages = [{"role": "user", "content": "Why?"}]
    row = normalize_row({"input": "own", "messages": messages})
    assert (row.input, row.messages) == ("own", messages)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (None, "null"),
        ("x", "a string"),
        (1, "a number"),
        (True, "a boolean"),
        ([], "an array"),
        (object(), "a Python object"),
    ],
)
def test_what_is_not_an_object_is_named(value: object, kind: str) -> None:
    assert refusal(value) == ("not_an_object", f"a row is a JSON object, not {kind}")


def test_a_row_without_a_usable_field_learns_the_accepted_names_and_its_own() -> None:
    accepted = "a row needs one of input, prompt, question, query, messages"
    assert refusal({"text": "x", "label\x00": 1, "input": None}) == (
        "no_usable_field",
        f"{accepted}; this one has 'text', 'label\\x00', 'input'",
    )
    assert refusal({}) == ("no_usable_field", f"{accepted}; this one has no fields")


def test_a_row_of_very_many_very_long_names_is_answered_briefly() -> None:
    code, message = refusal({f"{index}{'x' * 1000}": 1 for index in range(1000)})
    assert code == "no_usable_field"
    assert message.endswith(" and 980 more")
    assert len(message) < 1300


@pytest.mark.parametrize(
    ("pushed", "message"),
    [
        ({"question": 5}, "question must be a string, not a number"),
        ({"input": ["a"]}, "input must be a string, not an array"),
        ({"input": "a", "rubric": {}}, "rubric must be a string, not an object"),
        ({"input": "a", "metadata": "x"}, "metadata must be an object, not a string"),
        ({"input": "a", "tags": "x"}, "tags must be an array of strings, not a string"),
        ({"input": "a", "tags": ["x", 1]}, "tags[1] must be a string, not a number"),
        ({"messages": {}}, "messages must be an array, not an object"),
        ({"messages": ["x"]}, "messages[0] must be an object, not a string"),
        ({"messages": [{"content": "x"}]}, "messages[0].role must be a string, not null"),
        (
            {"messages": [{"role": "user", "content": 1}]},
            "messages[0].content must be a string, an array of parts or null, not a number",
        ),
        (
            {"input": "a", "output": math.nan},
            "output can't be kept as JSON: JSON has no number nan",
        ),
        (
            {"input": "a", "metadata": {"deep": nested(200)}},
            "metadata can't be kept as JSON: JSON nested more than 200 levels",
        ),
    ],
)
def test_a_wrong_type_names_the_field(pushed: dict[str, Any], message: str) -> None:
    assert refusal(pushed) == ("wrong_type", message)


def test_an_integer_longer_than_64_bits_can_not_be_kept() -> None:
    code, message = refusal({"input": "a", "metadata": {"n": 2**64}})
    assert code == "wrong_type"
    assert message.startswith("metadata can't be kept as JSON: ")


@pytest.mark.parametrize(
    ("pushed", "field"),
    [
        ({"input": ""}, "input"),
        ({"query": " \n\t\u3000"}, "query"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages"),
    ],
)
def test_a_blank_input_is_refused(pushed: dict[str, Any], field: str) -> None:
    assert refusal(pushed) == ("empty_input", f"{field} holds no text")


@pytest.mark.parametrize(
    ("bad", "what"), [("\x00", "a NUL character"), ("\ud800", "an unpaired surrogate")]
)
@pytest.mark.parametrize(
    "field", ["input", "output", "id", "rubric", "tags", "metadata", "messages", "key", "object"]
)
def test_text_that_the_database_can_not_hold_is_refused_in_every_field(
    field: str, bad: str, what: str
) -> None:
    text = f"ab{bad}"
    name = {"key": "metadata", "object": "output"}.get(field, field)
    special: dict[str, dict[str, Any]] = {
        "tags": {"tags": [text]},
        "metadata": {"metadata": {"a": [text]}},
        "key": {"metadata": {text: 1}},
        "messages": {"messages": [{"role": "user", "content": text}]},
        "object": {"output": {"a": text}},
    }
    row = {"input": "fine"} | special.get(field, {field: text})
    assert refusal(row) == ("invalid_text", f"{name} holds {what} at position 2")


def test_a_backslash_followed_by_u0000_is_ordinary_text() -> None:
    assert normalize_row({"input": r"\u0000", "metadata": {"a": r"\u0000"}}).input == r"\u0000"


@given(JSON_VALUES | st.dictionaries(st.sampled_from(sum(FIELD_ALIASES.values(), ())), JSON_VALUES))
def test_any_json_value_is_either_a_row_or_a_row_error(value: object) -> None:
    try:
        row = normalize_row(value)
    except RowError as error:
        outcome = error.code
    else:
        outcome = "row"
        assert row.input.strip()
        assert b"\n" not in row_line(row)
    assert outcome in {
        "row",
        "not_an_object",
        "no_usable_field",
        "wrong_type",
        "empty_input",
        "invalid_text",
    }


@given(PUSHED_ROWS)
def test_a_line_parsed_again_is_the_same_row(pushed: dict[str, Any]) -> None:
    row = normalize_row(pushed)
    assert normalize_row(json.loads(row_line(row))) == row


def test_a_line_has_sorted_names_and_only_the_fields_present() -> None:
    row = normalize_row({"question": "a\nb", "id": 7, "metadata": {}, "tags": [], "messages": []})
    assert row_line(row) == b'{"id":"7","input":"a\\nb"}'


def test_a_line_of_a_full_row_holds_every_field() -> None:
    row = DatasetRow("a", "b", [{"role": "user", "content": "a"}], "c", "d", {"e": 1}, ("f",))
    assert row_line(row) == (
        b'{"expected":"b","id":"d","input":"a","messages":[{"content":"a","role":"user"}],'
        b'"metadata":{"e":1},"rubric":"c","tags":["f"]}'
    )


def test_rows_that_differ_in_case_and_spacing_only_are_duplicates() -> None:
    one = DatasetRow("What  is\nthis?", "\uff21 Stra\xdfe", external_id="1", tags=("x",))
    other = DatasetRow(" what is THIS? ", "a strasse", rubric="other")
    assert row_hash(one) == row_hash(other)


def test_the_hash_has_sixteen_bytes_and_is_this_one_for_ever() -> None:
    assert row_hash(DatasetRow("Why?", "Because.")).hex() == "494dad17a920b0c892d632c45245313a"


def test_input_and_expected_output_can_not_run_into_each_other() -> None:
    rows = [
        DatasetRow("a b"),
        DatasetRow("a", "b"),
        DatasetRow("a", "b a"),
        DatasetRow("a b", ""),
        DatasetRow('a","b'),
        DatasetRow("b", "a"),
    ]
    assert len({row_hash(row) for row in rows}) == len(rows)


@given(NOT_BLANK, STORABLE)
def test_surrounding_white_space_never_makes_a_new_row(text: str, expected: str) -> None:
    spaced = DatasetRow(f" \t{text}\n", f"\n{expected} ")
    assert row_hash(spaced) == row_hash(DatasetRow(text, expected))
