"""Texts that are too many for memory, kept in a file while they are compared."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np


class TextFile:
    """Texts in a file, each found by its number.

    Args:
        path: Of the file, which is made.
        capacity: So many texts at most.
    """

    def __init__(self, path: Path, capacity: int) -> None:
        self._file = path.open("w+b")
        self._ends = np.zeros(capacity + 1, np.int64)
        self.count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, texts: Sequence[str]) -> None:
        """Write texts behind those that are there."""
        self._file.seek(0, 2)
        for content in (each.encode() for each in texts):
            self._file.write(content)
            self.count += 1
            self._ends[self.count] = self._ends[self.count - 1] + len(content)

    def read(self, number: int) -> str:
        """Return a text."""
        start, end = int(self._ends[number]), int(self._ends[number + 1])
        self._file.seek(start)
        return self._file.read(end - start).decode()
