"""Batched questions about candidates."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import select
from typing_extensions import override

from db.models import Candidate
from db.records import Row
from resolvers.columns import Columns, read_columns
from resolvers.loaders.base import Loader, among_keys, own_workspace
from resolvers.loaders.rows import RowByKey
from resolvers.paging import AnySelect


class CandidateById(RowByKey):
    """A candidate, whether or not it is still on its leaderboard."""

    entity = Candidate


class CandidatesByLeaderboard(Loader[UUID, Sequence[Row]]):
    """The candidates on a leaderboard, in the order they were added."""

    @override
    @classmethod
    def write(cls, columns: Columns) -> AnySelect:
        chosen = read_columns(Candidate, columns, always=("id", "leaderboard_id"))
        return (
            select(*chosen)
            .where(
                among_keys(Candidate.leaderboard_id),
                own_workspace(Candidate.workspace_id),
                Candidate.removed_at.is_(None),
            )
            .order_by(Candidate.id)
        )

    @override
    async def fetch(self, keys: Sequence[UUID], columns: Columns) -> Mapping[UUID, Sequence[Row]]:
        found: dict[UUID, list[Row]] = defaultdict(list)
        for row in await self.rows(columns, keys=keys):
            found[row["leaderboard_id"]].append(row)
        return found

    @override
    def absent(self, key: UUID) -> Sequence[Row]:
        return []
