"""Batched questions about rankings."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import distinct_on
from typing_extensions import override

from db.models import Candidate, Ranking, RankingEntry
from db.session import ReadSession
from resolvers.loaders.base import Loader, among


class LatestRankingByLeaderboard(Loader[UUID, Ranking | None]):
    """A leaderboard's newest ranking."""

    @override
    async def fetch(
        self, session: ReadSession, keys: Sequence[UUID]
    ) -> Mapping[UUID, Ranking | None]:
        statement = (
            select(Ranking)
            .where(among(Ranking.leaderboard_id, keys), Ranking.workspace_id == self.workspace_id)
            .ext(distinct_on(Ranking.leaderboard_id))
            .order_by(Ranking.leaderboard_id, Ranking.completed_at.desc(), Ranking.id.desc())
        )
        return {row.leaderboard_id: row for row in await session.scalars(statement)}

    @override
    def absent(self, key: UUID) -> Ranking | None:
        return None


class RankingByRun(Loader[UUID, Ranking | None]):
    """What a run found."""

    @override
    async def fetch(
        self, session: ReadSession, keys: Sequence[UUID]
    ) -> Mapping[UUID, Ranking | None]:
        statement = select(Ranking).where(
            among(Ranking.run_id, keys), Ranking.workspace_id == self.workspace_id
        )
        return {row.run_id: row for row in await session.scalars(statement)}

    @override
    def absent(self, key: UUID) -> Ranking | None:
        return None


class EntriesByRanking(Loader[UUID, Sequence[RankingEntry]]):
    """A ranking's entries, best first."""

    @override
    async def fetch(
        self, session: ReadSession, keys: Sequence[UUID]
    ) -> Mapping[UUID, Sequence[RankingEntry]]:
        statement = (
            select(RankingEntry)
            .join(Ranking, Ranking.id == RankingEntry.ranking_id)
            .where(among(RankingEntry.ranking_id, keys), Ranking.workspace_id == self.workspace_id)
            .order_by(RankingEntry.rank)
        )
        found: dict[UUID, list[RankingEntry]] = defaultdict(list)
        for row in await session.scalars(statement):
            found[row.ranking_id].append(row)
        return found

    @override
    def absent(self, key: UUID) -> Sequence[RankingEntry]:
        return []


class WinnerByLeaderboard(Loader[UUID, UUID | None]):
    """The best candidate of the latest ranking that is still on its leaderboard."""

    @override
    async def fetch(self, session: ReadSession, keys: Sequence[UUID]) -> Mapping[UUID, UUID | None]:
        latest = (
            select(Ranking.id, Ranking.leaderboard_id)
            .where(among(Ranking.leaderboard_id, keys), Ranking.workspace_id == self.workspace_id)
            .ext(distinct_on(Ranking.leaderboard_id))
            .order_by(Ranking.leaderboard_id, Ranking.completed_at.desc(), Ranking.id.desc())
            .subquery()
        )
        statement = (
            select(latest.c.leaderboard_id, RankingEntry.candidate_id)
            .join(RankingEntry, RankingEntry.ranking_id == latest.c.id)
            .join(Candidate, Candidate.id == RankingEntry.candidate_id)
            .where(Candidate.removed_at.is_(None))
            .ext(distinct_on(latest.c.leaderboard_id))
            .order_by(latest.c.leaderboard_id, RankingEntry.rank)
        )
        return {row[0]: row[1] for row in await session.execute(statement)}

    @override
    def absent(self, key: UUID) -> UUID | None:
        return None
