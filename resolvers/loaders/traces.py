"""Batched questions about traces."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import ColumnElement, bindparam
from typing_extensions import override

from db.models import Trace, TraceFeedback
from db.records import Row
from resolvers.columns import ID_ALONE, Columns, is_wide
from resolvers.loaders.base import own_workspace
from resolvers.loaders.rows import ChildrenByParent, RowByKey
from resolvers.loaders.slices import CountByParent, SliceByParent
from resolvers.paging import AnySelect, PageRequest, SliceShape
from resolvers.trace_filter import TraceFilter, around, planned, planned_for_values
from resolvers.trace_search import read_in_spans
from resolvers.where import Where


def own_traces() -> ColumnElement[bool]:
    """Return the condition that a trace is the workspace's, and not older than it is kept."""
    return own_workspace(Trace.workspace_id) & not_too_old()


def not_too_old() -> ColumnElement[bool]:
    """Return the condition that a trace is not older than the workspace keeps them."""
    return Trace.id >= bindparam("oldest_trace_id", type_=Trace.id.type)


class TraceById(RowByKey):
    """A trace."""

    entity = Trace

    @override
    @classmethod
    def visible(cls) -> Sequence[ColumnElement[bool]]:
        return (not_too_old(),)

    @override
    async def fetch(self, keys: Sequence[UUID], columns: Columns) -> Mapping[UUID, Row | None]:
        found = await self.rows(columns, keys=keys, texts_from=min(keys), texts_to=max(keys))
        return {row.id: row for row in found}


class TracesByLeaderboard(SliceByParent):
    """A slice of a leaderboard's traces."""

    entity = Trace
    parent = "leaderboard_id"

    @override
    @classmethod
    def children(cls, statement: AnySelect) -> AnySelect:
        return statement.where(own_traces())

    @override
    @classmethod
    def write(cls, columns: Columns, shape: SliceShape, where: Where) -> AnySelect:
        statement = super().write(columns, shape, where)
        return planned(statement, where) if isinstance(where, TraceFilter) else statement

    @override
    async def read_slices(
        self, asked: Sequence[UUID], request: PageRequest, where: Where, columns: Columns
    ) -> list[list[Row]]:
        if not isinstance(where, TraceFilter):
            return await super().read_slices(asked, request, where, columns)
        if where.search is not None:
            return await self._search(asked, request, where, columns)
        if is_wide(columns):
            found = await super().read_slices(asked, request, where, ID_ALONE)
            where = around(where, [row.id for rows in found for row in rows])
        return await super().read_slices(asked, request, where, columns)

    async def _search(
        self, asked: Sequence[UUID], request: PageRequest, where: TraceFilter, columns: Columns
    ) -> list[list[Row]]:
        rows_of: list[list[Row]] = [[] for _ in asked]
        wanted = request.size + 1

        async def read(part: TraceFilter) -> tuple[int, int]:
            found = await super(TracesByLeaderboard, self).read_slices(
                asked, request, part, columns
            )
            # Those whose page is full are read again, and do not count.
            kept = [more[: wanted - len(rows)] for rows, more in zip(rows_of, found, strict=True)]
            for rows, more in zip(rows_of, kept, strict=True):
                rows.extend(more)
            return sum(map(len, kept)), sum(wanted - len(rows) for rows in rows_of)

        await read_in_spans(where, request, self._oldest_trace_id, read)
        return rows_of


class TraceCountByLeaderboard(CountByParent):
    """How many traces of a leaderboard a filter admits."""

    slices = TracesByLeaderboard

    @override
    @classmethod
    def write(cls, where: Where) -> AnySelect:
        statement = super().write(where)
        if isinstance(where, TraceFilter):
            return planned_for_values(statement, where)
        return statement


class FeedbackByTrace(ChildrenByParent):
    """What people said of a trace, the latest first."""

    entity = TraceFeedback
    parent = "trace_id"
    newest_first = True
