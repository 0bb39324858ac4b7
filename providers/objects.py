"""What object storage looks like from inside: a Protocol, and what it gives and raises."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object that a listing found."""

    key: str
    size_bytes: int
    modified_at: datetime


class ObjectStore(Protocol):
    """Keeps immutable objects, each under a key that its content makes.

    The same key is always the same bytes, so nothing is ever overwritten by anything else, and
    what has been read may be kept. Every method but `list_keys` takes a key, and raises ValueError
    for one that `providers.object_store.check_key` refuses.
    """

    async def put_file(self, key: str, path: Path) -> bool:
        """Store the file at *path* under *key*, unless there is such an object already.

        Once this returns, a crash or a power cut takes nothing back. If it does not return, there
        is either the whole object or none.

        Args:
            key: Where to.
            path: A file that nobody writes to any more; its size does not matter for memory.

        Returns:
            True when it was made by this call, False when it was there. A store over the network
            may say False as well when the answer to a first try was lost, and may say True to
            two processes that put one large object at once: both have put the same bytes.

        Raises:
            ObjectError: It can't be stored.
            OSError: *path* can't be opened.
        """
        ...

    async def read_range(self, key: str, start: int, length: int) -> bytes:
        """Return exactly *length* bytes from *start*; an empty range is not asked for.

        Raises:
            ObjectMissingError: There is no such object.
            ObjectError: The object ends before, or can't be read.
            ValueError: *start* or *length* is negative.
        """
        ...

    async def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of each (start, length), in that order.

        Ranges that lie close together are fetched in one request, and others at the same time.

        Raises:
            ObjectMissingError: There is no such object.
            ObjectError: The object ends before one of them does, or can't be read.
            ValueError: A start or a length is negative.
        """
        ...

    def stream(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Yield the bytes from *start* up to *end*, or to the last, in chunks of bounded size.

        A chunk is fetched when it is asked for, so a slow reader holds no connection.

        Raises:
            ObjectMissingError: There is no such object, or no longer.
            ObjectError: The object ends before *end*, or can't be read.
            ValueError: *start* is negative, or after *end*.
        """
        ...

    async def size_of(self, key: str) -> int:
        """Return the object's size in bytes.

        Raises:
            ObjectMissingError: There is no such object.
            ObjectError: The store can't be asked.
        """
        ...

    async def delete(self, key: str) -> None:
        """Delete the object, or find that it is gone.

        Raises:
            ObjectError: It can't be deleted.
        """
        ...

    def list_keys(self, prefix: str = "") -> AsyncIterator[StoredObject]:
        """Yield the objects whose key begins with *prefix*, in no order.

        Args:
            prefix: Whole segments of keys: `a` finds `a/b`, not `ab`. Left out, it finds all.

        Raises:
            ObjectError: The store can't be listed.
            ValueError: No key can begin with *prefix*.
        """
        ...


class ObjectError(Exception):
    """A stored object can't be used; the message names it, and never a credential.

    Attributes:
        is_retryable: The same call may succeed later.
    """

    def __init__(self, message: str, *, is_retryable: bool = False) -> None:
        super().__init__(message)
        self.is_retryable = is_retryable


class ObjectMissingError(ObjectError):
    """There is no object under that key."""
