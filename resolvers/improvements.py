"""Improvement use cases: what runs propose, and what people decide about it."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, text, update

from db.models import Improvement, ProposedChange, Run
from db.records import Row
from db.session import WriteSession
from engine.instants import rfc3339
from resolvers.auth import Scope, requires
from resolvers.columns import Columns
from resolvers.context import Context
from resolvers.edit_storage import lock_dataset
from resolvers.errors import ConflictError, InvalidInputError, NotFoundError
from resolvers.loaders.improvements import (
    ChangeCountByImprovement,
    ChangesByImprovement,
    ImprovementById,
    ImprovementCountByLeaderboard,
    ImprovementsByLeaderboard,
    KindCountsByImprovement,
)
from resolvers.paging import Page, PageRequest
from resolvers.push_storage import CONSOLIDATE
from resolvers.where import NOTHING, ChangeFilter

# In one statement, however many they are; their ids are the changes' own.
STORE_EDITS = text("""
INSERT INTO dataset_edit (
  id, workspace_id, leaderboard_id, number, row_key, field, value, origin, provenance,
  user_id, token_id
)
SELECT
  id, workspace_id, :leaderboard_id, :last_edit + row_number() OVER (ORDER BY id), row_key, field,
  new, 'improvement',
  jsonb_build_object('run_id', improvement_id, 'kind', kind, 'at', CAST(:at AS text)),
  CAST(:user_id AS uuid), CAST(:token_id AS uuid)
FROM proposed_change
WHERE improvement_id = :improvement_id AND decision = 'accepted'
ON CONFLICT (id) DO NOTHING
RETURNING number
""")


@requires(Scope.LEADERBOARDS_READ)
async def find_improvements(
    ctx: Context, run_ids: Sequence[UUID | None], columns: Columns = None
) -> list[Row | None]:
    """Return what runs propose; None of a run that proposes nothing, or not yet."""
    return await ctx.loaders.get(ImprovementById).load_many(run_ids, columns)


@requires(Scope.LEADERBOARDS_READ)
async def list_improvements(
    ctx: Context, leaderboard_ids: Sequence[UUID], request: PageRequest, columns: Columns = None
) -> list[Page[Row]]:
    """Return a slice of what was proposed for each leaderboard's dataset."""
    loader = ctx.loaders.get(ImprovementsByLeaderboard)
    return await loader.load_pages(leaderboard_ids, request, NOTHING, columns)


@requires(Scope.LEADERBOARDS_READ)
async def count_improvements(ctx: Context, leaderboard_id: UUID) -> int:
    """Return how often something was proposed for a leaderboard's dataset, batched."""
    return await ctx.loaders.get(ImprovementCountByLeaderboard).load((leaderboard_id, NOTHING))


@requires(Scope.LEADERBOARDS_READ)
async def list_changes(
    ctx: Context,
    improvement_ids: Sequence[UUID],
    request: PageRequest,
    where: ChangeFilter,
    columns: Columns = None,
) -> list[Page[Row]]:
    """Return a slice of the changes of each improvement."""
    loader = ctx.loaders.get(ChangesByImprovement)
    return await loader.load_pages(improvement_ids, request, where, columns)


@requires(Scope.LEADERBOARDS_READ)
async def count_changes(ctx: Context, improvement_id: UUID, where: ChangeFilter) -> int:
    """Return how many changes of an improvement *where* admits, batched."""
    return await ctx.loaders.get(ChangeCountByImprovement).load((improvement_id, where))


@requires(Scope.LEADERBOARDS_READ)
async def list_kind_counts(ctx: Context, improvement_ids: Sequence[UUID]) -> list[Sequence[Row]]:
    """Return how many changes of each kind improvements propose."""
    return await ctx.loaders.get(KindCountsByImprovement).load_many(improvement_ids)


@requires(Scope.LEADERBOARDS_WRITE)
async def decide_changes(
    ctx: Context, improvement_id: UUID, decision: str, change_ids: Sequence[UUID] | None = None
) -> Improvement:
    """Accept or reject changes that a run proposes; what is accepted is in the next snapshot.

    Args:
        ctx: Who decides.
        improvement_id: The run's.
        decision: `accepted` or `rejected`.
        change_ids: Which of the changes; all that are not decided yet when left out.

    Raises:
        NotFoundError: The workspace has no such improvement.
        InvalidInputError: One of the changes is not of it.
        ConflictError: The run is not completed, or one of the changes was decided otherwise.
    """
    async with ctx.database.write() as session:
        improvement = await session.scalar(
            select(Improvement)
            .where(Improvement.id == improvement_id, Improvement.workspace_id == ctx.workspace_id)
            .with_for_update(key_share=True)
        )
        run = await session.get(Run, improvement_id) if improvement is not None else None
        if improvement is None or run is None:
            raise NotFoundError(f"improvement {improvement_id} does not exist")
        if run.status != "completed":
            raise ConflictError(f"run {run.id} is {run.status}: there is nothing to decide yet")
        await _decide(session, improvement, decision, change_ids)
        await settle_improvement(ctx, session, improvement)
    return improvement


async def _decide(
    session: WriteSession,
    improvement: Improvement,
    decision: str,
    change_ids: Sequence[UUID] | None,
) -> None:
    own = ProposedChange.improvement_id == improvement.id
    open_ones = own & (ProposedChange.decision == "pending")
    if change_ids is not None:
        named = ProposedChange.id.in_(change_ids)
        found = await session.execute(
            select(ProposedChange.id, ProposedChange.decision).where(own, named)
        )
        decisions = {row[0]: row[1] for row in found}
        for index, change_id in enumerate(change_ids):
            if change_id not in decisions:
                raise InvalidInputError(
                    f"change_ids.{index}: {change_id} is not a change of improvement "
                    f"{improvement.id}"
                )
            if decisions[change_id] not in {"pending", decision}:
                raise ConflictError(f"change {change_id} was {decisions[change_id]} before")
        open_ones &= named
    await session.execute(update(ProposedChange).where(open_ones).values(decision=decision))


async def settle_improvement(ctx: Context, session: WriteSession, improvement: Improvement) -> None:
    """Store the edits that were accepted, and say where the improvement stands.

    A snapshot that carries them is queued in the same transaction.
    """
    dataset = await lock_dataset(session, ctx, improvement.leaderboard_id)
    stored = await session.scalars(
        STORE_EDITS,
        {
            "leaderboard_id": improvement.leaderboard_id,
            "improvement_id": improvement.id,
            "last_edit": dataset.last_edit,
            "at": rfc3339(datetime.now(UTC)),
            "user_id": ctx.principal.user_id,
            "token_id": ctx.principal.token_id,
        },
    )
    dataset.last_edit = max(stored.all(), default=dataset.last_edit)
    counts = await session.execute(
        select(ProposedChange.decision, func.count())
        .where(ProposedChange.improvement_id == improvement.id)
        .group_by(ProposedChange.decision)
    )
    decided: dict[str, Any] = {row[0]: row[1] for row in counts}
    if "pending" not in decided and improvement.status == "pending":
        improvement.status = "accepted" if "accepted" in decided else "rejected"
        improvement.decided_at = datetime.now(UTC)
        improvement.user_id, improvement.token_id = ctx.principal.user_id, ctx.principal.token_id
    await ctx.services.queue.enqueue(
        session,
        CONSOLIDATE,
        workspace_id=improvement.workspace_id,
        subject_id=improvement.leaderboard_id,
        arguments=[{}],
    )


async def complete_improvement(ctx: Context, session: WriteSession, run: Run) -> None:
    """Let people decide on what *run* proposes; or accept it, if the run was asked to."""
    improvement = await session.get_one(Improvement, run.id)
    if run.auto_apply:
        await _decide(session, improvement, "accepted", None)
        await settle_improvement(ctx, session, improvement)
    elif not await session.scalar(
        select(func.count()).where(ProposedChange.improvement_id == run.id)
    ):
        improvement.status, improvement.decided_at = "rejected", datetime.now(UTC)
