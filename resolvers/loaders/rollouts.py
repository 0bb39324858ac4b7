"""Batched questions about rollouts and shadows."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import ColumnElement, select
from typing_extensions import override

from db.models import Rollout, RolloutArm, Shadow
from engine.rollouts import Arm, ArmSums
from resolvers.columns import Columns
from resolvers.loaders.base import Loader, among_keys, own_workspace
from resolvers.loaders.rows import LatestByParent, RowByKey
from resolvers.loaders.slices import CountByParent, SliceByParent
from resolvers.paging import AnySelect
from resolvers.rollout_sums import read_arm_sums, summed_columns


class RolloutById(RowByKey):
    """A rollout."""

    entity = Rollout


class RunningRolloutByLeaderboard(RowByKey):
    """The rollout of a leaderboard that runs: there is one at most."""

    entity = Rollout
    key = "leaderboard_id"

    @override
    @classmethod
    def visible(cls) -> Sequence[ColumnElement[bool]]:
        return (Rollout.status == "running",)


class RolloutsByLeaderboard(SliceByParent):
    """A slice of a leaderboard's rollouts."""

    entity = Rollout
    parent = "leaderboard_id"

    @override
    @classmethod
    def children(cls, statement: AnySelect) -> AnySelect:
        return statement.where(own_workspace(Rollout.workspace_id))


class RolloutCountByLeaderboard(CountByParent):
    """How many rollouts a leaderboard has had."""

    slices = RolloutsByLeaderboard


class ArmSumsByRollout(Loader[UUID, dict[tuple[int, Arm], ArmSums]]):
    """What the arms of a rollout did, by step and arm."""

    @override
    @classmethod
    def write(cls) -> AnySelect:
        arm = (RolloutArm.rollout_id, RolloutArm.step, RolloutArm.arm)
        return (
            select(*arm, *summed_columns())
            .join(Rollout, Rollout.id == RolloutArm.rollout_id)
            .where(among_keys(RolloutArm.rollout_id), own_workspace(Rollout.workspace_id))
            .group_by(*arm)
        )

    @override
    async def fetch(
        self, keys: Sequence[UUID], columns: Columns
    ) -> Mapping[UUID, dict[tuple[int, Arm], ArmSums]]:
        found: dict[UUID, dict[tuple[int, Arm], ArmSums]] = defaultdict(dict)
        for row in await self.rows(keys=keys):
            found[row.rollout_id][row.step, Arm(row.arm)] = read_arm_sums(row)
        return found

    @override
    def absent(self, key: UUID) -> dict[tuple[int, Arm], ArmSums]:
        return {}


class LatestShadowByLeaderboard(LatestByParent):
    """The newest shadow of a leaderboard."""

    entity = Shadow
    key = "leaderboard_id"
    newest_first = ("id",)
