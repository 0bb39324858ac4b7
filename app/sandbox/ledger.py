"""What the sandbox remembers of the calls it got: counts, and which questions it has seen."""

from collections import Counter
from hashlib import blake2b
from typing import Any

REMEMBERED_MAX_COUNT = 200_000
"""Questions remembered at once: more than any test asks, and about 25 MB."""


class RecentCounts:
    """How often each (model, message) came, forgetting the oldest beyond a limit."""

    def __init__(self, max_count: int = REMEMBERED_MAX_COUNT) -> None:
        self._max_count = max_count
        self._counts: dict[bytes, int] = {}

    def add(self, called_as: str, text: str) -> int:
        """Count one more time and return how often it has been by now, from 1."""
        key = blake2b(f"{called_as}\n{text}".encode(errors="replace"), digest_size=16).digest()
        count = self._counts.get(key, 0) + 1
        self._counts[key] = count
        if len(self._counts) > self._max_count:
            del self._counts[next(iter(self._counts))]
        return count


class CallLedger:
    """The calls since the start or the last reset.

    A call is counted when it names a model or endpoint that exists, whatever
    becomes of it. An answer is counted when a completion goes out to a client
    that is still there: the one thing a provider would bill.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything, including which messages a `-once` fault has refused."""
        self._calls: Counter[str] = Counter()
        self._answers = RecentCounts()
        self._refusals = RecentCounts()
        self._answered_count = 0
        self._answered_more_than_once_count = 0

    def count_call(self, called_as: str) -> None:
        """Count a call to a model or endpoint."""
        self._calls[called_as] += 1

    def count_answer(self, called_as: str, text: str) -> None:
        """Count a completion that answered this message."""
        times = self._answers.add(called_as, text)
        self._answered_count += times == 1
        self._answered_more_than_once_count += times == 2  # noqa: PLR2004 - the second time

    def is_first_refusal(self, called_as: str, text: str) -> bool:
        """Tell, once for each message, that a `-once` fault is still to come."""
        return self._refusals.add(called_as, text) == 1

    def report(self) -> dict[str, Any]:
        """Return the counts, the answers by distinct (model, message)."""
        return {
            "calls": dict(self._calls),
            "answered": self._answered_count,
            "answered_more_than_once": self._answered_more_than_once_count,
        }
