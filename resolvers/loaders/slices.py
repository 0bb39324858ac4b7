"""The loader behind connections: a slice of each parent's list, in one statement."""

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar
from uuid import UUID

from sqlalchemy import ARRAY, Select, Uuid, func, literal, select, true
from sqlalchemy.orm import aliased
from typing_extensions import override

from db.session import ReadSession
from resolvers.loaders.base import Loader
from resolvers.paging import AnySelect, Page, PageRequest, cut_page, slice_statement

T = TypeVar("T")

SliceKey = tuple[UUID, PageRequest, Any]


class SliceByParent(Loader[SliceKey, Page[T]], Generic[T]):
    """Answers (parent id, slice, filter) with a page of the parent's children.

    Parents that ask for the same slice, as those of one field do, share one
    statement: a lateral subquery for each, which stops at the slice's end.
    """

    entity: ClassVar[Any]
    parent_column: ClassVar[str]

    @abstractmethod
    def children(self, where: Any) -> AnySelect:
        """Return the statement for all children that *where* admits, of whichever parent."""

    def options(self, entity: Any) -> Sequence[Any]:
        """Return loading options, such as which wide columns to leave out."""
        del entity
        return ()

    @override
    async def fetch(
        self, session: ReadSession, keys: Sequence[SliceKey]
    ) -> Mapping[SliceKey, Page[T]]:
        parents_of: dict[tuple[PageRequest, Any], list[UUID]] = defaultdict(list)
        for parent_id, request, where in keys:
            parents_of[request, where].append(parent_id)
        pages: dict[SliceKey, Page[T]] = {}
        for (request, where), parents in parents_of.items():
            rows_of: dict[UUID, list[T]] = {parent: [] for parent in parents}
            for parent, row in await session.execute(self._statement(request, where, parents)):
                rows_of[parent].append(row)
            for parent, rows in rows_of.items():
                pages[parent, request, where] = cut_page(rows, request)
        return pages

    def _statement(
        self, request: PageRequest, where: Any, parents: Sequence[UUID]
    ) -> Select[UUID, T]:
        asked = (
            func.unnest(literal(list(parents), ARRAY(Uuid())))
            .table_valued("parent_id")
            .render_derived()
        )
        inner = self.children(where).where(
            getattr(self.entity, self.parent_column) == asked.c.parent_id
        )
        lateral = slice_statement(inner, self.entity, request).correlate(asked).lateral()
        child = aliased(self.entity, lateral)
        return select(asked.c.parent_id, child).join(child, true()).options(*self.options(child))

    @override
    def absent(self, key: SliceKey) -> Page[T]:
        return Page(rows=[], order=key[1].order)
