"""Batched questions about leaderboards."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement
from typing_extensions import override

from db.models import Leaderboard
from resolvers.loaders.rows import RowByKey


class LeaderboardById(RowByKey):
    """A leaderboard that was not deleted."""

    entity = Leaderboard

    @override
    @classmethod
    def visible(cls) -> Sequence[ColumnElement[bool]]:
        return [Leaderboard.deleted_at.is_(None)]
