"""Batched questions about snapshots and their rows."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import ARRAY, Integer, Uuid, bindparam, func, select
from typing_extensions import override

from db.models import Dataset, DatasetEdit, DatasetRow, DatasetSnapshot, PushToken
from db.records import Row
from resolvers.columns import Columns, read_columns
from resolvers.loaders.base import Loader, own_workspace
from resolvers.loaders.rows import ChildrenByParent, LatestByParent, RowByKey
from resolvers.loaders.slices import CountByParent, SliceByParent
from resolvers.paging import AnySelect

Place = tuple[UUID, int]


class SnapshotById(RowByKey):
    """A dataset snapshot."""

    entity = DatasetSnapshot


class LatestSnapshotByLeaderboard(LatestByParent):
    """A leaderboard's newest snapshot."""

    entity = DatasetSnapshot
    key = "leaderboard_id"
    newest_first = ("number",)


class SnapshotsByLeaderboard(SliceByParent):
    """A slice of a leaderboard's snapshots."""

    entity = DatasetSnapshot
    parent = "leaderboard_id"

    @override
    @classmethod
    def children(cls, statement: AnySelect) -> AnySelect:
        return statement.where(own_workspace(DatasetSnapshot.workspace_id))


class SnapshotCountByLeaderboard(CountByParent):
    """How many snapshots a leaderboard has."""

    slices = SnapshotsByLeaderboard


class EditsByLeaderboard(SliceByParent):
    """A slice of the edits of a leaderboard's rows."""

    entity = DatasetEdit
    parent = "leaderboard_id"

    @override
    @classmethod
    def children(cls, statement: AnySelect) -> AnySelect:
        return statement.where(own_workspace(DatasetEdit.workspace_id))


class EditCountByLeaderboard(CountByParent):
    """How many edits a leaderboard's rows have had."""

    slices = EditsByLeaderboard


class DatasetByLeaderboard(RowByKey):
    """What changes of a leaderboard's dataset; None before anything was pushed or edited."""

    entity = Dataset
    key = "leaderboard_id"


class PushTokensByLeaderboard(ChildrenByParent):
    """A leaderboard's push tokens, newest first, those that are revoked too."""

    entity = PushToken
    parent = "leaderboard_id"
    newest_first = True


class RowByPlace(Loader[Place, Row | None]):
    """A dataset row, by its snapshot and its position there."""

    @override
    @classmethod
    def write(cls, columns: Columns) -> AnySelect:
        places = (
            func.unnest(
                bindparam("snapshot_ids", type_=ARRAY(Uuid())),
                bindparam("positions", type_=ARRAY(Integer())),
            )
            .table_valued("snapshot_id", "position")
            .render_derived()
        )
        chosen = read_columns(DatasetRow, columns, always=("snapshot_id", "position"))
        at_place = (DatasetRow.snapshot_id == places.c.snapshot_id) & (
            DatasetRow.position == places.c.position
        )
        return select(*chosen).join(places, at_place).where(own_workspace(DatasetRow.workspace_id))

    @override
    async def fetch(self, keys: Sequence[Place], columns: Columns) -> Mapping[Place, Row | None]:
        rows = await self.rows(
            columns,
            snapshot_ids=[snapshot_id for snapshot_id, _ in keys],
            positions=[position for _, position in keys],
        )
        return {(row["snapshot_id"], row["position"]): row for row in rows}

    @override
    def absent(self, key: Place) -> Row | None:
        return None
