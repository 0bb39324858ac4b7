"""The states of a run: what may follow what, and who is next when a run has ended.

Whoever changes a run's state locks its row, and after it its leaderboard's.
"""

from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import or_, select, text

from db.models import Leaderboard, Run
from db.session import ReadSession, WriteSession
from resolvers.context import Context

PREPARE_RUN = "run.prepare"
RUN_SHARD = "run.shard"
ADVANCE_RUN = "run.advance"
# Its payloads are the ids of runs that have changed.
RUN_CHANNEL = "gero_run"
NOTIFY = text("SELECT pg_notify(:channel, :key)")
UNFINISHED = ("queued", "running", "awaiting_review")


async def lock_run(session: WriteSession, run_id: UUID) -> Run | None:
    """Return a run that nobody else can change until *session* ends."""
    return await session.scalar(select(Run).where(Run.id == run_id).with_for_update(key_share=True))


async def lock_leaderboard(session: WriteSession, leaderboard_id: UUID) -> Leaderboard:
    """Return a leaderboard that nobody else can change until *session* ends."""
    statement = select(Leaderboard).where(Leaderboard.id == leaderboard_id)
    return (await session.scalars(statement.with_for_update(key_share=True))).one()


async def notify_run(session: WriteSession, run_id: UUID) -> None:
    """Wake those who follow a run, when *session* commits."""
    await session.execute(NOTIFY, {"channel": RUN_CHANNEL, "key": str(run_id)})


async def has_to_wait(session: ReadSession, run: Run) -> bool:
    """Tell whether another run of the leaderboard is under way, or was asked for before."""
    other = select(Run.id).where(
        Run.leaderboard_id == run.leaderboard_id,
        Run.id != run.id,
        or_(Run.status == "running", (Run.status == "queued") & (Run.id < run.id)),
    )
    return await session.scalar(other.limit(1)) is not None


async def finish_run(
    ctx: Context,
    session: WriteSession,
    run: Run,
    status: Literal["completed", "failed", "cancelled"],
    *,
    error: str | None = None,
) -> None:
    """End a run whose row *session* has locked, and let the leaderboard's next one begin."""
    # Whoever asks for a run locks the leaderboard too: it is seen here, or it sees this one ended.
    await lock_leaderboard(session, run.leaderboard_id)
    run.status, run.error, run.finished_at = status, error, datetime.now(UTC)
    await let_next_begin(ctx, session, run)


async def await_review(ctx: Context, session: WriteSession, run: Run) -> None:
    """Leave a run, whose row *session* has locked, to people; the next one can begin."""
    await lock_leaderboard(session, run.leaderboard_id)
    run.status = "awaiting_review"
    await let_next_begin(ctx, session, run)


async def let_next_begin(ctx: Context, session: WriteSession, run: Run) -> None:
    """Queue the beginning of the run that waits for *run*, if one does."""
    await session.flush()
    await notify_run(session, run.id)
    waiting = await session.scalar(
        select(Run.id)
        .where(Run.leaderboard_id == run.leaderboard_id, Run.status == "queued")
        .order_by(Run.id)
        .limit(1)
    )
    if waiting is not None:
        await queue_step(ctx, session, PREPARE_RUN, run.workspace_id, waiting)


async def queue_step(
    ctx: Context, session: WriteSession, kind: str, workspace_id: UUID, run_id: UUID
) -> None:
    """Queue a run's beginning, or what follows its calls, in the caller's transaction."""
    await ctx.services.queue.enqueue(
        session, kind, workspace_id=workspace_id, subject_id=run_id, arguments=[{}]
    )
