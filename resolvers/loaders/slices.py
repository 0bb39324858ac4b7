"""The loaders behind connections: a slice of each parent's list, and the length of the list."""

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, bindparam, func, select, true
from typing_extensions import override

from db.records import Row
from resolvers.columns import Columns, read_columns
from resolvers.loaders.base import Loader, among_keys
from resolvers.paging import (
    AnySelect,
    Page,
    PageRequest,
    SliceShape,
    cut_page,
    slice_shape,
    slice_statement,
    slice_values,
)
from resolvers.where import Where

SliceKey = tuple[UUID, PageRequest, Where]
CountKey = tuple[UUID, Where]


class SliceByParent(Loader[SliceKey, Page[Row]]):
    """Answers (parent id, slice, filter) with a page of the parent's children.

    Parents that ask for the same slice, as those of one field do, share one
    statement: a lateral subquery for each, which stops at the slice's end.

    Attributes:
        entity: The children's row class.
        parent: The name of the column that names the parent.
    """

    entity: ClassVar[Any]
    parent: ClassVar[str]

    @classmethod
    @abstractmethod
    def children(cls, statement: AnySelect) -> AnySelect:
        """Narrow *statement* to the children that the workspace may see."""

    @override
    @classmethod
    def write(cls, columns: Columns, shape: SliceShape, where: Where) -> AnySelect:
        asked = (
            func.unnest(bindparam("parents", type_=ARRAY(Uuid())))
            .table_valued("parent_key", with_ordinality="parent_place")
            .render_derived()
        )
        own = read_columns(cls.entity, columns, always=("id", shape.order.column))
        inner = where.narrow(cls.children(select(*own)), cls.entity)
        inner = inner.where(getattr(cls.entity, cls.parent) == asked.c.parent_key)
        lateral = slice_statement(inner, cls.entity, shape).correlate(asked).lateral()
        return select(asked.c.parent_place, *lateral.c).join(lateral, true())

    async def load_pages(
        self, parents: Sequence[UUID], request: PageRequest, where: Where, columns: Columns
    ) -> list[Page[Row]]:
        """Return the same slice of each parent's list, in one statement."""
        asked = list(dict.fromkeys(parents))
        rows_of = await self.read_slices(asked, request, where, columns)
        pages = {
            parent: cut_page(rows, request) for parent, rows in zip(asked, rows_of, strict=True)
        }
        return [pages[parent] for parent in parents]

    async def read_slices(
        self, asked: Sequence[UUID], request: PageRequest, where: Where, columns: Columns
    ) -> list[list[Row]]:
        """Return the rows of each parent's slice, and one more where there are more."""
        values = {**slice_values(request), **where.values()}
        shape = (columns, slice_shape(request), where.shape())
        rows_of: list[list[Row]] = [[] for _ in asked]
        # A row says which parent it belongs to by a number, which is read and looked up sooner
        # than an id.
        for row in await self.rows(*shape, parents=asked, **values):
            rows_of[row[0] - 1].append(row)
        return rows_of

    @override
    async def fetch(
        self, keys: Sequence[SliceKey], columns: Columns
    ) -> Mapping[SliceKey, Page[Row]]:
        parents_of: dict[tuple[PageRequest, Where], list[UUID]] = defaultdict(list)
        for parent_id, request, where in keys:
            parents_of[request, where].append(parent_id)
        pages: dict[SliceKey, Page[Row]] = {}
        for (request, where), parents in parents_of.items():
            found = await self.load_pages(parents, request, where, columns)
            for parent, page in zip(parents, found, strict=True):
                pages[parent, request, where] = page
        return pages

    @override
    def absent(self, key: SliceKey) -> Page[Row]:
        return Page(rows=[], order=key[1].order)


class CountByParent(Loader[CountKey, int]):
    """How many children of a parent a filter admits; one statement for each filter.

    Attributes:
        slices: The loader of the children themselves.
    """

    slices: ClassVar[type[SliceByParent]]

    @override
    @classmethod
    def write(cls, where: Where) -> AnySelect:
        entity = cls.slices.entity
        parent = getattr(entity, cls.slices.parent)
        counted = select(parent.label("parent_key"), func.count().label("count"))
        statement = where.narrow(cls.slices.children(counted.select_from(entity)), entity)
        return statement.where(among_keys(parent)).group_by(parent)

    @override
    async def fetch(self, keys: Sequence[CountKey], columns: Columns) -> Mapping[CountKey, int]:
        parents_of: dict[Where, list[UUID]] = defaultdict(list)
        for parent_id, where in keys:
            parents_of[where].append(parent_id)
        found: dict[CountKey, int] = {}
        for where, parents in parents_of.items():
            for row in await self.rows(where.shape(), keys=parents, **where.values()):
                found[row["parent_key"], where] = row["count"]
        return found

    @override
    def absent(self, key: CountKey) -> int:
        return 0
