"""Batched questions about candidates."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement
from typing_extensions import override

from db.models import Candidate
from resolvers.loaders.rows import ChildrenByParent, RowByKey


class CandidateById(RowByKey):
    """A candidate, whether or not it is still on its leaderboard."""

    entity = Candidate


class CandidatesByLeaderboard(ChildrenByParent):
    """The candidates on a leaderboard, in the order they were added."""

    entity = Candidate
    parent = "leaderboard_id"

    @override
    @classmethod
    def visible(cls) -> Sequence[ColumnElement[bool]]:
        return (Candidate.removed_at.is_(None),)
