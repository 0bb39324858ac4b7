"""Batched questions about traces."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import defer
from typing_extensions import override

from db.models import Trace
from db.session import ReadSession
from resolvers.loaders.base import Loader, among
from resolvers.loaders.slices import SliceByParent
from resolvers.paging import AnySelect

WIDE_COLUMNS = ("input", "messages", "output", "expected")
FILTERED_COLUMNS = ("source", "status", "leaderboard_id", "run_id", "candidate_id")


@dataclass(frozen=True, slots=True)
class TraceFilter:
    """Which traces are asked for; what is None does not matter.

    Attributes:
        since: Answered at this instant or later.
        until: Answered before this instant.
    """

    source: Literal["run", "inference", "dataset", "manual"] | None = None
    status: Literal["ok", "error"] | None = None
    leaderboard_id: UUID | None = None
    run_id: UUID | None = None
    candidate_id: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None


def narrow_traces(statement: AnySelect, where: TraceFilter) -> AnySelect:
    """Add the conditions of a `TraceFilter`."""
    for name in FILTERED_COLUMNS:
        wanted = getattr(where, name)
        if wanted is not None:
            statement = statement.where(getattr(Trace, name) == wanted)
    if where.since is not None:
        statement = statement.where(Trace.created_at >= where.since)
    if where.until is not None:
        statement = statement.where(Trace.created_at < where.until)
    return statement


def utc_day(instant: Any) -> ColumnElement[datetime]:
    """Return the UTC midnight at or before *instant*."""
    return func.date_trunc("day", instant, "UTC")


class TraceById(Loader[UUID, Trace | None]):
    """A trace, without its texts."""

    @override
    async def fetch(
        self, session: ReadSession, keys: Sequence[UUID]
    ) -> Mapping[UUID, Trace | None]:
        statement = (
            select(Trace)
            .where(among(Trace.id, keys), Trace.workspace_id == self.workspace_id)
            .options(*TracesByLeaderboard.narrow(Trace))
        )
        return {row.id: row for row in await session.scalars(statement)}

    @override
    def absent(self, key: UUID) -> Trace | None:
        return None


@dataclass(frozen=True, slots=True)
class TraceText:
    """The wide columns of a trace."""

    input: str | None = None
    messages: list[Any] | None = None
    output: str | None = None
    expected: str | None = None


class TraceBodyById(Loader[UUID, TraceText]):
    """What a model call was asked and answered."""

    @override
    async def fetch(self, session: ReadSession, keys: Sequence[UUID]) -> Mapping[UUID, TraceText]:
        columns = [getattr(Trace, name) for name in WIDE_COLUMNS]
        statement = select(Trace.id, *columns).where(
            among(Trace.id, keys), Trace.workspace_id == self.workspace_id
        )
        return {
            row.id: TraceText(row.input, row.messages, row.output, row.expected)
            for row in await session.execute(statement)
        }

    @override
    def absent(self, key: UUID) -> TraceText:
        return TraceText()


class TracesByLeaderboard(SliceByParent[Trace]):
    """A slice of a leaderboard's traces, without their texts."""

    entity = Trace
    parent_column = "leaderboard_id"

    @override
    def children(self, where: Any) -> AnySelect:
        statement = select(Trace).where(Trace.workspace_id == self.workspace_id)
        return statement if where is None else narrow_traces(statement, where)

    @override
    def options(self, entity: Any) -> Sequence[Any]:
        return self.narrow(entity)

    @staticmethod
    def narrow(entity: Any) -> Sequence[Any]:
        """Return the options that leave a trace's texts out."""
        return [defer(getattr(entity, name), raiseload=True) for name in WIDE_COLUMNS]


class TraceCountByLeaderboard(Loader[tuple[UUID, TraceFilter], int]):
    """How many traces of a leaderboard a filter admits; one statement for each filter."""

    @override
    async def fetch(
        self, session: ReadSession, keys: Sequence[tuple[UUID, TraceFilter]]
    ) -> Mapping[tuple[UUID, TraceFilter], int]:
        boards_of: dict[TraceFilter, list[UUID]] = defaultdict(list)
        for leaderboard_id, where in keys:
            boards_of[where].append(leaderboard_id)
        found: dict[tuple[UUID, TraceFilter], int] = {}
        for where, leaderboard_ids in boards_of.items():
            statement = (
                select(Trace.leaderboard_id, func.count())
                .where(
                    among(Trace.leaderboard_id, leaderboard_ids),
                    Trace.workspace_id == self.workspace_id,
                )
                .group_by(Trace.leaderboard_id)
            )
            for leaderboard_id, count in await session.execute(narrow_traces(statement, where)):
                found[leaderboard_id, where] = count
        return found

    @override
    def absent(self, key: tuple[UUID, TraceFilter]) -> int:
        return 0
