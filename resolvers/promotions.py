"""Promotion use cases: which model serves production, every change of it, and the way back."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select

from db.models import Candidate, Leaderboard, PromotionEvent
from db.records import Row
from db.session import ReadSession
from resolvers.auth import Scope, requires
from resolvers.columns import Columns
from resolvers.context import Context
from resolvers.errors import ConflictError, NotFoundError
from resolvers.leaderboards import fetch_leaderboard
from resolvers.loaders.promotions import EventCountByLeaderboard, EventsByLeaderboard
from resolvers.paging import Page, PageRequest
from resolvers.production import ROLLOUT_ROLLBACK, change_production
from resolvers.where import NOTHING


@requires(Scope.LEADERBOARDS_READ)
async def list_promotions(
    ctx: Context, leaderboard_ids: Sequence[UUID], request: PageRequest, columns: Columns = None
) -> list[Page[Row]]:
    """Return a slice of each leaderboard's changes of production."""
    loader = ctx.loaders.get(EventsByLeaderboard)
    return await loader.load_pages(leaderboard_ids, request, NOTHING, columns)


@requires(Scope.LEADERBOARDS_READ)
async def count_promotions(ctx: Context, leaderboard_id: UUID) -> int:
    """Return how often a leaderboard's production has changed, batched."""
    return await ctx.loaders.get(EventCountByLeaderboard).load((leaderboard_id, NOTHING))


@requires(Scope.LEADERBOARDS_WRITE)
async def roll_back_production(
    ctx: Context, leaderboard_id: UUID, *, event_id: UUID | None
) -> tuple[Leaderboard, PromotionEvent]:
    """Put the model back that served before an event: the latest one when none is named.

    It serves from the moment this commits, at every replica, until the next change. A pinned
    model is pinned no more in its favour: what is put back is pinned in its stead.

    Raises:
        NotFoundError: The workspace has no such leaderboard, or the leaderboard no such event.
        ConflictError: Nothing served before the event, or it has left the leaderboard, or serves;
            or the event took a canary back, and did not change production.
    """
    async with ctx.database.write() as session:
        board = await fetch_leaderboard(session, ctx.workspace_id, leaderboard_id, for_update=True)
        event = await _find_event(session, leaderboard_id, event_id)
        if event.cause == ROLLOUT_ROLLBACK:
            raise ConflictError(f"event {event.id} did not change production")
        back_to = event.from_candidate_id
        if back_to is None:
            raise ConflictError(f"before event {event.id} no model was in production")
        candidate = await session.get_one(Candidate, back_to)
        if candidate.removed_at is not None:
            raise ConflictError(f"model {back_to} is no longer on the leaderboard")
        if board.model_selection == "manual":
            board.selected_candidate_id = back_to
        made = await change_production(
            session, ctx, board, back_to, cause="rollback", undone_event_id=event.id
        )
        if made is None:
            raise ConflictError(f"model {back_to} is in production already")
        await session.flush()
        await session.refresh(made)
    return board, made


async def _find_event(
    session: ReadSession, leaderboard_id: UUID, event_id: UUID | None
) -> PromotionEvent:
    """Return the event that is named, else the latest one."""
    statement = select(PromotionEvent).where(PromotionEvent.leaderboard_id == leaderboard_id)
    if event_id is not None:
        statement = statement.where(PromotionEvent.id == event_id)
    else:
        statement = statement.where(PromotionEvent.cause != ROLLOUT_ROLLBACK)
    event = await session.scalar(statement.order_by(PromotionEvent.id.desc()).limit(1))
    if event is None and event_id is not None:
        raise NotFoundError(f"event {event_id} is not of leaderboard {leaderboard_id}")
    if event is None:
        raise ConflictError(f"leaderboard {leaderboard_id} has had no model in production")
    if event_id is None and event.cause == "rollback":
        # A request that is sent twice must not undo itself.
        raise ConflictError(
            f"the latest change is rollback {event.id}: name the event to undo, by event_id"
        )
    return event
