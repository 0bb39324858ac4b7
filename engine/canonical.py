"""Canonical forms, so that equal content has equal bytes: JSON, digests, folded text."""

import math
import re
import unicodedata
from collections.abc import Iterator

import orjson

MAX_JSON_DEPTH = 200
"""Levels of nesting accepted in a JSON value; orjson itself gives up at 254."""

_CANONICAL = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS
_MAX_MARKS = 30  # in a row; far more than any language writes, says the annex named below
_GRAPHEME_JOINER = "\u034f"  # invisible, and no mark is sorted past it
_RUN_THAT_MAY_BE_MARKS = re.compile(rf"[^\x00-\u02ff]{{{_MAX_MARKS + 1},}}")


def canonical_json(value: object) -> bytes:
    """Encode a value as JSON with sorted keys, in UTF-8, without white space.

    Args:
        value: What JSON can say: dict with string keys, list or tuple, str, int of at
            most 64 bits, finite float, bool, None.

    Returns:
        The bytes, without a trailing newline.

    Raises:
        ValueError: The value holds a NaN or an infinity (JSON has none), or something else
            that can't be encoded: a longer integer, an unpaired surrogate, a Decimal
            or other Python object, more than `MAX_JSON_DEPTH` levels.
    """
    try:
        encoded = orjson.dumps(value, option=_CANONICAL)
    except orjson.JSONEncodeError as error:
        _check_values(value)
        raise ValueError(f"not a JSON value: {error}") from error
    # What is not finite was written as null; and what is deep has many brackets.
    if b"null" in encoded or encoded.count(b"{") + encoded.count(b"[") > MAX_JSON_DEPTH:
        _check_values(value)
    return encoded


def _check_values(value: object) -> None:
    for scalar in iter_scalars(value):
        if isinstance(scalar, float) and not math.isfinite(scalar):
            raise ValueError(f"JSON has no number {scalar}")


def iter_scalars(value: object) -> Iterator[object]:
    """Yield every scalar and every object key in a JSON value, in no particular order.

    Args:
        value: A JSON value; tuples count as arrays.

    Yields:
        Strings, numbers, booleans, None, and whatever else stands where a scalar should.

    Raises:
        ValueError: The value is nested more than `MAX_JSON_DEPTH` levels, or holds itself.
    """
    pending: list[tuple[object, int]] = [(value, 0)]
    while pending:
        item, depth = pending.pop()
        if depth > MAX_JSON_DEPTH:
            raise ValueError(f"JSON nested more than {MAX_JSON_DEPTH} levels")
        if isinstance(item, dict):
            yield from item
            pending.extend((child, depth + 1) for child in item.values())
        elif isinstance(item, list | tuple):
            pending.extend((child, depth + 1) for child in item)
        else:
            yield item


def fold_text(text: str) -> str:
    """Fold away what a reader overlooks: compatibility forms, letter case, white space.

    Args:
        text: Any text.

    Returns:
        The text in NFKC, case-folded, each run of white space one space, none at the ends.

    Source: The Unicode Standard, section 3.13, default caseless matching: folding may undo a
    normal form, so the text is normalised before and after.
    """
    if text.isascii():  # it has no other form, and is folded in a quarter of the time
        return " ".join(text.lower().split())
    return " ".join(compatibility_form(compatibility_form(text).casefold()).split())


def compatibility_form(text: str) -> str:
    """Return the text in Unicode form NFKC, in linear time.

    Sorting combining marks takes the square of their number, so a few hundred kilobytes of
    nothing but marks would keep a process busy for half a minute. A run of more than 30 is
    therefore interrupted by U+034F, which leaves every text that people write as it is.

    Args:
        text: Any text.

    Returns:
        The text in NFKC.

    Source: Unicode Standard Annex #15, Stream-Safe Text Format.
    """
    return unicodedata.normalize("NFKC", _RUN_THAT_MAY_BE_MARKS.sub(_interrupt_marks, text))


def _interrupt_marks(run: re.Match[str]) -> str:
    pieces: list[str] = []
    mark_count = 0
    for character in run.group():
        # Decomposed, because some letters (U+FF9E) are marks in this form only.
        is_mark = unicodedata.combining(unicodedata.normalize("NFKD", character)[0]) > 0
        mark_count = mark_count + 1 if is_mark else 0
        if mark_count > _MAX_MARKS:
            pieces.append(_GRAPHEME_JOINER)
            mark_count = 1
        pieces.append(character)
    return "".join(pieces)
