"""Where redacted keys have their values in a text, of which JSON is a part, cut off or escaped."""

import json
import re
from collections.abc import Iterator

import re2

from engine.detectors import Detector, Span

# Only the first of several backslashes begins a match, or each would count all that follow.
_QUOTE = rb"""(?<!\\)(\\*+)(["'])"""
_OPENING = re.compile(rb"""(\\*+)(["'])|[\[{]""")
_STRING_MARK = re.compile(_QUOTE)
_MARK = re.compile(_QUOTE + rb"|[\[{\]}]")
_BARE = re.compile(rb"""[^\s"'\[{,}\]]+""")


def detect_keys(keys: frozenset[str]) -> Detector:
    """Return what finds the values of keys: strings, numbers, words, objects and arrays.

    A value that is not ended goes on to the end of the text. Strings may be in single quotation
    marks, as Python writes them, and all of it may be escaped, as JSON within a string is.
    """
    names = "|".join("".join(map(_letter, key)) for key in sorted(keys))
    return Detector(rf"\\*[\"'](?i:{names})\\*[\"']\s*:\s*", _value_at)


def _letter(letter: str) -> str:
    """Return how a letter is found; what is not ASCII is written as an escape by many."""
    written = str(re2.escape(letter))
    if letter.isascii():
        return written
    escapes = {json.dumps(each)[1:-1] for each in (letter, letter.lower(), letter.upper())}
    doubled = [escape.replace("\\", r"\\+") for escape in sorted(escapes)]
    return f"(?:{'|'.join([written, *doubled])})"


def _value_at(text: bytes, _start: int, at: int) -> Iterator[Span]:
    """Yield where the value is that begins at *at*, unless it is null or empty."""
    opening = _OPENING.match(text, at)
    if opening is None:
        bare = _BARE.match(text, at)
        if bare is not None and bare.group() != b"null":
            yield bare.span()
    elif opening[2] is None:
        yield at, _end_of_brackets(text, at)
    else:
        start, end = opening.end(), _end_of_string(text, opening)
        if start < end:
            yield start, end


def _end_of_string(text: bytes, opening: re.Match[bytes]) -> int:
    for mark in _STRING_MARK.finditer(text, opening.end()):
        if _closes(opening, mark):
            return mark.end() - len(opening.group())
    return len(text)


def _end_of_brackets(text: bytes, at: int) -> int:
    depth = 0
    opening = None
    for mark in _MARK.finditer(text, at):
        if opening is not None:
            if mark[2] is not None and _closes(opening, mark):
                opening = None
        elif mark[2] is not None:
            opening = mark
        elif mark[0] in b"[{":
            depth += 1
        else:
            depth -= 1
            if depth == 0:
                return mark.end()
    return len(text)


def _closes(opening: re.Match[bytes], mark: re.Match[bytes]) -> bool:
    """Tell whether a quotation mark ends the string that another one began.

    Where n backslashes stand before the marks around a string, each backslash in it is written
    as 2n + 2, and a mark as 2n + 1 and itself.
    """
    escape_count = len(opening[1])
    doubled = 2 * (escape_count + 1)
    return mark[2] == opening[2] and len(mark[1]) % doubled == escape_count
