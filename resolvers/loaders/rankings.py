"""Batched questions about rankings."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import select
from typing_extensions import override

from db.models import Ranking, RankingEntry
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
