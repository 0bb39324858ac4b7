"""Batched questions about snapshots and their rows."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import ARRAY, Integer, Uuid, func, literal, select
from sqlalchemy.dialects.postgresql import distinct_on
from typing_extensions import override

from db.models import DatasetRow, DatasetSnapshot
from db.session import ReadSession
from resolvers.loaders.base import Loader, among


class SnapshotById(Loader[UUID, DatasetSnapshot | None]):
    """A dataset snapshot."""

    @override
    async def fetch(
        self, session: ReadSession, keys: Sequence[UUID]
    ) -> Mapping[UUID, DatasetSnapshot | None]:
        statement = select(DatasetSnapshot).where(
            among(DatasetSnapshot.id, keys), DatasetSnapshot.workspace_id == self.workspace_id
        )
        return {row.id: row for row in await session.scalars(statement)}

    @override
    def absent(self, key: UUID) -> DatasetSnapshot | None:
        return None


class RowByPlace(Loader[tuple[UUID, int], DatasetRow | None]):
    """A dataset row, by its snapshot and its position there."""

    @override
    async def fetch(
        self, session: ReadSession, keys: Sequence[tuple[UUID, int]]
    ) -> Mapping[tuple[UUID, int], DatasetRow | None]:
        places = (
            func.unnest(
                literal([key[0] for key in keys], ARRAY(Uuid())),
                literal([key[1] for key in keys], ARRAY(Integer())),
            )
            .table_valued("snapshot_id", "position")
            .render_derived()
        )
        statement = select(DatasetRow).join(
            places,
            (DatasetRow.snapshot_id == places.c.snapshot_id)
            & (DatasetRow.position == places.c.position),
        )
        statement = statement.where(DatasetRow.workspace_id == self.workspace_id)
        return {(row.snapshot_id, row.position): row for row in await session.scalars(statement)}

    @override
    def absent(self, key: tuple[UUID, int]) -> DatasetRow | None:
        return None


class LatestSnapshotByLeaderboard(Loader[UUID, DatasetSnapshot | None]):
    """A leaderboard's newest snapshot."""

    @override
    async def fetch(
        self, session: ReadSession, keys: Sequence[UUID]
    ) -> Mapping[UUID, DatasetSnapshot | None]:
        statement = (
            select(DatasetSnapshot)
            .where(
                among(DatasetSnapshot.leaderboard_id, keys),
                DatasetSnapshot.workspace_id == self.workspace_id,
            )
            .ext(distinct_on(DatasetSnapshot.leaderboard_id))
            .order_by(DatasetSnapshot.leaderboard_id, DatasetSnapshot.number.desc())
        )
        return {row.leaderboard_id: row for row in await session.scalars(statement)}

    @override
    def absent(self, key: UUID) -> DatasetSnapshot | None:
        return None
