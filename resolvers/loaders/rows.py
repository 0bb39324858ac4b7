"""The loaders that most nouns need: a row by its id, and the rows of a parent."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import ColumnElement, select
from sqlalchemy.dialects.postgresql import distinct_on
from typing_extensions import override

from db.records import Row
from resolvers.columns import Columns, read_columns
from resolvers.loaders.base import Loader, among_keys, own_workspace
from resolvers.paging import AnySelect


class RowByKey(Loader[UUID, Row | None]):
    """A row of one table by a column that is unique.

    Attributes:
        entity: The table's row class; it has a `workspace_id`.
        key: The column's name.
    """

    entity: ClassVar[Any]
    key: ClassVar[str] = "id"

    @classmethod
    def visible(cls) -> Sequence[ColumnElement[bool]]:
        """Return what else must hold of a row."""
        return ()

    @override
    @classmethod
    def write(cls, columns: Columns) -> AnySelect:
        return select(*read_columns(cls.entity, columns, always=("id", cls.key))).where(
            among_keys(getattr(cls.entity, cls.key)),
            own_workspace(cls.entity.workspace_id),
            *cls.visible(),
        )

    @override
    async def fetch(self, keys: Sequence[UUID], columns: Columns) -> Mapping[UUID, Row | None]:
        return {row[self.key]: row for row in await self.rows(columns, keys=keys)}

    @override
    def absent(self, key: UUID) -> Row | None:
        return None


class LatestByParent(RowByKey):
    """The newest row of each parent.

    Attributes:
        key: The parent's column.
        newest_first: Names of the columns that say which row is the newest.
    """

    newest_first: ClassVar[Sequence[str]]

    @override
    @classmethod
    def write(cls, columns: Columns) -> AnySelect:
        parent = getattr(cls.entity, cls.key)
        newest = [getattr(cls.entity, name).desc() for name in cls.newest_first]
        statement: AnySelect = super().write(columns).ext(distinct_on(parent))
        return statement.order_by(parent, *newest)


class ChildrenByParent(Loader[UUID, Sequence[Row]]):
    """All the rows of each parent, where these are few.

    Attributes:
        entity: The children's row class; it has an `id` and a `workspace_id`.
        parent: The name of the column that names the parent.
        newest_first: Whether the latest comes first.
    """

    entity: ClassVar[Any]
    parent: ClassVar[str]
    newest_first: ClassVar[bool] = False

    @classmethod
    def visible(cls) -> Sequence[ColumnElement[bool]]:
        """Return what else must hold of a row."""
        return ()

    @override
    @classmethod
    def write(cls, columns: Columns) -> AnySelect:
        by_age = cls.entity.id.desc() if cls.newest_first else cls.entity.id
        return (
            select(*read_columns(cls.entity, columns, always=("id", cls.parent)))
            .where(
                among_keys(getattr(cls.entity, cls.parent)),
                own_workspace(cls.entity.workspace_id),
                *cls.visible(),
            )
            .order_by(by_age)
        )

    @override
    async def fetch(self, keys: Sequence[UUID], columns: Columns) -> Mapping[UUID, Sequence[Row]]:
        found: dict[UUID, list[Row]] = defaultdict(list)
        for row in await self.rows(columns, keys=keys):
            found[row[self.parent]].append(row)
        return found

    @override
    def absent(self, key: UUID) -> Sequence[Row]:
        return []
