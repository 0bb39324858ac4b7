"""Reading a value out of an answer's text."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.answers import (
    contains_words,
    equal_json,
    normalize_answer,
    read_choice,
    read_json,
    read_number,
)
from tests.engine.test_canonical import JSON_VALUES


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("18", "18"),
        ("She sells 9 eggs for 2 each, so 18.", "18"),
        ("1,319.0", "1319"),
        ("It costs $1,319", "1319"),
        ("-$5", "-5"),
        ("$-5", "-5"),
        ("\u22125 degrees", "-5"),
        ("+7", "7"),
        ("50%", "50"),
        ("12.50", "12.5"),
        (".5", "0.5"),
        ("-.5", "-0.5"),
        ("1e3", "1000"),
        ("2.5E-3", "0.0025"),
        ("18.", "18"),
        ("5-10", "10"),
        ("x-5", "5"),
        ("1,2,3", "3"),
        ("1,3190", "3190"),
        ("\uff11\uff12", "12"),
        ("\u0663", "3"),
    ],
)
def test_the_last_number_is_read(text: str, number: str) -> None:
    assert read_number(text) == Decimal(number)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2 + 2 = 4\n#### 4 of 7", "4"),
        ("A: 18 (that is 9 * 2)", "18"),
        ("Answer: 18, as 9 * 2", "18"),
        ("**Answer:** $18 for 3 days", "18"),
        ("**Final answer**: 18 in 3 days", "18"),
        ("ANSWER\uff1a 18 / 3", "18"),
        ("A: 5\nNo, wait.\nA: 6 or 7", "6"),
        ("A:-5 or 3", "-5"),
        ("7 eggs. Answer: seven", "7"),
        ("USA: 1 or 2", "2"),
        ("the panda: 1 or 2", "2"),
    ],
)
def test_the_number_after_the_last_marker_is_read(text: str, number: str) -> None:
    assert read_number(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "none", "\u00b2", "A:", "\u216b", "1e" + "9" * 30])
def test_a_text_may_hold_no_number(text: str) -> None:
    assert read_number(text) is None


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_every_number_is_read_exactly_as_python_writes_it(number: Decimal) -> None:
    assert read_number(f"The result is {number}") == number


@given(st.integers(-(10**30), 10**30))
def test_thousands_separators_change_nothing(number: int) -> None:
    assert read_number(f"so {number:,} eggs") == number


@given(st.text())
def test_any_text_gives_a_finite_number_or_none(text: str) -> None:
    number = read_number(text)
    assert number is None or number.is_finite()


@pytest.mark.parametrize(
    "text",
    [
        "B",
        "b",
        "(b)",
        "B.",
        "B) Paris",
        "B: Paris",
        "B - Paris",
        "**B**",
        "\uff22",
        r"$\boxed{B}$",
        r"\(B\)",
        "Answer: B",
        "answer: b",
        "A: B",
        "#### b",
        "Answer: **B** because A is wrong",
        "**Answer:** 'B'",
        "The answer is B.",
        "The answer is: (B) Paris",
        "The correct answer is B, not C.",
        r"The final answer is $\boxed{\text{B}}$",
        "The answer is A. No: the answer is B.",
        "Option B is right",
        "I think the answer would be option (b)",
        "I would pick B",
        "A cat sat on a mat, so B",
        "Rather (b) than anything else",
        "B\nA cat sat on a mat.",
    ],
)
def test_the_choice_is_found_in_what_models_say(text: str) -> None:
    assert read_choice(text) == "B"


def test_a_lettered_answer_is_not_taken_for_a_marker() -> None:
    assert read_choice("A: Paris") == "A"
    assert read_choice("A is correct") == "A"


@pytest.mark.parametrize(
    "text",
    ["", "Paris", "A cat", "a cat", "I do not know", "The answer is a cat", "I'm lost", "42"],
)
def test_an_article_a_pronoun_or_a_word_is_no_choice(text: str) -> None:
    assert read_choice(text) is None


@given(st.sampled_from("ABCDEFGHIJ"))
def test_every_letter_can_be_chosen_in_every_form(letter: str) -> None:
    for form in (
        letter,
        letter.lower(),
        f"({letter})",
        f"Answer: {letter}",
        f"The answer is {letter}.",
    ):
        assert read_choice(form) == letter


@given(st.text())
def test_a_choice_is_one_latin_capital_or_none(text: str) -> None:
    choice = read_choice(text)
    assert choice is None or choice in set("ABCDEFGHIJKLMNOPQRSTUVWXYZ")


@pytest.mark.parametrize(
    "text",
    [
        ' {"a": 1}\n',
        '```json\n{"a": 1}\n```',
        'Here it is:\n```JSON\n{"a": 1}\n```\nAnything else?',
        '```\n{"a": 2}\n```\nor rather\n```json\r\n{"a": 1.0}\r\n```',
    ],
)
def test_json_is_read_bare_or_from_the_last_fence(text: str) -> None:
    assert read_json(text) == {"a": Decimal(1)}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Paris",
        "NaN",
        "[Infinity]",
        "{'a': 1}",
        '{"a": 1} and more',
        "```json\nnope\n```",
        "1e" + "9" * 30,
    ],
)
def test_what_is_not_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"JSON|Expecting|Extra data"):
        read_json(text)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("1", "1.0"),
        ("1e2", "100"),
        ("-0", "0"),
        ('{"a": 1, "b": [true, null]}', '{"b": [true, null], "a": 1}'),
        ('"\\u00e9"', '"\xe9"'),
    ],
)
def test_values_that_json_calls_equal_are_equal(left: str, right: str) -> None:
    assert equal_json(read_json(left), read_json(right))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("true", "1"),
        ("false", "0"),
        ("null", "false"),
        ('"1"', "1"),
        ("[1, 2]", "[2, 1]"),
        ("[1]", "[1, 1]"),
        ("{}", "[]"),
        ('{"a": null}', "{}"),
        ('{"a": 1}', '{"b": 1}'),
        ("9007199254740993", "9007199254740992"),
        ("123456789012345678901", "123456789012345678902"),
    ],
)
def test_values_that_differ_are_not_equal(left: str, right: str) -> None:
    assert not equal_json(read_json(left), read_json(right))


@given(JSON_VALUES)
def test_every_value_equals_itself(value: object) -> None:
    assert equal_json(value, value)


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("  Don't\tPANIC! ", "dont panic"),
        ("\u201cParis\u201d.", "paris"),
        ("\ufb01ne", "fine"),
        ("3.5", "3.5"),
        ("-5", "-5"),
        ("\u22125", "-5"),
        ("x-5", "x5"),
        ("1/2", "1/2"),
        ("10-20", "10 20"),
        ("10 \u2013 20", "10 20"),
        ("$1,000.50", "$1000.50"),
        ("C++", "c++"),
        ("...", "..."),
        ("", ""),
    ],
)
def test_punctuation_goes_but_numbers_keep_their_meaning(text: str, normalized: str) -> None:
    assert normalize_answer(text) == normalized


@given(st.text(st.characters(categories=["Ll", "Lu", "Zs", "Po"], codec="ascii")))
def test_case_and_spacing_never_count(text: str) -> None:
    assert normalize_answer(f"  {text.upper()} \n") == normalize_answer(text.lower())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It is New  York, I think.", "new york"),
        ("The result: 18!", "18"),
        ("$18", "18"),
        ("between 10-20", "10"),
        ("\u7b54\u6848\u662f\u5317\u4eac\u3002", "\u5317\u4eac"),
        ("\uc11c\uc6b8\uc785\ub2c8\ub2e4", "\uc11c\uc6b8"),
        ("caf\xe9 cr\xe8me", "cafe\u0301"),
        ("", ""),
    ],
)
def test_whole_words_are_found(text: str, words: str) -> None:
    assert contains_words(text, words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("concatenate", "cat"),
        ("118", "18"),
        ("18.5", "18"),
        ("-5", "5"),
        ("1/2", "2"),
        ("York New", "new york"),
        ("newyork", "new york"),
        ("\u0915\u093e", "\u0915"),
        ("anything", ""),
        ("anything", "  "),
        ("anything", "?"),
    ],
)
def test_parts_of_words_and_of_numbers_are_not_found(text: str, words: str) -> None:
    assert not contains_words(text, words)


@given(
    st.lists(st.text("abcxyz", min_size=1), max_size=3),
    st.lists(st.text("abcxyz", min_size=1), min_size=1, max_size=3),
    st.lists(st.text("abcxyz", min_size=1), max_size=3),
)
def test_words_are_found_among_other_words(
    before: list[str], words: list[str], after: list[str]
) -> None:
    assert contains_words(" ".join(before + words + after), " ".join(words))
