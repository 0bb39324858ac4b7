"""Batched questions about candidates."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import select
from typing_extensions import override

from db.models import Candidate
from db.session import ReadSession
from resolvers.loaders.base import Loader, among


class CandidateById(Loader[UUID, Candidate | None]):
    """A candidate, whether or not it is still on its leaderboard."""

    @override
    async def fetch(
        self, session: ReadSession, keys: Sequence[UUID]
    ) -> Mapping[UUID, Candidate | None]:
        statement = select(Candidate).where(
            among(Candidate.id, keys), Candidate.workspace_id == self.workspace_id
        )
        return {row.id: row for row in await session.scalars(statement)}

    @override
    def absent(self, key: UUID) -> Candidate | None:
        return None


class CandidatesByLeaderboard(Loader[UUID, Sequence[Candidate]]):
    """The candidates on a leaderboard, in the order they were added."""

    @override
    async def fetch(
        self, session: ReadSession, keys: Sequence[UUID]
    ) -> Mapping[UUID, Sequence[Candidate]]:
        statement = (
            select(Candidate)
            .where(
                among(Candidate.leaderboard_id, keys),
                Candidate.workspace_id == self.workspace_id,
                Candidate.removed_at.is_(None),
            )
            .order_by(Candidate.id)
        )
        found: dict[UUID, list[Candidate]] = defaultdict(list)
        for row in await session.scalars(statement):
            found[row.leaderboard_id].append(row)
        return found

    @override
    def absent(self, key: UUID) -> Sequence[Candidate]:
        return []
