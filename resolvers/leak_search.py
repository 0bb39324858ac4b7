"""Looking for training rows that are near to a validation row, of a snapshot too large for memory.

All of it computes or waits for a disk, and belongs in a thread.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import compress
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import orjson
from numpy.typing import NDArray

from engine.band_chains import BAND_COUNT
from engine.canonical import canonical_json
from engine.near_duplicates import NearDuplicate, band_keys, find_pairs_across
from engine.snapshot_format import IS_VALIDATION, IndexArray
from resolvers.text_files import TextFile

NO_DIGEST: Final = "0" * 64


class LeakSearch:
    """Takes a snapshot's rows in order, and then writes which leak.

    Of a row 40 bytes are held in memory, and 68 more while it is compared; the rest is in files.

    Args:
        directory: For its files.
        index: The snapshot's.
    """

    def __init__(self, directory: Path, index: IndexArray) -> None:
        self._is_validation: NDArray[np.bool_] = (index["flags"] & IS_VALIDATION) != 0
        self._keys = index["key"].copy()  # the rest of the index is not needed
        self._files = ExitStack()
        self._train = _Side(directory, "train", ~self._is_validation, self._files)
        self._validation = _Side(directory, "validation", self._is_validation, self._files)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def add(self, first: int, lines: bytes) -> None:
        """Take the next rows.

        Args:
            first: The position of the first of them.
            lines: One after the other, each with its newline.
        """
        rows = [orjson.loads(line) for line in lines.splitlines()]
        is_validation = self._is_validation[first : first + len(rows)]
        self._validation.add(list(compress(rows, is_validation)))
        self._train.add(list(compress(rows, ~is_validation)))

    def write(self, path: Path, threshold: float) -> None:
        """Write the leaks, a line each, behind a line of figures, behind the digest of both."""
        digest = hashlib.sha256()
        with path.open("wb") as file:
            file.write(_digest_line(NO_DIGEST))
            for line in self._lines(threshold):
                digest.update(line)
                file.write(line)
            file.seek(0)
            file.write(_digest_line(digest.hexdigest()))

    def _lines(self, threshold: float) -> Iterator[bytes]:
        figures = {
            "threshold": threshold,
            "train_row_count": self._train.row_count,
            "validation_row_count": self._validation.row_count,
        }
        yield canonical_json(figures) + b"\n"
        pairs = find_pairs_across(
            self._train.bands,
            self._train.texts.read,
            self._validation.bands,
            self._validation.texts.read,
            threshold=threshold,
        )
        yield from map(self._leak_line, pairs)

    def _leak_line(self, pair: NearDuplicate) -> bytes:
        leak = {
            "train": self._named(self._train, pair.index),
            "validation": self._named(self._validation, pair.of_index),
            "similarity": round(pair.similarity, 6),
        }
        return canonical_json(leak) + b"\n"

    def _named(self, side: "_Side", number: int) -> dict[str, Any]:
        position = int(side.positions[number])
        return {
            "position": position,
            "key": self._keys[position].tobytes().hex(),
            "id": side.ids.read(number) or None,
        }


def _digest_line(digest: str) -> bytes:
    return canonical_json({"sha256": digest}) + b"\n"


class _Side:
    """The rows of one side, known by their number among them."""

    def __init__(
        self, directory: Path, name: str, is_on_it: NDArray[np.bool_], files: ExitStack
    ) -> None:
        self.positions = np.flatnonzero(is_on_it).astype(np.int32)
        self.row_count = len(self.positions)
        self._bands: NDArray[np.uint64] = np.memmap(
            directory / f"{name}-bands",
            dtype=np.uint64,
            mode="w+",
            shape=(max(self.row_count, 1), BAND_COUNT),  # no file is of no bytes
        )
        self.texts = files.enter_context(TextFile(directory / f"{name}-texts", self.row_count))
        self.ids = files.enter_context(TextFile(directory / f"{name}-ids", self.row_count))

    @property
    def bands(self) -> NDArray[np.uint64]:
        """The band keys of the rows."""
        return self._bands[: self.row_count]

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take the next rows of this side."""
        inputs = [row["input"] for row in rows]
        start = self.texts.count
        self._bands[start : start + len(rows)] = band_keys(inputs)
        self.texts.add(inputs)
        self.ids.add([row.get("id", "") for row in rows])
