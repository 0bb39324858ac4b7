"""Batched questions about leaderboards."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import select
from typing_extensions import override

from db.models import Leaderboard
from db.session import ReadSession
from resolvers.loaders.base import Loader, among


class LeaderboardById(Loader[UUID, Leaderboard | None]):
    """A leaderboard that was not deleted."""

    @override
    async def fetch(
        self, session: ReadSession, keys: Sequence[UUID]
    ) -> Mapping[UUID, Leaderboard | None]:
        statement = select(Leaderboard).where(
            among(Leaderboard.id, keys),
            Leaderboard.workspace_id == self.workspace_id,
            Leaderboard.deleted_at.is_(None),
        )
        return {row.id: row for row in await session.scalars(statement)}

    @override
    def absent(self, key: UUID) -> Leaderboard | None:
        return None
