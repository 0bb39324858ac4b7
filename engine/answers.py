"""How the text of an answer is read as a value: a number, a choice, JSON, comparable words."""

import json
import re
import unicodedata
from collections import deque
from decimal import Decimal, InvalidOperation
from typing import NoReturn

from engine.canonical import compatibility_form, fold_text

# The patterns of this module run on text that strangers wrote, so each is linear: every
# repetition is bounded, or is followed by what it can't itself match.
_NUMBER = re.compile(
    r"(?:(?<![\w)\]])(?P<sign>[-+\u2212]))?[$\u20ac\xa3\xa5\u20b9]?"
    r"(?P<digits>(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?)"
)
_MARKER_TEXT = r"####|(?<!\w)(?:A|(?i:answer))[*_]{0,2}\s?[:\uff1a]"
_MARKER = re.compile(_MARKER_TEXT)
_NUMBER_OR_MARK = re.compile(rf"{_NUMBER.pattern}|[^\w\s]|_")

_OPENING = r"""[\s*_"'(\[{$\\]{0,10}(?:(?:boxed|text)\{[\s(]?){0,2}"""
# An `a` before a word is an article, and an `I` before one is the speaker.
_LETTER = r"(?P<letter>[A-HJ-Zb-z]|(?:a|I)(?!\s+[A-Za-z]))(?!\w|['\u2019]\w)"
_STATED_CHOICE = re.compile(
    rf"(?:{_MARKER_TEXT}|(?<!\w)(?i:answer)\s{{1,3}}(?i:is|would\sbe|must\sbe|should\sbe):?)"
    rf"{_OPENING}(?i:(?:option|choice)\s)?{_OPENING}{_LETTER}"
)
_LEADING_CHOICE = re.compile(
    rf"\A{_OPENING}(?i:(?:option|choice)\s)?{_LETTER}"
    r"""(?:[).:\]}*_"'$\\]|\s{1,3}[-\u2013\u2014]\s|[ \t]{0,3}(?:\n|\Z))"""
)
_LONE_CHOICE = re.compile(
    r"(?<![\w.'\u2019])(?:\((?P<bracketed>[A-Za-z])\)|(?i:option|choice)\s(?P<named>[A-Za-z])"
    r"|(?P<letter>[B-HJ-Z]|A(?!\s+(?!is\b)[a-z])|I(?!\s+[a-z])))(?!\w|['\u2019.]\w)"
)

_FENCED = re.compile(r"```(?:json)?[ \t]{0,9}\r?\n(.*?)```", re.DOTALL | re.IGNORECASE)

_SEPARATOR = "\x1f"
_WORD_CATEGORIES = frozenset({"Lu", "Ll", "Lt", "Lm", "Nd", "Nl", "No"})
_NUMBER_PUNCTUATION = frozenset(".-/")


def read_number(text: str) -> Decimal | None:
    """Read the number that a text gives as its answer.

    It is the first number after the last `####`, `A:` or `Answer:`; without such a marker,
    or without a number after it, the last number of the text. Thousands separators, currency
    signs and percent signs don't count; a minus directly after a word, as in `5-10`, is no sign.

    Args:
        text: An answer, or a worked solution.

    Returns:
        The exact value, or None without a number (or with one whose exponent is absurd).
    """
    marker = _last_match(_MARKER, text)
    found = None if marker is None else _NUMBER.search(text, marker.end())
    if found is None:
        found = _last_match(_NUMBER, text)
    if found is None:
        return None
    sign = "-" if found["sign"] in {"-", "\u2212"} else ""
    try:
        return Decimal(sign + found["digits"].replace(",", ""))
    except InvalidOperation:
        return None


def read_choice(text: str) -> str | None:
    r"""Read which lettered choice a text picks.

    In this order: the last letter that is stated (`Answer: B`, `the answer is (b)`,
    `A: \boxed{B}`); a letter that opens the text (`B`, `(b)`, `B. Paris`); the last letter
    standing by itself (`I would pick B`, `option c`).

    Args:
        text: An answer.

    Returns:
        An upper-case letter A to Z, or None.
    """
    text = compatibility_form(text)
    found = _last_match(_STATED_CHOICE, text)
    if found is None:
        found = _LEADING_CHOICE.search(text)
    if found is None:
        found = _last_match(_LONE_CHOICE, text)
    if found is None:
        return None
    letter = next(group for group in found.groups() if group is not None)
    return letter.upper()


def read_json(text: str) -> object:
    """Parse a text as JSON: all of it, or else its last fenced code block.

    Args:
        text: An answer.

    Returns:
        The value, in which every number is a Decimal, so that none is rounded.

    Raises:
        ValueError: There is no JSON in it, or it is nested too deeply to read.
    """
    try:
        return _parse_json(text)
    except ValueError:
        blocks = _FENCED.findall(text)
        if not blocks:
            raise
        return _parse_json(blocks[-1])


def equal_json(left: object, right: object) -> bool:
    """Compare two values of `read_json`, without recursion.

    Args:
        left: One value.
        right: The other.

    Returns:
        Whether they are equal as JSON: `1` equals `1.0`, `true` doesn't equal `1`, the order
        of an object's members doesn't count, that of an array's does.
    """
    pending = [(left, right)]
    while pending:
        one, other = pending.pop()
        if isinstance(one, dict) and isinstance(other, dict):
            if one.keys() != other.keys():
                return False
            pending.extend((member, other[name]) for name, member in one.items())
        elif isinstance(one, list) and isinstance(other, list):
            if len(one) != len(other):
                return False
            pending.extend(zip(one, other, strict=True))
        elif type(one) is not type(other) or one != other:
            return False
    return True


def normalize_answer(text: str) -> str:
    """Reduce a text to what counts when wording is compared.

    Letter case, white space, compatibility forms and punctuation go; symbols (`+`, `$`) stay.
    Inside a number the sign, the point and a fraction's slash stay too, so that `3.5` is not
    `35`, `-5` not `5` and `1/2` not `12`; thousands separators go. A text of nothing but
    punctuation keeps it.

    Args:
        text: Any text.

    Returns:
        The reduced text.
    """
    folded = fold_text(text)
    return " ".join(_NUMBER_OR_MARK.sub(_without_punctuation, folded).split()) or folded


def contains_words(text: str, words: str) -> bool:
    """Say whether `words` occurs in `text`, both reduced, from word boundary to word boundary.

    So `18` is not in `118` or `18.5`, nor `cat` in `concatenate`. Scripts without letter case
    have no boundaries to go by (Chinese and Thai don't space their words, Korean and Arabic
    attach particles), so there every character may begin or end a word.

    Args:
        text: Where to look.
        words: What to look for; when it is blank only a blank text contains it.

    Returns:
        Whether it was found.
    """
    wanted = _split_at_boundaries(normalize_answer(words))
    searched = _split_at_boundaries(normalize_answer(text))
    return wanted in searched if wanted != _SEPARATOR else searched == wanted


def _last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    last = deque(pattern.finditer(text), maxlen=1)
    return last[0] if last else None


def _without_punctuation(match: re.Match[str]) -> str:
    if match["digits"]:
        return match.group().replace(",", "").replace("\u2212", "-")
    mark = match.group()
    if not unicodedata.category(mark).startswith("P"):
        return mark
    text, start, end = match.string, match.start(), match.end()
    if text[start - 1 : start].isdecimal() and text[end : end + 1].isdecimal():
        return mark if mark == "/" else " "
    return ""


def _split_at_boundaries(text: str) -> str:
    """Put a separator around every word, so that finding words is finding a substring."""
    pieces: list[str] = []
    in_word = False
    for character in text:
        if character == " ":
            in_word = False
            continue
        category = unicodedata.category(character)
        if category.startswith("M"):  # a combining mark belongs to the character before it
            pieces.append(character)
            continue
        is_word = category in _WORD_CATEGORIES or character in _NUMBER_PUNCTUATION
        if not (is_word and in_word):
            pieces.append(_SEPARATOR)
        pieces.append(character)
        in_word = is_word
    return "".join((*pieces, _SEPARATOR))


def _parse_json(text: str) -> object:
    try:
        value: object = _JSON.decode(text.strip())
    except (InvalidOperation, RecursionError) as error:
        raise ValueError(f"JSON that can't be read: {type(error).__name__}") from error
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"JSON has no number {name}")


_JSON = json.JSONDecoder(parse_float=Decimal, parse_int=Decimal, parse_constant=_refuse_constant)
