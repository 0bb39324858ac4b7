"""Batched questions about rankings."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import distinct_on
from typing_extensions import override

from db.models import Candidate, Ranking, RankingEntry
from db.records import Row
from resolvers.columns import Columns, read_columns
from resolvers.loaders.base import Loader, among_keys, own_workspace
from resolvers.loaders.rows import LatestByParent, RowByKey
from resolvers.paging import AnySelect


class RankingByRun(RowByKey):
    """What a run found."""

    entity = Ranking
    key = "run_id"


class LatestRankingByLeaderboard(LatestByParent):
    """A leaderboard's newest ranking."""

    entity = Ranking
    key = "leaderboard_id"
    newest_first = ("completed_at", "id")


class EntriesByRanking(Loader[UUID, Sequence[Row]]):
    """A ranking's entries, best first."""

    @override
    @classmethod
    def write(cls, columns: Columns) -> AnySelect:
        return (
            select(*read_columns(RankingEntry, columns, always=("ranking_id", "candidate_id")))
            .join(Ranking, Ranking.id == RankingEntry.ranking_id)
            .where(among_keys(RankingEntry.ranking_id), own_workspace(Ranking.workspace_id))
            .order_by(RankingEntry.rank)
        )

    @override
    async def fetch(self, keys: Sequence[UUID], columns: Columns) -> Mapping[UUID, Sequence[Row]]:
        found: dict[UUID, list[Row]] = defaultdict(list)
        for row in await self.rows(columns, keys=keys):
            found[row["ranking_id"]].append(row)
        return found

    @override
    def absent(self, key: UUID) -> Sequence[Row]:
        return []


class WinnerByLeaderboard(Loader[UUID, UUID | None]):
    """The best candidate of the latest ranking that is still on its leaderboard."""

    @override
    @classmethod
    def write(cls) -> AnySelect:
        latest = (
            select(Ranking.id, Ranking.leaderboard_id)
            .where(among_keys(Ranking.leaderboard_id), own_workspace(Ranking.workspace_id))
            .ext(distinct_on(Ranking.leaderboard_id))
            .order_by(Ranking.leaderboard_id, Ranking.completed_at.desc(), Ranking.id.desc())
            .subquery()
        )
        return (
            select(latest.c.leaderboard_id, RankingEntry.candidate_id)
            .join(RankingEntry, RankingEntry.ranking_id == latest.c.id)
            .join(Candidate, Candidate.id == RankingEntry.candidate_id)
            .where(Candidate.removed_at.is_(None))
            .ext(distinct_on(latest.c.leaderboard_id))
            .order_by(latest.c.leaderboard_id, RankingEntry.rank)
        )

    @override
    async def fetch(self, keys: Sequence[UUID], columns: Columns) -> Mapping[UUID, UUID | None]:
        return {row["leaderboard_id"]: row["candidate_id"] for row in await self.rows(keys=keys)}

    @override
    def absent(self, key: UUID) -> UUID | None:
        return None
