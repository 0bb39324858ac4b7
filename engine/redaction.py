"""Redaction: what must never be stored is replaced in texts and JSON values as they come in."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import orjson

from engine.detectors import DETECTORS, Detector, Span
from engine.matching import PatternError, compile_pattern
from engine.redacted_keys import detect_keys

KEY_RULE = "key"
"""How a value is replaced that stands under a redacted key."""
DEPTH_RULE = "depth"
"""How a value is replaced that is nested deeper than is looked into."""
MAX_DEPTH = 100
"""Levels of nesting that are looked into, which is as many as can be stored."""

_RULE_NAME = re.compile(r"[a-z][a-z0-9_]{0,49}")
_OWN_NAMES = (*DETECTORS, KEY_RULE, DEPTH_RULE)
_ROUNDS = 4
# A user's pattern may look to the end of the text for each of its matches (`a.*b|a` does), of which
# there may be so many: of long texts fewer, so that one text does not take a second.
_MATCHES = 1_000
_LEAST_MATCHES = 100
_PATTERN_BYTES = 300_000_000
_ENCODING = "utf-8", "surrogatepass"
_SINGLE_BYTE = re.compile(r"(?<!\\)(?:\\\\)*\\C")
_LEAST_CARD = 10**12  # a number that is not a string may be a card's


class RedactionError(ValueError):
    """Rules that can't be used; the text says which and why."""


@dataclass(frozen=True, slots=True)
class NamedPattern:
    """A pattern of somebody's own, in RE2 syntax, and what its matches are replaced by."""

    name: str
    pattern: str


@dataclass(frozen=True, slots=True)
class RedactionRules:
    """What is redacted.

    Attributes:
        detectors: Names out of `DETECTORS`.
        patterns: Patterns of the workspace's own.
        keys: Names of JSON keys whose values are replaced whole, whatever their letter case.
    """

    detectors: frozenset[str] = frozenset()
    patterns: tuple[NamedPattern, ...] = ()
    keys: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Rule:
    name: str
    compiled: Any
    detector: Detector | None

    def spans(self, text: bytes) -> Iterator[Span]:
        if self.detector is not None:
            found_to = 0
            for found in self.compiled.finditer(text):
                if found.start() < found_to:  # inside of what is replaced
                    continue
                for start, end in self.detector.narrow(text, found.start(), found.end()):
                    yield start, end
                    found_to = end
            return
        matches_left = max(_LEAST_MATCHES, min(_MATCHES, _PATTERN_BYTES // (len(text) + 1)))
        for found in self.compiled.finditer(text):
            start, end = found.span()
            if matches_left == 0:  # too costly to tell apart what is left
                yield start, len(text)
                return
            matches_left -= 1
            if start < end:  # of `\b|x`, say, which is empty between letters
                yield start, end


@dataclass(frozen=True, slots=True)
class Redactor:
    """Rules made ready. Equal rules are equal redactors.

    What is replaced becomes `[redacted:<rule>]`; doing it again changes nothing, and nothing
    that a rule finds is left in between. Where matches of several rules overlap, all of it is
    replaced, under the name of the one that begins first.
    """

    rules: RedactionRules
    _rules: tuple[_Rule, ...] = field(compare=False, repr=False)
    _quick: tuple[Any, ...] = field(compare=False, repr=False)
    _keys: frozenset[str] = field(compare=False, repr=False)
    _placeholder: re.Pattern[bytes] = field(compare=False, repr=False)

    def redact_text(self, text: str, counts: Counter[str] | None = None) -> str:
        """Return *text* without what the rules find; the same object if that is nothing.

        A text that is a JSON object or array is treated as one, as the arguments of tool calls
        are. In other text, a redacted key counts that is in quotation marks before a colon.

        Args:
            text: Any text.
            counts: What was replaced is added here, by the rule.
        """
        if not self._rules:
            return text
        return self._redact_text(text, Counter() if counts is None else counts, 0)

    def redact_json(self, value: Any, counts: Counter[str] | None = None) -> Any:
        """Return a JSON value without what the rules find; the same object if that is nothing.

        Names of keys are redacted too, and so are numbers in which a pattern of somebody's own
        finds something, and those of 13 digits or more that are a card's. What is nested more
        than `MAX_DEPTH` deep is replaced unseen.

        Args:
            value: What JSON can say. It is not changed.
            counts: What was replaced is added here, by the rule.
        """
        if not self._rules:
            return value
        return self._redact_json(value, Counter() if counts is None else counts, 0)

    def _redact_json(self, value: Any, counts: Counter[str], depth: int) -> Any:
        if isinstance(value, str):
            return self._redact_text(value, counts, depth)
        if isinstance(value, dict | list | tuple):
            if depth >= MAX_DEPTH:
                counts[DEPTH_RULE] += 1
                return placeholder(DEPTH_RULE)
            if isinstance(value, dict):
                return self._redact_object(value, counts, depth + 1)
            parts = [self._redact_json(part, counts, depth + 1) for part in value]
            is_same = all(new is old for new, old in zip(parts, value, strict=True))
            return value if is_same else parts
        if type(value) not in {int, float} or (not self.rules.patterns and value < _LEAST_CARD):
            return value
        return self._redact_number(value, counts, depth)

    def _redact_number(self, value: float, counts: Counter[str], depth: int) -> Any:
        is_float = type(value) is float
        forms = [orjson.dumps(value).decode() if is_float else str(value)]
        if is_float and value.is_integer():
            forms.append(str(int(value)))  # a card's, say, that lost its digits to an exponent
        for written in forms:
            redacted = self._redact_text(written, counts, depth)
            if redacted is not written:
                return redacted
        return value

    def _redact_object(
        self, value: dict[str, Any], counts: Counter[str], depth: int
    ) -> dict[str, Any]:
        redacted: dict[str, Any] = {}
        is_same = True
        for name, part in value.items():
            if name.casefold() in self._keys:
                new_name, new_part = name, _replace_value(part, counts)
            else:
                new_name = self._redact_text(name, counts, depth)
                new_part = self._redact_json(part, counts, depth)
            if new_name in redacted:  # two names were a secret each
                new_name += placeholder(str(len(redacted)))
            is_same = is_same and new_name is name and new_part is part
            redacted[new_name] = new_part
        return value if is_same else redacted

    def _redact_text(self, text: str, counts: Counter[str], depth: int) -> str:
        for _ in range(_ROUNDS):
            redacted = self._redact_once(text, counts, depth)
            if redacted is text or not _may_be_json(redacted):
                return redacted
            text = redacted  # what was no JSON may have become some
        counts[DEPTH_RULE] += 1
        return placeholder(DEPTH_RULE)

    def _redact_once(self, text: str, counts: Counter[str], depth: int) -> str:
        encoded = text.encode(*_ENCODING)
        has_match = self._has_match(encoded)
        if _may_be_json(text) and (has_match or self._keys or self.rules.patterns or "\\" in text):
            inside = self._redact_inside(text, counts, depth)
            if inside is not text:
                text, encoded = inside, inside.encode(*_ENCODING)
        if not has_match:
            return text
        redacted = b"".join(self._redact_bytes(encoded, counts))
        return text if redacted == encoded else redacted.decode(*_ENCODING)

    def _redact_inside(self, text: str, counts: Counter[str], depth: int) -> str:
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            return text
        redacted = self._redact_json(value, counts, depth)
        return text if redacted is value else orjson.dumps(redacted).decode()

    def _redact_bytes(self, text: bytes, counts: Counter[str]) -> Iterator[bytes]:
        """Yield the text's parts. What is between two replacements is a text of its own.

        Were it not, then what a replacement leaves to the left and to the right of a match could
        decide whether it is one, and redacting twice would not be redacting once.
        """
        at = 0
        for known in self._placeholder.finditer(text):
            yield from self._redact_segment(text[at : known.start()], counts, _ROUNDS)
            yield known.group()
            at = known.end()
        yield from self._redact_segment(text[at:], counts, _ROUNDS)

    def _redact_segment(
        self, segment: bytes, counts: Counter[str], rounds_left: int
    ) -> Iterator[bytes]:
        spans = self._spans(segment) if self._has_match(segment) else ()
        at = 0
        for start, end, name in spans:
            if rounds_left == 0:  # one match keeps laying the next one bare
                start, end = 0, len(segment)  # noqa: PLW2901 - all of it, then
            elif start > at:
                yield from self._redact_segment(segment[at:start], counts, rounds_left - 1)
            counts[name] += 1
            yield placeholder(name).encode()
            at = end
            if at == len(segment):
                return
        if at == 0:
            yield segment
        else:
            yield from self._redact_segment(segment[at:], counts, rounds_left - 1)

    def _has_match(self, text: bytes) -> bool:
        return any(quick.search(text) is not None for quick in self._quick)

    def _spans(self, text: bytes) -> list[tuple[int, int, str]]:
        """Return where and by which rule something is found, in order, overlaps as one."""
        found = sorted(
            (start, -end, rule.name) for rule in self._rules for start, end in rule.spans(text)
        )
        merged: list[tuple[int, int, str]] = []
        for start, negative_end, name in found:
            if merged and start < merged[-1][1]:
                first, end, first_name = merged[-1]
                merged[-1] = first, max(end, -negative_end), first_name
            else:
                merged.append((start, -negative_end, name))
        return merged


def placeholder(rule_name: str) -> str:
    """Return what stands in the place of what a rule found."""
    return f"[redacted:{rule_name}]"


@lru_cache(maxsize=256)
def compile_redactor(rules: RedactionRules) -> Redactor:
    """Make rules ready to be used.

    Raises:
        RedactionError: A detector is unknown, the name of a pattern is malformed or taken, or a
            pattern can't be used.
    """
    unknown = sorted(rules.detectors - DETECTORS.keys())
    if unknown:
        raise RedactionError(f"{unknown[0]} is no detector; there are {', '.join(DETECTORS)}")
    names = Counter(own.name for own in rules.patterns)
    for own in rules.patterns:
        try:
            check_pattern_name(own.name)
            check_redaction_pattern(own.pattern)
        except RedactionError as error:
            raise RedactionError(f"{own.name}: {error}") from error
        if names[own.name] > 1:
            raise RedactionError(f"{own.name}: there are {names[own.name]} patterns of this name")
    chosen = {name: each for name, each in DETECTORS.items() if name in rules.detectors}
    owned = tuple(_Rule(own.name, compile_pattern(own.pattern), None) for own in rules.patterns)
    if rules.keys:
        chosen[KEY_RULE] = detect_keys(rules.keys)
    built_in = tuple(_Rule(n, compile_pattern(each.pattern), each) for n, each in chosen.items())
    # All in one, which costs as much as one of them; users' might not go together.
    together = "|".join(f"(?:{each.pattern})" for each in chosen.values())
    quick = (compile_pattern(together),) if chosen else ()
    return Redactor(
        rules,
        _rules=(*built_in, *owned),
        _quick=(*quick, *(rule.compiled for rule in owned)),
        _keys=frozenset(key.casefold() for key in rules.keys),
        _placeholder=re.compile(
            rf"\[redacted:(?:{'|'.join([*_OWN_NAMES, *names])}|[0-9]{{1,9}})\]".encode()
        ),
    )


def check_pattern_name(name: str) -> None:
    """Refuse what a pattern can't be called.

    Raises:
        RedactionError: It is malformed, or what one of the product's own rules is called.
    """
    if _RULE_NAME.fullmatch(name) is None:
        raise RedactionError(
            "must be a small letter and then at most 49 small letters, digits and underscores"
        )
    if name in _OWN_NAMES:
        raise RedactionError("is taken by a rule of the product's own")


def check_redaction_pattern(pattern: str) -> None:
    """Refuse a pattern that text can't be redacted by.

    Raises:
        RedactionError: It is malformed, too large, or uses what RE2 leaves out; or it matches
            the empty text, or single bytes, which would take characters apart.
    """
    if _SINGLE_BYTE.search(pattern):
        raise RedactionError("must not match single bytes (\\C)")
    try:
        compiled = compile_pattern(pattern)
    except PatternError as error:
        raise RedactionError(f"is not a valid regex: {error}") from error
    if compiled.fullmatch("") is not None:
        raise RedactionError("must not match the empty text, which is everywhere")


def _may_be_json(text: str) -> bool:
    return text.lstrip()[:1] in {"{", "["}


def _replace_value(value: Any, counts: Counter[str]) -> Any:
    replaced = placeholder(KEY_RULE)
    if value is None or value == replaced:
        return value
    counts[KEY_RULE] += 1
    return replaced
