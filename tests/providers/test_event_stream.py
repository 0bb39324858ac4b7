"""Server-sent events: however they are cut, what is read is what the standard says."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.event_stream import EventParser, EventTooLargeError

LINES = st.sampled_from(
    [
        "", "", "data: a", "data:b", "data:  c", "data", "data:", "data: é€🙂", ": comment", ":",
        "event: message", "id: 1", "retry: 10", "other: x", "datax: y", " data: z", "data: d: e",
        "data: \x0b\x0c\x1c\x85\u2028",
    ]
)  # fmt: skip
ENDS = st.sampled_from(["\n", "\r", "\r\n"])


def parse(stream: bytes, cuts: list[int], max_event_bytes: int = 10_000) -> list[bytes]:
    parser = EventParser(max_event_bytes)
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    pieces = [stream[start:end] for start, end in pairwise(places)]
    return [event for piece in pieces for event in parser.feed(piece)] + parser.close()


def interpret(stream: str) -> list[bytes]:
    """Read a whole stream as the standard words it, but keep an event that has no blank line."""
    events: list[bytes] = []
    data = ""
    for line in [*re.split(r"\r\n|\n|\r", stream.removeprefix("\ufeff")), ""]:
        if line == "":
            if data:
                events.append(data.removesuffix("\n").encode())
            data = ""
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            if name == "data":
                data += value.removeprefix(" ") + "\n"
    return events


@given(
    has_mark=st.booleans(),
    lines=st.lists(st.tuples(LINES, ENDS)),
    last=LINES,
    cuts=st.lists(st.integers(0, 10_000)),
)
def test_however_a_stream_is_cut_its_events_are_the_standards(
    *, has_mark: bool, lines: list[tuple[str, str]], last: str, cuts: list[int]
) -> None:
    stream = ("\ufeff" if has_mark else "") + "".join(map("".join, lines)) + last
    assert parse(stream.encode(), cuts) == interpret(stream)


@given(st.binary(), st.lists(st.integers(0, 10_000)))
def test_whatever_the_bytes_are_the_cuts_make_no_difference(stream: bytes, cuts: list[int]) -> None:
    assert parse(stream, cuts) == parse(stream, [])


def test_an_event_is_there_as_soon_as_its_blank_line_begins() -> None:
    parser = EventParser(100)
    assert parser.feed(b"data: 1\r\n") == []
    assert parser.feed(b"\r") == [b"1"]
    assert parser.feed(b"\ndata: 2\n\n") == [b"2"]


@pytest.mark.parametrize(
    "stream",
    [b"data: " + b"x" * 100, b"data: x\n" * 20, b": c\n" * 40, b"data: " + b"x" * 100 + b"\n\n"],
)
@pytest.mark.parametrize("cuts", [[], list(range(1_000))])
def test_an_event_over_the_limit_is_refused(stream: bytes, cuts: list[int]) -> None:
    with pytest.raises(EventTooLargeError):
        parse(stream, cuts, 100)


def test_the_limit_is_of_one_event() -> None:
    assert parse(b"data: 90 of them\n\n" * 90, [], 20) == [b"90 of them"] * 90
