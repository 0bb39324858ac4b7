"""How a snapshot is laid out in storage: its lines in blocks, and an index of its rows.

The lines are one object, by whose SHA-256 the snapshot is known. Blocks of 256 lines, or of fewer
that are long, each have a place and a digest, so that a row can be read, and be shown to be
unchanged, without reading the rest. The index is another object with a record a row, for what looks
at all of them.
"""

import hashlib
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Final

import numpy as np
import numpy.typing as npt

BLOCK_ROWS: Final = 256
BLOCK_BYTES: Final = 1024 * 1024
"""A block ends with the line that brings it to so many."""

DIGEST_BYTES: Final = 16
KEY_BYTES: Final = 16
_BLOCK = struct.Struct(f"<QI{DIGEST_BYTES}s")

HAS_EXPECTED: Final = 1
"""Flag of a row that has an expected output."""
IS_VALIDATION: Final = 2
"""Flag of a row on the validation side."""

INDEX_ROW: Final = np.dtype(
    [
        ("key", f"V{KEY_BYTES}"),
        ("digest", f"V{DIGEST_BYTES}"),
        ("arrival", "<i8"),
        ("length", "<u4"),
        ("weight", "<f4"),
        ("flags", "u1"),
    ]
)
"""A row of the index: who it is, the digest of its line, when it came, the line's bytes with the
newline, what weighted draws give it, and flags."""

_INDEX_ROW = struct.Struct(f"<{KEY_BYTES}s{DIGEST_BYTES}sqIfB")

IndexArray = npt.NDArray[np.void]


class ChangedBytesError(Exception):
    """Stored bytes are not those that were stored."""


def digest_of(content: bytes) -> bytes:
    """Return the 16-byte BLAKE2b digest of a line or a block."""
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()


def index_row(
    key: bytes, line: bytes, *, arrival: int, weight: float = 1.0, flags: int = 0
) -> bytes:
    """Return a row's record in the index.

    Args:
        key: See `engine.rows.row_key`.
        line: The row's line, with its newline.
        arrival: Orders the rows by when they came.
        weight: What weighted draws give it.
        flags: `HAS_EXPECTED` and `IS_VALIDATION`, together.
    """
    return _INDEX_ROW.pack(key, digest_of(line), arrival, len(line), weight, flags)


def read_index(content: bytes | bytearray) -> IndexArray:
    """Return the index in *content*, an `INDEX_ROW` a row.

    Raises:
        ChangedBytesError: It is no whole number of records.
    """
    if len(content) % INDEX_ROW.itemsize:
        raise ChangedBytesError(f"an index of {len(content)} bytes ends within a row")
    return np.frombuffer(content, dtype=INDEX_ROW)


class BlockTableWriter:
    """Writes the table of blocks while the lines are written."""

    def __init__(self) -> None:
        self._table = bytearray()
        self._hash = hashlib.blake2b(digest_size=DIGEST_BYTES)
        self._rows = 0
        self._start = self._first_row = 0
        self.size_bytes = 0

    def add(self, line: bytes) -> None:
        """Count the next line in."""
        self._hash.update(line)
        self._rows += 1
        self.size_bytes += len(line)
        if self._rows == BLOCK_ROWS or self.size_bytes - self._start >= BLOCK_BYTES:
            self._close()

    def finish(self) -> bytes:
        """Return the table."""
        if self._rows:
            self._close()
        return bytes(self._table)

    def _close(self) -> None:
        self._table += _BLOCK.pack(self._start, self._first_row, self._hash.digest())
        self._hash = hashlib.blake2b(digest_size=DIGEST_BYTES)
        self._first_row += self._rows
        self._rows, self._start = 0, self.size_bytes


class BlockTable:
    """Where a snapshot's blocks are, and what their bytes must be.

    Args:
        table: From `BlockTableWriter`.
        size_bytes: Of all the lines.
    """

    def __init__(self, table: bytes, size_bytes: int) -> None:
        self._blocks = list(_BLOCK.iter_unpack(table))
        self._size_bytes = size_bytes

    def __len__(self) -> int:
        return len(self._blocks)

    def range_of(self, number: int) -> tuple[int, int]:
        """Return a block's first byte and its length."""
        start = self._blocks[number][0]
        end = self._blocks[number + 1][0] if number + 1 < len(self._blocks) else self._size_bytes
        return start, end - start

    def first_row_of(self, number: int) -> int:
        """Return the position of a block's first row."""
        first: int = self._blocks[number][1]
        return first

    def holding_row(self, position: int) -> int:
        """Return the block that the row at *position* lies in."""
        return bisect_right(self._blocks, position, key=itemgetter(1)) - 1

    def holding(self, start: int, end: int) -> range:
        """Return the blocks that the bytes from *start* up to *end* lie in."""
        first = bisect_right(self._blocks, start, key=itemgetter(0)) - 1
        last = bisect_left(self._blocks, end, key=itemgetter(0))
        return range(max(first, 0), last)

    def check(self, number: int, content: bytes) -> None:
        """Check that *content* is what the block was stored with.

        Raises:
            ChangedBytesError: It is not.
        """
        if digest_of(content) != self._blocks[number][2]:
            raise ChangedBytesError(f"block {number} of the snapshot is not as it was stored")


def lines_at(
    content: bytes, first_row: int, positions: Sequence[int]
) -> Iterator[tuple[int, bytes]]:
    """Yield the lines at *positions*, which lie in one block, without their newlines.

    Args:
        content: The block.
        first_row: The position of its first row.
        positions: Of the rows in the snapshot, from 0.
    """
    lines = content.split(b"\n")
    for position in positions:
        yield position, lines[position - first_row]
