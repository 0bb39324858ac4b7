"""Near-duplicates among texts: MinHash bands to find candidates, true similarity to decide.

The similarity of two texts is the Jaccard similarity of their shingles, which are all runs of
three words of the folded text; a text of fewer words is one shingle. So texts that are equal
but for letter case and white space have similarity 1, and in a script that doesn't part its words
by spaces only equal texts are found.

Texts are not held in memory. What is held of each is its band keys, 128 bytes, which a caller may
keep in a file (`numpy.memmap`), and while searching 68 bytes more. A text is asked for again
when it is to be compared.

Two texts are compared when they share a band. A band is 6 of 96 MinHash values, each of which
two texts share with a chance equal to their similarity s. So with 16 bands a pair is compared
with a chance of 1 - (1 - s^6)^16: 0.865 at similarity 0.7, 0.992 at 0.8, 0.99999 at 0.9, and 0.22
at 0.5, where the comparison is for nothing. Equal texts share all bands. What is found is near,
always: the texts themselves are compared.

Source: J. Leskovec, A. Rajaraman and J. D. Ullman, "Mining of Massive Datasets", sections 3.2 to
3.4; the sketch: S. Dahlgaard, M. B. T. Knudsen and M. Thorup, "Fast Similarity Sketching",
FOCS 2017, as the library has it.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from rensa import RMinHash  # type: ignore[import-untyped]

from engine.band_chains import (
    BAND_COUNT,
    BandKeys,
    chain_across,
    chain_within,
    hash_together,
)
from engine.canonical import fold_text

MAX_COMPARED = 32
"""So many candidates a row is compared with: those that share most keys with it, then the first."""

_VALUES_PER_BAND = 6
_SEED = 42  # stored band keys and those of tomorrow must be of one seed
_SHINGLE_WORDS = 3
_ROWS_AT_ONCE = 1000
_CHARACTERS_AT_ONCE = 1_000_000  # their shingles take some twenty times as much memory
_CACHED_SHINGLES = 200_000  # of some 130 bytes each

Shingles = frozenset[str]


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """A row that is near to another.

    Attributes:
        index: The row.
        of_index: The row that it is near to.
        similarity: Their true Jaccard similarity, as a fraction.
    """

    index: int
    of_index: int
    similarity: float


def band_keys(texts: Sequence[str]) -> BandKeys:
    """Sketch texts: near texts are likely to have the same key in at least one of the columns.

    The keys of a text depend on it alone and are the same for ever, so texts can be sketched
    in any batches, when they arrive, and the keys stored.

    Args:
        texts: The texts, without unpaired surrogates.

    Returns:
        Shape (n, 16).

    Raises:
        UnicodeEncodeError: A text holds an unpaired surrogate.
    """
    keys = np.empty((len(texts), BAND_COUNT), np.uint64)
    for rows in _few_at_once(texts):
        sketches = RMinHash.digest_matrix_from_token_sets(
            [list(_shingles(text)) for text in texts[rows]], BAND_COUNT * _VALUES_PER_BAND, _SEED
        )
        values = np.array(sketches.to_rows(), np.uint64)
        keys[rows] = hash_together(values.reshape(-1, BAND_COUNT, _VALUES_PER_BAND))
    return keys


def _few_at_once(texts: Sequence[str]) -> Iterator[slice]:
    """Yield the texts in slices whose shingles memory has room for."""
    start = characters = 0
    for end, text in enumerate(texts, start=1):
        characters += len(text)
        if end - start == _ROWS_AT_ONCE or characters >= _CHARACTERS_AT_ONCE:
            yield slice(start, end)
            start, characters = end, 0
    if start < len(texts):
        yield slice(start, len(texts))


def find_near_duplicates(
    bands: BandKeys, read_text: Callable[[int], str], *, threshold: float
) -> Iterator[NearDuplicate]:
    """Find the rows to drop so that no two of those that are kept are near.

    Rows are taken in order. A row is dropped when it is near to an earlier row that is kept,
    and names the most similar one, of several the first. What is found depends on the texts, their
    order and the threshold alone.

    The work per row is bounded by `MAX_COMPARED`, and by `MAX_PER_BAND` of `band_chains`. Where
    very many rows are alike in part and yet not near, as with one long prompt around short
    inputs, these bounds may hide a near-duplicate that isn't equal.

    Args:
        bands: Shape (n, 16): what `band_keys` said of each row.
        read_text: Gives the text of a row; asked only for rows that share a band.
        threshold: From which similarity rows are near, as a fraction, more than 0.

    Returns:
        The rows to drop, in order. They are looked for as the iterator is read.

    Raises:
        ValueError: `threshold` is out of range, or `bands` is not of that shape and type.
    """
    _check_threshold(threshold)
    _check_bands(bands)
    return _drop_in_order(bands, _ShingleCache(read_text), threshold)


def find_pairs_across(
    bands_a: BandKeys,
    read_a: Callable[[int], str],
    bands_b: BandKeys,
    read_b: Callable[[int], str],
    *,
    threshold: float,
) -> Iterator[NearDuplicate]:
    """Find the rows of one set that are near to some row of another.

    Each names the most similar row of the other set, of several the first. The bounds are those of
    `find_near_duplicates`.

    Args:
        bands_a: Shape (n, 16): what `band_keys` said of each row of the first set.
        read_a: Gives the text of a row of the first set.
        bands_b: Shape (m, 16), of the second set.
        read_b: Gives the text of a row of the second set.
        threshold: From which similarity rows are near, as a fraction, more than 0.

    Returns:
        Rows of the first set in order, with `of_index` in the second. They are looked for as
        the iterator is read.

    Raises:
        ValueError: `threshold` is out of range, or `bands_a` or `bands_b` is not of that shape
            and type.
    """
    _check_threshold(threshold)
    _check_bands(bands_a)
    _check_bands(bands_b)
    return _match_across(bands_a, read_a, bands_b, _ShingleCache(read_b), threshold)


def _check_threshold(threshold: float) -> None:
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be more than 0 and at most 1, not {threshold}")


def _check_bands(bands: BandKeys) -> None:
    if bands.shape != (len(bands), BAND_COUNT) or bands.dtype != np.uint64:
        raise ValueError(
            f"bands must be of shape (n, {BAND_COUNT}) and type uint64, "
            f"not {bands.shape} and {bands.dtype}"
        )


def _drop_in_order(
    bands: BandKeys, cache: "_ShingleCache", threshold: float
) -> Iterator[NearDuplicate]:
    chains = chain_within(bands)
    for row in chains.rows_with_earlier():
        own_chains = chains.find(row)
        candidates = _pick(chains.members(own_chains), bands, bands[row])
        found = _most_similar(cache.shingles_of(row), candidates, cache, threshold)
        if found is None:
            chains.append(row, own_chains)
        else:
            chains.exclude(row)
            yield NearDuplicate(row, *found)


def _match_across(
    bands_a: BandKeys,
    read_a: Callable[[int], str],
    bands_b: BandKeys,
    cache: "_ShingleCache",
    threshold: float,
) -> Iterator[NearDuplicate]:
    offset = len(bands_b)
    chains = chain_across(bands_a, bands_b)
    for row in chains.rows_with_earlier(offset):
        index = row - offset
        candidates = _pick(chains.members(chains.find(row)), bands_b, bands_a[index])
        if not candidates:
            continue
        found = _most_similar(_shingles(read_a(index)), candidates, cache, threshold)
        if found is not None:
            yield NearDuplicate(index, *found)


def _shingles(text: str) -> Shingles:
    words = fold_text(text).split(" ")
    if len(words) <= _SHINGLE_WORDS:
        return frozenset([" ".join(words)])
    shifted = (words[start:] for start in range(_SHINGLE_WORDS))
    return frozenset(map(" ".join, zip(*shifted, strict=False)))


def _pick(candidates: list[int], bands: BandKeys, own: BandKeys) -> list[int]:
    """Pick at most `MAX_COMPARED` candidates: those that share most bands, then the first."""
    if len(candidates) <= MAX_COMPARED:
        return candidates
    shared = (bands[candidates] == own).sum(axis=1)
    return [candidates[place] for place in np.argsort(-shared, kind="stable")[:MAX_COMPARED]]


def _most_similar(
    own: Shingles, candidates: Iterable[int], cache: "_ShingleCache", threshold: float
) -> tuple[int, float] | None:
    """Return the nearest candidate, if any is near, and its similarity.

    Args:
        own: The shingles of the row that is to be compared.
        candidates: Rows, in order at least as far as they share all bands, as equal texts do.
        cache: Where to find the candidates' shingles.
        threshold: From which similarity they are near.
    """
    best: tuple[int, float] | None = None
    for candidate in candidates:
        similarity = _jaccard(own, cache.shingles_of(candidate))
        if similarity < threshold:
            continue
        if best is None or (-similarity, candidate) < (-best[1], best[0]):
            best = candidate, similarity
        if similarity == 1:
            break
    return best


def _jaccard(one: Shingles, other: Shingles) -> float:
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


class _ShingleCache:
    """The shingles of rows that were asked for lately."""

    def __init__(self, read_text: Callable[[int], str]) -> None:
        self._read_text = read_text
        self._kept: OrderedDict[int, Shingles] = OrderedDict()
        self._count = 0

    def shingles_of(self, row: int) -> Shingles:
        """Return a row's shingles, and forget those asked for longest ago if they grow many."""
        known = self._kept.get(row)
        if known is not None:
            self._kept.move_to_end(row)
            return known
        shingles = self._kept[row] = _shingles(self._read_text(row))
        self._count += len(shingles)
        while self._count > _CACHED_SHINGLES:
            _, forgotten = self._kept.popitem(last=False)
            self._count -= len(forgotten)
        return shingles
