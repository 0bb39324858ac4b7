"""Following a labelling job while it works."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from sqlalchemy import func, select, text

from db.models import LabelJob, LabelResult
from db.session import ReadSession
from resolvers.auth import Scope, requires
from resolvers.ceilings import ZERO
from resolvers.context import Context
from resolvers.errors import NotFoundError
from resolvers.following import SPEED_SECONDS, estimate_seconds_left, follow, measure_speed
from resolvers.label_lifecycle import UNFINISHED


@dataclass(frozen=True, slots=True)
class JobState:
    """How far a job has come.

    Attributes:
        done: Rows that are dealt with, the failed ones among them.
        failed: Rows whose call failed, or of which no reply can be used.
        total: All rows that are asked for; None until the snapshot is made.
        cost_usd: The known cost so far, in US dollars.
        rows_per_second: Over the latest seconds.
        seconds_left: At that speed; None when it is not known, 0 once the job has ended.
    """

    job_id: UUID
    status: str
    error: str | None
    done: int
    failed: int
    total: int | None
    cost_usd: Decimal
    rows_per_second: float
    seconds_left: float | None

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come."""
        return self.status not in UNFINISHED


@requires(Scope.LEADERBOARDS_READ)
async def follow_job(ctx: Context, job_id: UUID) -> AsyncGenerator[JobState, None]:
    """Return a job's states, from the present one to its last.

    Raises:
        NotFoundError: The workspace has no such job.
    """

    async def read() -> JobState:
        async with ctx.database.read() as session:
            return await _read_state(session, ctx.workspace_id, job_id)

    await read()
    return follow(ctx.services.job_changes, job_id, read)


async def _read_state(session: ReadSession, workspace_id: UUID, job_id: UUID) -> JobState:
    job = await session.scalar(
        select(LabelJob).where(LabelJob.id == job_id, LabelJob.workspace_id == workspace_id)
    )
    if job is None:
        raise NotFoundError(f"job {job_id} does not exist")
    is_recent = LabelResult.created_at > func.now() - text(f"interval '{SPEED_SECONDS} seconds'")
    is_done = ~LabelResult.is_pending
    statement = select(
        func.count().filter(is_done),
        func.count(LabelResult.error).filter(is_done),
        func.sum(LabelResult.cost_usd),
        func.count().filter(is_done & is_recent),
    ).where(LabelResult.job_id == job_id)
    done, failed, cost_usd, recent = (await session.execute(statement)).one()
    has_ended = job.status not in UNFINISHED
    speed = 0.0 if has_ended else measure_speed(job.started_at, recent)
    left = 0.0 if has_ended else estimate_seconds_left(done, job.row_count, speed)
    return JobState(
        job_id, job.status, job.error, done, failed, job.row_count, cost_usd or ZERO, speed, left
    )
