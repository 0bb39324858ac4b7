"""Which runs have calls under way in this process, and how many."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID


class RunsUnderWay:
    """Counts the calls of each run from when they may be made until their results are stored."""

    def __init__(self) -> None:
        self._counts: Counter[UUID] = Counter()

    @contextmanager
    def one_more(self, run_id: UUID) -> Iterator[None]:
        """Count a call while the block runs."""
        self._counts[run_id] += 1
        try:
            yield
        finally:
            self._counts[run_id] -= 1
            if not self._counts[run_id]:
                del self._counts[run_id]

    def count(self, run_id: UUID) -> int:
        """Return how many calls of a run there are."""
        return self._counts[run_id]
