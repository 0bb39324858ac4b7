"""Where redacted keys have their values in a text, of which JSON is a part, cut off or escaped."""

import json
import re
from collections.abc import Iterator

import re2

from engine.detectors import Detector, Span

# Only the first of several backslashes begins a match, or each would count all that follow.
_QUOTE = rb"""(?<!\\)(\\*+)(["'])"""
_OPENING = re.compile(rb"""(\\*+)(["'])|[(\[{]""")
_STRING_MARK = re.compile(_QUOTE)
_MARK = re.compile(_QUOTE + rb"|[()\[{\]}]")
_BARE = re.compile(rb"""[^\s"'(\[{,}\])]+""")
_TRIPLE_QUOTES = (b"'''", b'"""')
_SPACE = r"(?:[\s\pZ]|\\+[nrt])*"
_BEFORE_STRINGS = b"([{,:= \t\r\n"


def detect_keys(keys: frozenset[str]) -> Detector:
    """Return what finds the values of keys: strings, numbers, words, objects and arrays.

    A value that is not ended goes on to the end of the text, or of the string that all is escaped
    in. Python's ways to write values are known too.
    """
    names = "|".join("".join(map(_letter, key)) for key in sorted(keys))
    return Detector(rf"\\*[\"'](?i:{names})\\*[\"']{_SPACE}:{_SPACE}", _value_at)


def _letter(letter: str) -> str:
    """Return how a letter is found; what is not ASCII is written as an escape by many."""
    written = str(re2.escape(letter))
    if letter.isascii():
        return written
    escapes = {json.dumps(each)[1:-1] for each in (letter, letter.lower(), letter.upper())}
    doubled = [escape.replace("\\", r"\\+") for escape in sorted(escapes)]
    return f"(?:{'|'.join([written, *doubled])})"


def _value_at(text: bytes, start: int, at: int) -> Iterator[Span]:
    """Yield where the value is that begins at *at*, of the key at *start*; not if null or empty."""
    opening = _OPENING.match(text, at)
    if text[at : at + 3] in _TRIPLE_QUOTES:
        end = text.find(text[at : at + 3], at + 3)
        span = at + 3, len(text) if end < 0 else end
    elif opening is not None and opening[2] is not None:
        span = opening.end(), _end_of_string(text, opening)
    else:
        key = _OPENING.match(text, start)
        level = len(key[1]) if key is not None and key[2] is not None else 0
        span = at, _end_of_others(text, at, level)
    if span[0] < span[1] and text[slice(*span)] != b"null":
        yield span


def _end_of_others(text: bytes, at: int, level: int) -> int:
    """Return where a value ends that is no string: a word, brackets, or `bytes(b'as here')`."""
    while True:
        bare = _BARE.match(text, at)
        at = at if bare is None else bare.end()
        opening = _OPENING.match(text, at)
        if opening is None or (opening[2] is not None and len(opening[1]) < level):
            return at
        if opening[2] is None:
            return _end_of_brackets(text, at, level)
        if bare is None:
            return at
        at = min(_end_of_string(text, opening) + len(opening.group()), len(text))


def _end_of_string(text: bytes, opening: re.Match[bytes]) -> int:
    for mark in _STRING_MARK.finditer(text, opening.end()):
        if _closes(opening, mark):
            return max(mark.start(), mark.end() - len(opening.group()))
    return len(text)


def _end_of_brackets(text: bytes, at: int, level: int) -> int:
    """Return where brackets end that begin at *at*, in strings that *level* backslashes escape."""
    depth = 0
    opening = None
    for mark in _MARK.finditer(text, at):
        if opening is not None:
            if mark[2] is not None and _closes(opening, mark):
                opening = None
        elif mark[2] is not None:
            if len(mark[1]) < level:  # the string is over that it all is in
                return mark.start()
            opening = mark if mark[2] == b'"' or _is_string(text, mark) else None
        elif mark[0] in b"([{":
            depth += 1
        else:
            depth -= 1
            if depth == 0:
                return mark.end()
    return len(text)


def _is_string(text: bytes, mark: re.Match[bytes]) -> bool:
    """Tell whether a single quotation mark begins a string of its line, and is no apostrophe."""
    end = text.find(b"'", mark.end())
    return (
        text[mark.start() - 1 : mark.start()] in _BEFORE_STRINGS
        and end > 0
        and text.find(b"\n", mark.end(), end) < 0
    )


def _closes(opening: re.Match[bytes], mark: re.Match[bytes]) -> bool:
    """Tell whether a quotation mark ends the string that another one began.

    Where n backslashes stand before the marks around a string, each backslash in it is written
    as 2n + 2, and a mark as 2n + 1 and itself. With fewer than n, the string around it is over.
    """
    escape_count, found = len(opening[1]), len(mark[1])
    is_end = found < escape_count or found % (2 * (escape_count + 1)) == escape_count
    return is_end and mark[2] == opening[2]
