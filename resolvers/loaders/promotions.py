"""Batched questions about changes of production."""

from typing_extensions import override

from db.models import PromotionEvent
from resolvers.loaders.base import own_workspace
from resolvers.loaders.slices import CountByParent, SliceByParent
from resolvers.paging import AnySelect


class EventsByLeaderboard(SliceByParent):
    """A slice of a leaderboard's changes of production."""

    entity = PromotionEvent
    parent = "leaderboard_id"

    @override
    @classmethod
    def children(cls, statement: AnySelect) -> AnySelect:
        return statement.where(own_workspace(PromotionEvent.workspace_id))


class EventCountByLeaderboard(CountByParent):
    """How often a leaderboard's production has changed."""

    slices = EventsByLeaderboard
