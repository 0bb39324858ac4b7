"""Which rows share a band key, for a million rows in little memory."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

BAND_COUNT = 16
MAX_PER_BAND = 32
"""Only so many of the rows that share a key, the first ones, are candidates for the others."""

_ROWS_AT_ONCE = 1000
_ODD_CONSTANT = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: spreads bits well

BandKeys = NDArray[np.uint64]


class BandChains:
    """The candidates that share a key, for each key of each column, in order.

    They are threaded through one table of links, because a million lists would fill gigabytes. A
    row that has not been taken yet links to the first row with its key, where the chain begins;
    a row of a chain links to the next one, and the last to itself. Only the first row may be in a
    chain although it is excluded.
    """

    def __init__(self, links: NDArray[np.int32], *, candidates: int) -> None:
        """Take a table of shape (n, 17), which will be changed, and how many rows are candidates.

        Those are the first ones.
        """
        self._table = links
        self._links = links.data  # reads one number faster than an array does
        self._is_excluded = bytearray(candidates) + b"\x01" * (len(links) - candidates)

    def rows_with_earlier(self, start: int = 0) -> Iterator[int]:
        """Yield the rows from *start* that share a key with an earlier row, in order."""
        rows = np.arange(start, len(self._table), dtype=np.int32)
        has_earlier = np.zeros(len(rows), np.bool_)
        for column in range(self._table.shape[1]):
            has_earlier |= self._table[start:, column] != rows
        return map(int, rows[has_earlier])

    def find(self, row: int) -> dict[int, list[int]]:
        """Return a row's chains, by column, of the columns where it has an earlier row."""
        columns = range(self._table.shape[1])
        return {
            column: self._follow(row, column)
            for column in columns
            if self._links[row, column] != row
        }

    def members(self, chains: dict[int, list[int]]) -> list[int]:
        """Return the candidates in these chains, in order."""
        rows = sorted(set().union(*chains.values()))
        return [row for row in rows if not self._is_excluded[row]]

    def append(self, row: int, chains: dict[int, list[int]]) -> None:
        """Make a row a candidate for later ones, but for those chains that have enough."""
        for column, chain in chains.items():
            self._links[row, column] = row
            if len(chain) < MAX_PER_BAND:
                self._links[chain[-1], column] = row

    def exclude(self, row: int) -> None:
        """Make sure that a row is nobody's candidate."""
        self._is_excluded[row] = True

    def _follow(self, row: int, column: int) -> list[int]:
        member = self._links[row, column]
        chain = [member]
        while (following := self._links[member, column]) != member:
            chain.append(following)
            member = following
        return chain


def chain_within(bands: BandKeys) -> BandChains:
    """Chain the rows of one set: so far each is a candidate only if it is the first with a key.

    Args:
        bands: Shape (n, 16).

    Returns:
        Chains to which later rows are appended as they turn out to be candidates.
    """
    links = _empty_links(len(bands))
    for column, keys in enumerate(_iter_columns(bands)):
        links[:, column] = _first_alike(keys)
    return BandChains(links, candidates=len(bands))


def chain_across(bands_a: BandKeys, bands_b: BandKeys) -> BandChains:
    """Chain the rows of a second set, to find candidates for those of a first.

    Args:
        bands_a: Shape (n, 16), of the first set.
        bands_b: Shape (m, 16), of the second set.

    Returns:
        Chains of m + n rows: first those of the second set, all of them candidates, then those
        of the first, of which none is.
    """
    offset = len(bands_b)
    links = _empty_links(offset + len(bands_a))
    columns = zip(_iter_columns(bands_a), _iter_columns(bands_b), strict=True)
    for column, (keys_a, keys_b) in enumerate(columns):
        links[:offset, column] = _next_alike(keys_b)
        links[offset:, column] = _first_alike(np.concatenate([keys_b, keys_a]))[offset:]
    return BandChains(links, candidates=offset)


def hash_together(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hash the numbers along the last axis to one, in integer arithmetic that wraps around."""
    hashes = np.full(values.shape[:-1], _ODD_CONSTANT)
    for place in range(values.shape[-1]):
        hashes = (hashes ^ values[..., place]) * _ODD_CONSTANT
        hashes ^= hashes >> np.uint64(32)
    return hashes


def _iter_columns(bands: BandKeys) -> Iterator[NDArray[np.uint64]]:
    """Yield each band's keys, and last a key of all bands, by which equal texts meet.

    However crowded their bands are, equal texts are so found among the first candidates.
    """
    for band in range(BAND_COUNT):
        yield np.ascontiguousarray(bands[:, band])
    whole = np.empty(len(bands), np.uint64)
    for start in range(0, len(bands), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        whole[rows] = hash_together(bands[rows])
    yield whole


def _empty_links(row_count: int) -> NDArray[np.int32]:
    return np.empty((row_count, BAND_COUNT + 1), np.int32)


def _group(keys: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sort rows by key.

    Returns:
        The rows, those with one key in order, and for each the place in this list where the
        rows with its key begin.
    """
    rows = np.argsort(keys, kind="stable")
    ordered = keys[rows]
    starts = np.arange(len(rows))
    starts[1:][ordered[1:] == ordered[:-1]] = 0
    return rows, np.maximum.accumulate(starts)


def _first_alike(keys: NDArray[np.uint64]) -> NDArray[np.int32]:
    """Give each row the first row with the same key, which may be itself."""
    rows, starts = _group(keys)
    first = np.empty(len(rows), np.int32)
    first[rows] = rows[starts]
    return first


def _next_alike(keys: NDArray[np.uint64]) -> NDArray[np.int32]:
    """Give each of the first `MAX_PER_BAND` rows with one key the next of them, the last itself."""
    rows, starts = _group(keys)
    following = np.arange(len(rows), dtype=np.int32)
    places = np.arange(1, len(rows))
    is_linked = (starts[1:] == starts[:-1]) & (places - starts[:-1] < MAX_PER_BAND)
    following[rows[:-1][is_linked]] = rows[1:][is_linked]
    return following
