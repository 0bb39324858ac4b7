"""Keeping what was read for as long as nobody changes it, and not a moment longer."""

from collections import defaultdict
from collections.abc import Collection, Hashable
from typing import Generic, TypeVar

from db.changes import ChangeFeed

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class ChangeCache(Generic[K, V]):
    """Remembers values that are forgotten as soon as what they rest on changes.

    While changes can't be heard it remembers nothing, and gives nothing.

    Args:
        feed: Tells of changes.
        max_entries: Remembered at most; then all are forgotten.
    """

    def __init__(self, feed: ChangeFeed, *, max_entries: int) -> None:
        self._feed = feed
        self._max_entries = max_entries
        self._values: dict[K, V] = {}
        self._keys_of: dict[str, set[K]] = defaultdict(set)
        feed.subscribers.append(self._forget)

    def find(self, key: K) -> V | None:
        """Return what is remembered under *key* and still holds."""
        return self._values.get(key) if self._feed.is_live() else None

    @property
    def now(self) -> int:
        """What `remember` has to be told: taken before the value was read."""
        return self._feed.count

    def remember(self, key: K, value: V, *, names: Collection[str], read_at: int) -> None:
        """Remember a value, unless something has changed since it was read.

        Args:
            key: To find it by.
            value: What was read.
            names: What it rests on, as the feed names it.
            read_at: What `now` was before it was read.
        """
        if not self._feed.is_live() or self._feed.count != read_at:
            return
        if len(self._values) >= self._max_entries:
            self._forget(None)
        self._values[key] = value
        for name in names:
            self._keys_of[name].add(key)

    def forget(self, key: K) -> None:
        """Forget what is remembered under *key*, for who has changed it and can't wait to hear."""
        self._values.pop(key, None)

    def _forget(self, name: str | None) -> None:
        if name is None:
            self._values.clear()
            self._keys_of.clear()
            return
        for key in self._keys_of.pop(name, ()):
            self._values.pop(key, None)
