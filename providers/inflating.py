"""Bodies that came compressed, undone in pieces of bounded size."""

import zlib
from typing import Any

# Of a body, at once: others have their turn between two of them.
PIECE_BYTES = 64 * 1024
# A file may be made of several; thousands of empty ones are made to waste time.
# Source: RFC 1952, section 2.2.
MAX_MEMBERS = 1_000
GZIP = frozenset({"gzip", "x-gzip"})
DEFLATE = "deflate"
# Others that an answer could have been compressed with, had it been asked for.
UNASKED = frozenset({"br", "compress", "x-compress", "zstd"})
GZIP_WINDOW = 16 + zlib.MAX_WBITS
ZLIB_METHOD = 8


class BrokenCompressionError(Exception):
    """A body is not compressed as its head says, or in a way that was not asked for."""


class Inflater:
    """Undoes gzip, or deflate with a zlib header or without.

    Source: RFC 9110, section 8.4.1.
    """

    def __init__(self, encoding: str) -> None:
        self._is_gzip = encoding in GZIP
        self._member: Any = None
        self._rest = b""
        self._has_more = False
        self._members = 0

    def inflate(self, piece: bytes) -> bytes:
        """Return at most 64 KiB of what *piece* and all before it hold; empty when that was all.

        Raises:
            BrokenCompressionError: They are not compressed as was said.
        """
        held, self._rest = self._rest + piece, b""
        while held or self._has_more:
            member = self._member
            if member is None or member.eof:
                self._member = member = self._open(held)
            try:
                inflated: bytes = member.decompress(held, PIECE_BYTES)
            except zlib.error as error:
                raise BrokenCompressionError from error
            # It may have taken all in, and have more to give out.
            self._has_more = len(inflated) == PIECE_BYTES and not member.eof
            held = member.unused_data if member.eof else member.unconsumed_tail
            if inflated:
                self._rest = held
                return inflated
        return b""

    def check_end(self) -> None:
        """Check that nothing is missing.

        Raises:
            BrokenCompressionError: The end is.
        """
        if self._member is not None and not self._member.eof:
            raise BrokenCompressionError

    def _open(self, held: bytes) -> Any:
        self._members += 1
        if self._members > (MAX_MEMBERS if self._is_gzip else 1):
            raise BrokenCompressionError
        if self._is_gzip:
            window = GZIP_WINDOW
        else:
            window = zlib.MAX_WBITS if held[0] & 0x0F == ZLIB_METHOD else -zlib.MAX_WBITS
        return zlib.decompressobj(wbits=window)


def open_inflater(encoding: str) -> Inflater | None:
    """Return what undoes *encoding*, the value of Content-Encoding; None when there is nothing to.

    A name that stands for no compression is passed over: `utf-8` is sent by mistake.

    Raises:
        BrokenCompressionError: It was not asked for.
    """
    stated = {each.strip().lower() for each in encoding.split(",")} - {"", "identity"}
    if not stated & (GZIP | UNASKED | {DEFLATE}):
        return None
    (first, *others) = stated
    if others or first in UNASKED or "," in encoding:
        raise BrokenCompressionError
    return Inflater(first)
