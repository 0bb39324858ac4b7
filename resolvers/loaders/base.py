"""Batching: one statement per loader for any number of keys, answers in the order of the keys."""

import asyncio
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Generic, TypeVar, cast
from uuid import UUID

from sqlalchemy import ARRAY, ColumnElement, any_, bindparam
from strawberry.dataloader import DataLoader

from db.records import Row
from db.session import Database
from resolvers.columns import Columns, kept_query
from resolvers.paging import AnySelect

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
L = TypeVar("L", bound="Loader[Any, Any]")

# A batch becomes one array parameter; past this the planner's estimate degrades
# before the round trip is worth saving.
MAX_BATCH = 1_000

# Belongs to nobody: what an anonymous request's loaders look in.
NO_WORKSPACE = UUID(int=0)


def among_keys(column: Any) -> ColumnElement[bool]:
    """Return the condition that *column* is one of the parameter `keys`, which is an array.

    The statement, and its plan, stay the same however many there are.
    """
    return column == any_(bindparam("keys", type_=ARRAY(column.type)))  # type: ignore[no-any-return]


def own_workspace(column: Any) -> ColumnElement[bool]:
    """Return the condition that a row belongs to the loader's workspace."""
    return column == bindparam("workspace_id", type_=column.type)  # type: ignore[no-any-return]


class Loader(ABC, Generic[K, V]):
    """Answers one question for many keys at once, within one workspace.

    A subclass says how to fetch and what an absent key means; ordering,
    de-duplication and memory are handled here. None as a key stands for nothing,
    and is answered None.

    Attributes:
        write: Returns the statement for a shape; `workspace_id`, `oldest_trace_id` and what
            `fetch` passes are its parameters.
    """

    write: ClassVar[Callable[..., AnySelect]]

    def __init__(
        self, database: Database, workspace_id: UUID | None, oldest_trace_id: UUID
    ) -> None:
        self._database = database
        self._oldest_trace_id = oldest_trace_id
        self._batches: dict[Columns, DataLoader[K, V]] = {}
        self._known: dict[Columns, dict[K, V]] = defaultdict(dict)
        self._fetching: dict[Columns, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.workspace_id = workspace_id or NO_WORKSPACE

    async def load(self, key: K, columns: Columns = None) -> V:
        """Return the answer for *key*, batched with whoever else asks in this tick."""
        batch = self._batches.get(columns)
        if batch is None:
            load = partial(self._load, columns)
            batch = self._batches[columns] = DataLoader(load, max_batch_size=MAX_BATCH)
        return await batch.load(key)

    async def load_many(self, keys: Sequence[K | None], columns: Columns = None) -> list[V]:
        """Return the answers for *keys*, in one statement for those not known yet."""
        known = self._known[columns]
        # Whoever asks meanwhile waits, and finds the answers: no key is fetched twice.
        async with self._fetching[columns]:
            missing = [key for key in dict.fromkeys(keys) if key is not None and key not in known]
            for start in range(0, len(missing), MAX_BATCH):
                batch = missing[start : start + MAX_BATCH]
                found = await self.fetch(batch, columns)
                for key in batch:
                    known[key] = found[key] if key in found else self.absent(key)
        return [None if key is None else known[key] for key in keys]  # type: ignore[misc]

    async def _load(self, columns: Columns, keys: list[K]) -> list[V]:
        return await self.load_many(keys, columns)

    async def rows(self, *shape: Hashable, **values: Any) -> list[Row]:
        """Run the statement that `write(*shape)` makes, within the workspace."""
        query = kept_query(self.write, *shape)
        own = {"workspace_id": self.workspace_id, "oldest_trace_id": self._oldest_trace_id}
        return await self._database.fetch(query, **own, **values)

    @abstractmethod
    async def fetch(self, keys: Sequence[K], columns: Columns) -> Mapping[K, V]:
        """Return what exists for *keys* in one statement, in any order."""

    @abstractmethod
    def absent(self, key: K) -> V:
        """Return what a key with no row stands for."""


class Loaders:
    """The request's loaders, built on first use."""

    def __init__(
        self, database: Database, workspace_id: UUID | None, oldest_trace_id: UUID
    ) -> None:
        self._database = database
        self._workspace_id = workspace_id
        self._oldest_trace_id = oldest_trace_id
        self._built: dict[type[Loader[Any, Any]], Loader[Any, Any]] = {}

    def get(self, kind: type[L]) -> L:
        """Return this request's one instance of *kind*."""
        if kind not in self._built:
            self._built[kind] = kind(self._database, self._workspace_id, self._oldest_trace_id)
        return cast("L", self._built[kind])
