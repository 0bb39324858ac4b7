"""Batched questions about what runs propose."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import func, select
from typing_extensions import override

from db.models import Improvement, ProposedChange
from db.records import Row
from resolvers.columns import Columns
from resolvers.loaders.base import Loader, among_keys, own_workspace
from resolvers.loaders.rows import RowByKey
from resolvers.loaders.slices import CountByParent, SliceByParent
from resolvers.paging import AnySelect


class ImprovementById(RowByKey):
    """What a run proposes."""

    entity = Improvement


class ImprovementsByLeaderboard(SliceByParent):
    """A slice of what was proposed for a leaderboard's dataset."""

    entity = Improvement
    parent = "leaderboard_id"

    @override
    @classmethod
    def children(cls, statement: AnySelect) -> AnySelect:
        return statement.where(own_workspace(Improvement.workspace_id))


class ImprovementCountByLeaderboard(CountByParent):
    """How often something was proposed for a leaderboard's dataset."""

    slices = ImprovementsByLeaderboard


class ChangesByImprovement(SliceByParent):
    """A slice of an improvement's changes."""

    entity = ProposedChange
    parent = "improvement_id"

    @override
    @classmethod
    def children(cls, statement: AnySelect) -> AnySelect:
        return statement.where(own_workspace(ProposedChange.workspace_id))


class ChangeCountByImprovement(CountByParent):
    """How many changes an improvement has."""

    slices = ChangesByImprovement


class KindCountsByImprovement(Loader[UUID, Sequence[Row]]):
    """How many changes of each kind, and of each decision, an improvement has."""

    @override
    @classmethod
    def write(cls) -> AnySelect:
        kind = (ProposedChange.improvement_id, ProposedChange.kind, ProposedChange.decision)
        return (
            select(*kind, func.count().label("count"))
            .where(
                among_keys(ProposedChange.improvement_id),
                own_workspace(ProposedChange.workspace_id),
            )
            .group_by(*kind)
            .order_by(ProposedChange.kind, ProposedChange.decision)
        )

    @override
    async def fetch(self, keys: Sequence[UUID], columns: Columns) -> Mapping[UUID, Sequence[Row]]:
        found: dict[UUID, list[Row]] = defaultdict(list)
        for row in await self.rows(keys=keys):
            found[row["improvement_id"]].append(row)
        return found

    @override
    def absent(self, key: UUID) -> Sequence[Row]:
        return []
