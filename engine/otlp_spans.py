"""Spans as they are sent over OTLP, whatever the encoding."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MAX_VALUE_DEPTH = 32
"""Arrays and lists of keys that a value may be inside of; protobuf itself allows some 45."""


class OtlpError(ValueError):
    """A body that is no trace request.

    Attributes:
        field: Where it is wrong, in the names of the JSON encoding; empty for all of it.
        reason: What is wrong.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.reason = reason

    def inside(self, outer: str) -> "OtlpError":
        """Return the same error, of a field of *outer*."""
        return OtlpError(f"{outer}.{self.field}" if self.field else outer, self.reason)


@dataclass(frozen=True, slots=True)
class WireSpan:
    """One span as it was sent.

    Attributes:
        attributes: Strings, booleans, numbers, None, and lists and dicts of them; bytes are
            base64 text.
        events: Their names and attributes, in order.
        resource: The attributes of what made the span.
    """

    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes
    name: str
    start_ns: int
    end_ns: int
    status_code: int
    status_message: str
    attributes: Mapping[str, Any]
    events: tuple[tuple[str, Mapping[str, Any]], ...]
    resource: Mapping[str, Any]
    scope_name: str
    scope_version: str


@dataclass(frozen=True, slots=True)
class WireRequest:
    """The spans of a request.

    Attributes:
        left_out_count: How many there were beyond those that are taken.
    """

    spans: tuple[WireSpan, ...]
    left_out_count: int


Group = tuple[Sequence[Any], Callable[[int, Any], WireSpan]]
"""Spans of one scope as they were sent, and what reads one of them, given its place."""


def check_depth(depth: int) -> None:
    """Refuse a value that is inside of *depth* others.

    Raises:
        OtlpError: Those are more than `MAX_VALUE_DEPTH`.
    """
    if depth >= MAX_VALUE_DEPTH:
        raise OtlpError("", f"a value is nested more than {MAX_VALUE_DEPTH} deep")


def storable(text: str) -> str:
    """Return *text* as PostgreSQL takes it, which has no NUL character."""
    return text.replace("\x00", "\ufffd") if "\x00" in text else text
