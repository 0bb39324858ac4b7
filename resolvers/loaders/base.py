"""Batching: one statement per loader per tick, answers in the order of the keys."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Generic, TypeVar, cast
from uuid import UUID

from sqlalchemy import ARRAY, ColumnElement, any_, literal
from strawberry.dataloader import DataLoader

from db.session import Database, ReadSession

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
L = TypeVar("L", bound="Loader[Any, Any]")

# A batch becomes one array parameter; past this the planner's estimate degrades
# before the round trip is worth saving.
MAX_BATCH = 1_000

# Belongs to nobody: what an anonymous request's loaders look in.
NO_WORKSPACE = UUID(int=0)


def among(column: Any, keys: Sequence[Any]) -> ColumnElement[bool]:
    """Return the condition that *column* is one of *keys*.

    The keys are one array parameter, so that the statement, and its plan, stay
    the same however many there are.
    """
    return column == any_(literal(list(keys), ARRAY(column.type)))  # type: ignore[no-any-return]


class Loader(ABC, Generic[K, V]):
    """Answers one question for many keys at once, within one workspace.

    A subclass says how to fetch and what an absent key means; ordering,
    de-duplication and the session are handled here.
    """

    def __init__(self, database: Database, workspace_id: UUID | None) -> None:
        self._database = database
        self._batch: DataLoader[K, V] = DataLoader(self._load, max_batch_size=MAX_BATCH)
        self.workspace_id = workspace_id or NO_WORKSPACE

    async def load(self, key: K) -> V:
        """Return the answer for *key*, batched with its siblings."""
        return await self._batch.load(key)

    def prime(self, key: K, value: V) -> None:
        """Remember an answer that is already known."""
        self._batch.prime(key, value)

    async def _load(self, keys: list[K]) -> list[V]:
        async with self._database.read() as session:
            found = await self.fetch(session, keys)
        return [found[key] if key in found else self.absent(key) for key in keys]

    @abstractmethod
    async def fetch(self, session: ReadSession, keys: Sequence[K]) -> Mapping[K, V]:
        """Return what exists for *keys* in one statement, in any order."""

    @abstractmethod
    def absent(self, key: K) -> V:
        """Return what a key with no row stands for."""


class Loaders:
    """The request's loaders, built on first use."""

    def __init__(self, database: Database, workspace_id: UUID | None) -> None:
        self._database = database
        self._workspace_id = workspace_id
        self._built: dict[type[Loader[Any, Any]], Loader[Any, Any]] = {}

    def get(self, kind: type[L]) -> L:
        """Return this request's one instance of *kind*."""
        if kind not in self._built:
            self._built[kind] = kind(self._database, self._workspace_id)
        return cast("L", self._built[kind])
