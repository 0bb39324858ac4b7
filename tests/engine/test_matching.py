"""Scoring answers, with ordinary, recorded and hostile ones."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.matching import MatchMode, PatternError, check_pattern, score_answer

RECORDED = Path(__file__).parents[3] / "shared" / "data" / "gsm8k" / "recorded.jsonl"
MODES_WITHOUT_PATTERNS = [mode for mode in MatchMode if mode is not MatchMode.REGEX]
ANY_TEXT = st.text(st.characters())


@pytest.mark.parametrize(
    ("match", "answer", "expected"),
    [
        (MatchMode.EXACT, "Paris", "Paris"),
        (MatchMode.EXACT, "", ""),
        (MatchMode.NORMALIZED, " \u201cParis.\u201d\n", "PARIS"),
        (MatchMode.CONTAINS, "I believe it is Paris.", "paris"),
        (MatchMode.NUMBER, "9 * 2 = $18.00", "16 - 7 = 9 left\nA: 18"),
        (MatchMode.NUMBER, "1,319.0", "1319"),
        (MatchMode.REGEX, "It is Paris", r"(?i)\bparis$"),
        (MatchMode.JSON, '```json\n{"b": 2, "a": 1.0}\n```', '{"a":1,"b":2}'),
        (MatchMode.CHOICE, "The answer is (b).", "B) Paris"),
    ],
)
def test_a_match_scores_one(match: MatchMode, answer: str, expected: str) -> None:
    assert score_answer(answer, expected, match=match) == 1.0


@pytest.mark.parametrize(
    ("match", "answer", "expected"),
    [
        (MatchMode.EXACT, "paris", "Paris"),
        (MatchMode.EXACT, "Paris\n", "Paris"),
        (MatchMode.NORMALIZED, "35", "3.5"),
        (MatchMode.CONTAINS, "Parisian", "Paris"),
        (MatchMode.NUMBER, "18.000000000000000000000000001", "18"),
        (MatchMode.NUMBER, "none", "none"),
        (MatchMode.NUMBER, "A: 17", "A: 18"),
        (MatchMode.REGEX, "It is Rome", "Paris"),
        (MatchMode.JSON, "true", "1"),
        (MatchMode.JSON, "not json", "not json"),
        (MatchMode.CHOICE, "C", "B"),
        (MatchMode.CHOICE, "Paris", "Paris"),
    ],
)
def test_no_match_scores_zero(match: MatchMode, answer: str, expected: str) -> None:
    assert score_answer(answer, expected, match=match) == 0.0


@pytest.mark.parametrize(
    ("extract", "answer", "score"),
    [
        (r"<answer>(.*?)</answer>", "so <answer>42</answer> or 43", 1.0),
        (r"\d+", "it is 42, not 43", 1.0),
        (r"x=(\d+)|y=(\d+)", "y=42", 1.0),
        (r"(x)?42", "42", 1.0),
        (r"<answer>(.*?)</answer>", "42", 0.0),
        ("4", "42", 0.0),
    ],
)
def test_extract_takes_the_first_group_or_the_whole_match_or_scores_zero(
    extract: str, answer: str, score: float
) -> None:
    assert score_answer(answer, "42", match=MatchMode.EXACT, extract=extract) == score


def test_extract_leaves_the_expected_output_alone() -> None:
    assert score_answer("x42", "x42", match=MatchMode.EXACT, extract=r"x(\d+)") == 0.0


def test_extract_works_before_every_mode() -> None:
    answer = 'Thinking: 7.\nFinal: {"a": 1}'
    assert score_answer(answer, '{"a":1.0}', match=MatchMode.JSON, extract="Final: (.*)") == 1.0


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(", "missing \\): \\("),
        ("[a", "missing \\]: \\[a"),
        (r"(a)\1", "invalid escape sequence: \\\\1"),
        ("(?=a)", "invalid perl operator: \\(\\?="),
        ("a{1001}", "invalid repetition size: \\{1001\\}"),
        (r"\pL{1000}", "pattern too large - compile failed"),
        ("\ud800", "the pattern holds an unpaired surrogate"),
    ],
)
def test_a_pattern_that_can_not_be_used_is_refused_with_its_reason(
    pattern: str, reason: str
) -> None:
    with pytest.raises(PatternError, match=f"^{reason}$"):
        check_pattern(pattern)


def test_a_usable_pattern_is_accepted() -> None:
    check_pattern(r"(?s)<answer>\s*(?P<value>[\p{L}\d]+?)\s*</answer>")


def test_a_broken_expected_pattern_is_an_error_whatever_the_answer() -> None:
    with pytest.raises(PatternError):
        score_answer("a", "(", match=MatchMode.REGEX)
    with pytest.raises(PatternError):
        score_answer("a", "(", match=MatchMode.REGEX, extract="never there")


def test_a_broken_extract_pattern_is_an_error_in_every_mode() -> None:
    for match in MatchMode:
        with pytest.raises(PatternError):
            score_answer("a", "a", match=match, extract="(")


@given(st.text(st.characters(categories=["L", "N"]), min_size=1))
def test_a_text_matches_itself_however_wording_is_compared(text: str) -> None:
    for match in (MatchMode.EXACT, MatchMode.NORMALIZED, MatchMode.CONTAINS):
        assert score_answer(text, text, match=match) == 1.0


@given(answer=ANY_TEXT, expected=ANY_TEXT)
def test_any_two_texts_score_zero_or_one(answer: str, expected: str) -> None:
    for match in MODES_WITHOUT_PATTERNS:
        assert score_answer(answer, expected, match=match) in {0.0, 1.0}


@given(answer=ANY_TEXT, pattern=ANY_TEXT)
def test_any_pattern_scores_or_is_a_pattern_error(answer: str, pattern: str) -> None:
    try:
        check_pattern(pattern)
    except PatternError:
        with pytest.raises(PatternError):
            score_answer(answer, pattern, match=MatchMode.REGEX)
    else:
        assert score_answer(answer, pattern, match=MatchMode.REGEX) in {0.0, 1.0}


HOSTILE_TEXTS = {
    "digits": "9" * 200_000,
    "thousands": "1," + "111," * 50_000 + "1111",
    "exponent": "1e" + "9" * 100_000,
    "signs": "-" * 50_000,
    "spaces": "answer" + " " * 200_000 + "x",
    "markers": "Answer:" * 30_000,
    "boxes": "answer is " + "boxed{" * 30_000,
    "articles": "I     " * 30_000,
    "fences": "```json\n" * 10_000,
    "open fence": "```json\n" + "x" * 200_000,
    "arrays": "[" * 20_000 + "]" * 20_000,
    "objects": '{"a":' * 20_000 + "1" + "}" * 20_000,
    "unicode digits": "\u0663\uff11\u00b2\u2167\U0001d7d8" * 10_000,
    "marks": "a" + "\u0301" * 100_000,
    "marks out of order": "a" + "\u0301\u0316" * 50_000,
    "hidden marks out of order": "\u0301\uff9e" * 50_000,
    "ligatures": "\ufdfa" * 10_000,
    "surrogates": "\ud800\udfff" * 10_000,
    "nul": "\x00" * 10_000,
    "json infinity": "-Infinity",
}


@pytest.mark.parametrize("match", MODES_WITHOUT_PATTERNS)
@pytest.mark.parametrize("name", HOSTILE_TEXTS)
def test_a_hostile_text_scores_like_any_other(name: str, match: MatchMode) -> None:
    text = HOSTILE_TEXTS[name]
    assert score_answer(text, "18", match=match) == 0.0
    assert score_answer("18", text, match=match) == 0.0
    assert score_answer(text, text, match=match) in {0.0, 1.0}


def test_a_huge_number_equals_itself_and_not_its_neighbour() -> None:
    huge = "9" * 100_000
    assert score_answer(huge, huge, match=MatchMode.NUMBER) == 1.0
    assert score_answer(huge, huge[:-1] + "8", match=MatchMode.NUMBER) == 0.0


def test_two_numbers_with_huge_exponents_are_compared_without_writing_them_out() -> None:
    assert score_answer("1e999999999", "10e999999998", match=MatchMode.NUMBER) == 1.0
    assert score_answer("1e999999999", "2e999999999", match=MatchMode.NUMBER) == 0.0


@pytest.mark.parametrize("levels", [900, 5_000, 100_000])
def test_deep_json_never_exhausts_the_stack(levels: int) -> None:
    deep = "[" * levels + "]" * levels
    assert score_answer(deep, f"[{deep}]", match=MatchMode.JSON) == 0.0


@pytest.mark.parametrize(
    "pattern", [r"(a+)+$", r"(a|aa)+$", r"^(a|a?)+$", r"(.*a){12}$", r"^(([a-z])+.)+[A-Z]([a-z])+$"]
)
def test_a_catastrophic_pattern_takes_linear_time(pattern: str) -> None:
    # A backtracking engine would not finish this in the age of the universe.
    answer = "a" * 20_000 + "!"
    assert score_answer(answer, pattern, match=MatchMode.REGEX) == 0.0
    assert score_answer(answer, "", match=MatchMode.EXACT, extract=pattern) == 0.0


def test_more_patterns_than_any_cache_keeps_are_all_compiled() -> None:
    scores = [score_answer(f"x{n}", f"^x{n}$", match=MatchMode.REGEX) for n in range(1_000)]
    assert scores == [1.0] * 1_000


@pytest.mark.skipif(not RECORDED.exists(), reason="the recorded GSM8K answers are not beside us")
def test_four_recorded_models_score_their_known_means() -> None:
    rows = [json.loads(line) for line in RECORDED.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 400
    means = {
        model: sum(
            score_answer(row["solutions"][model], row["answer"], match=MatchMode.NUMBER)
            for row in rows
        )
        / len(rows)
        for model in rows[0]["solutions"]
    }
    assert means == {
        "175b_verification": 0.56,
        "6b_verification": 0.39,
        "175b_finetuning": 0.365,
        "6b_finetuning": 0.2225,
    }
