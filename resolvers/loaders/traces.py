"""Batched questions about traces."""

from typing_extensions import override

from db.models import Trace, TraceFeedback
from resolvers.loaders.base import own_workspace
from resolvers.loaders.rows import ChildrenByParent, RowByKey
from resolvers.loaders.slices import CountByParent, SliceByParent
from resolvers.paging import AnySelect


class TraceById(RowByKey):
    """A trace."""

    entity = Trace


class TracesByLeaderboard(SliceByParent):
    """A slice of a leaderboard's traces."""

    entity = Trace
    parent = "leaderboard_id"

    @override
    @classmethod
    def children(cls, statement: AnySelect) -> AnySelect:
        return statement.where(own_workspace(Trace.workspace_id))


class TraceCountByLeaderboard(CountByParent):
    """How many traces of a leaderboard a filter admits."""

    slices = TracesByLeaderboard


class FeedbackByTrace(ChildrenByParent):
    """What people said of a trace, the latest first."""

    entity = TraceFeedback
    parent = "trace_id"
    newest_first = True
