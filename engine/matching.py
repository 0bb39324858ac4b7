"""Deterministic scoring: whether an answer matches what was expected."""

from collections.abc import Callable, Hashable, Mapping
from enum import StrEnum
from typing import Any

import re2

from engine.answers import (
    contains_words,
    equal_json,
    normalize_answer,
    read_choice,
    read_json,
    read_number,
)

_RE2_OPTIONS = re2.Options()
_RE2_OPTIONS.log_errors = False  # a bad pattern is its author's error, told to its author


class MatchMode(StrEnum):
    """How an answer is compared with the expected output."""

    EXACT = "exact"
    NORMALIZED = "normalized"
    CONTAINS = "contains"
    NUMBER = "number"
    REGEX = "regex"
    JSON = "json"
    CHOICE = "choice"


class PatternError(ValueError):
    """A regular expression that can't be used; the text says why."""


def check_pattern(pattern: str) -> None:
    """Refuse a regular expression that scoring could not use.

    Args:
        pattern: A pattern in RE2 syntax.

    Raises:
        PatternError: It is malformed, too large, or uses what RE2 leaves out because it
            can't be matched in linear time (look-around, back-references).

    Source: https://github.com/google/re2/wiki/Syntax
    """
    compile_pattern(pattern)


def compile_pattern(pattern: str) -> Any:
    """Return the compiled form of a user's pattern; re2 keeps the last 128 by itself.

    Raises:
        PatternError: As `check_pattern` does.
    """
    try:
        return re2.compile(pattern, _RE2_OPTIONS)
    except re2.error as error:
        reason = error.args[0]
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise PatternError(text) from error
    except UnicodeEncodeError as error:
        raise PatternError("the pattern holds an unpaired surrogate") from error


def score_answer(
    answer: str, expected: str, *, match: MatchMode, extract: str | None = None
) -> float:
    """Score one answer against the expected output.

    - `exact`: the same string, character by character.
    - `normalized`: the same after letter case, white space, punctuation and Unicode forms.
    - `contains`: the normalised expected output occurs in the answer, as whole words.
    - `number`: the same number, exactly; both texts may be worked solutions.
    - `regex`: the expected output is a pattern that is found in the answer.
    - `json`: equal as JSON values; either may stand in a code fence.
    - `choice`: the same letter.

    An answer or an expected output in which the mode finds nothing to compare scores 0.

    Args:
        answer: What the candidate said.
        expected: What it should have said.
        match: How to compare them.
        extract: A pattern searched in the answer first. What is compared is then its first
            group that took part in the match, or the whole match when none did.

    Returns:
        1.0 or 0.0; 0.0 when `extract` finds nothing.

    Raises:
        PatternError: `extract`, or `expected` in the `regex` mode, is not a usable pattern.
    """
    if match is MatchMode.REGEX:
        check_pattern(expected)  # before extracting: a broken row is broken for every candidate
    compared = extract_answer(answer, extract)
    return 1.0 if compared is not None and _MATCHES[match](compared, expected) else 0.0


def extract_answer(answer: str, extract: str | None) -> str | None:
    """Return what is compared of an answer; None when *extract* finds nothing in it."""
    return answer if extract is None else _extract(extract, answer)


def comparable_form(
    answer: str, *, match: MatchMode, extract: str | None = None
) -> Hashable | None:
    """Return what answers have in common that are the same answer.

    Two answers whose forms are equal are the same by *match*; `contains` and `regex` compare with
    what is expected alone, so that of these they are the same once normalised.

    Returns:
        None when there is nothing in the answer to compare.
    """
    text = extract_answer(answer, extract)
    if text is None:
        return None
    match match:
        case MatchMode.EXACT:
            return text
        case MatchMode.NUMBER:
            return read_number(text)  # equal numbers are one key, however they are written
        case MatchMode.CHOICE:
            return read_choice(text)
        case MatchMode.JSON:
            return _json_form(text)
        case _:
            return normalize_answer(text) or None


def _json_form(text: str) -> Hashable | None:
    try:
        return "json", _frozen(read_json(text))
    except ValueError:
        return None


def _frozen(value: Any) -> Hashable:
    """Return a JSON value as a key: equal values are equal keys, however numbers are written."""
    if isinstance(value, dict):
        return "object", frozenset((name, _frozen(part)) for name, part in value.items())
    if isinstance(value, list):
        return "array", tuple(map(_frozen, value))
    if isinstance(value, bool):
        return "boolean", value  # which is a number to Python
    number_or_text: Hashable = value
    return number_or_text


def _search(pattern: str, text: str) -> Any:
    # RE2 reads UTF-8, which has no unpaired surrogates: they become question marks.
    return compile_pattern(pattern).search(text.encode(errors="replace").decode())


def _extract(pattern: str, answer: str) -> str | None:
    found = _search(pattern, answer)
    if found is None:
        return None
    whole: str = found.group()
    return next((group for group in found.groups() if group is not None), whole)


def _same_number(answer: str, expected: str) -> bool:
    wanted = read_number(expected)
    return wanted is not None and read_number(answer) == wanted


def _same_json(answer: str, expected: str) -> bool:
    try:
        return equal_json(read_json(answer), read_json(expected))
    except ValueError:
        return False


def _same_choice(answer: str, expected: str) -> bool:
    wanted = read_choice(expected)
    return wanted is not None and read_choice(answer) == wanted


_MATCHES: Mapping[MatchMode, Callable[[str, str], bool]] = {
    MatchMode.EXACT: lambda answer, expected: answer == expected,
    MatchMode.NORMALIZED: lambda answer, expected: (
        normalize_answer(answer) == normalize_answer(expected)
    ),
    MatchMode.CONTAINS: contains_words,
    MatchMode.NUMBER: _same_number,
    MatchMode.REGEX: lambda answer, expected: _search(expected, answer) is not None,
    MatchMode.JSON: _same_json,
    MatchMode.CHOICE: _same_choice,
}
