"""Inflating bodies: what was compressed comes back, and nothing larger than it may be."""

import gzip
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.inflate import Coding, InflateError, OversizeError, inflate

DEFLATED: dict[Coding, Callable[[bytes], bytes]] = {
    Coding.GZIP: gzip.compress,
    Coding.DEFLATE: zlib.compress,
}
CODINGS = st.sampled_from(list(Coding))


@given(CODINGS, st.binary(max_size=2_000))
def test_what_was_compressed_comes_back_up_to_the_bound(coding: Coding, content: bytes) -> None:
    body = DEFLATED[coding](content)
    assert inflate(body, coding, max_bytes=len(content)) == content
    if content:
        with pytest.raises(OversizeError):
            inflate(body, coding, max_bytes=len(content) - 1)


@given(CODINGS, st.binary(max_size=200), st.data())
def test_a_body_that_is_cut_off_or_goes_on_is_refused(
    coding: Coding, content: bytes, data: st.DataObject
) -> None:
    body = DEFLATED[coding](content)
    cut = data.draw(st.integers(0, len(body) - 1))
    with pytest.raises(InflateError):
        inflate(body[:cut], coding, max_bytes=1_000)
    with pytest.raises(InflateError, match="3 bytes follow the end of the"):
        inflate(body + b"abc", coding, max_bytes=1_000)


@given(CODINGS, st.binary(max_size=200))
def test_whatever_a_body_is_it_is_inflated_or_refused(coding: Coding, body: bytes) -> None:
    try:
        inflate(body, coding, max_bytes=1_000)
    except (InflateError, OversizeError):
        return


def test_a_bomb_is_refused_before_it_is_made() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    with pytest.raises(OversizeError, match="over the limit of 1000 bytes, once inflated"):
        inflate(bomb, Coding.GZIP, max_bytes=1_000)
