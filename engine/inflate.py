"""Undoing the compression of request bodies, up to a bound."""

import zlib
from enum import StrEnum


class Coding(StrEnum):
    """A content coding of RFC 9110, section 8.4.1."""

    GZIP = "gzip"
    DEFLATE = "deflate"


class InflateError(ValueError):
    """A body that is not what its coding says; the text says why."""


class OversizeError(ValueError):
    """A body that is larger than it may be, once it is inflated."""


_WINDOW_BITS = {Coding.GZIP: zlib.MAX_WBITS | 16, Coding.DEFLATE: zlib.MAX_WBITS}


def inflate(body: bytes, coding: Coding, *, max_bytes: int) -> bytes:
    """Return a body as it was before it was compressed.

    Args:
        body: One gzip member, or one zlib stream.
        coding: Which of them.
        max_bytes: No more than one byte beyond is ever made.

    Raises:
        InflateError: It can't be inflated, is cut off, or something follows it.
        OversizeError: It is larger than *max_bytes*.
    """
    stream = zlib.decompressobj(_WINDOW_BITS[coding])
    try:
        inflated = stream.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise InflateError(f"the body is not {coding}: {error}") from error
    if len(inflated) > max_bytes:
        raise OversizeError(f"the body is over the limit of {max_bytes} bytes, once inflated")
    if not stream.eof:
        raise InflateError(f"the body is {coding} that is cut off")
    if stream.unused_data:
        raise InflateError(f"{len(stream.unused_data)} bytes follow the end of the {coding} body")
    return inflated
