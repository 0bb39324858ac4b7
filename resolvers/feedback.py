"""Feedback use cases: what people say of traces."""

from collections.abc import Sequence
from uuid import UUID

from db.base import new_id
from db.models import TraceFeedback
from db.records import Row
from resolvers.auth import Scope, requires
from resolvers.columns import Columns
from resolvers.context import Context
from resolvers.errors import NotFoundError
from resolvers.inputs import NewFeedback
from resolvers.loaders.traces import FeedbackByTrace, TraceById


@requires(Scope.LEADERBOARDS_WRITE)
async def add_feedback(ctx: Context, new: NewFeedback) -> TraceFeedback:
    """Say what a model call was worth, and what it should have answered.

    Raises:
        NotFoundError: The workspace has no such trace.
    """
    if await ctx.loaders.get(TraceById).load(new.trace_id, frozenset({"id"})) is None:
        raise NotFoundError(f"trace {new.trace_id} does not exist")
    redact = ctx.services.redactors.redact_text
    row = TraceFeedback(
        id=new_id(),
        workspace_id=ctx.workspace_id,
        trace_id=new.trace_id,
        score=new.score,
        correction=await redact(ctx.workspace_id, new.correction),
        comment=await redact(ctx.workspace_id, new.comment),
        user_id=ctx.principal.user_id,
        token_id=ctx.principal.token_id,
    )
    async with ctx.database.write() as session:
        session.add(row)
        await session.flush()
        await session.refresh(row)
    return row


@requires(Scope.LEADERBOARDS_READ)
async def list_feedback(
    ctx: Context, trace_ids: Sequence[UUID], columns: Columns = None
) -> list[Sequence[Row]]:
    """Return what people said of traces, the latest first."""
    return await ctx.loaders.get(FeedbackByTrace).load_many(trace_ids, columns)
