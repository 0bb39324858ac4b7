"""The states of a labelling job: whoever changes one locks its row."""

from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import select

from db.models import LabelJob
from db.session import WriteSession
from resolvers.auth import SYSTEM, requires
from resolvers.context import Context
from resolvers.run_lifecycle import NOTIFY

PREPARE_LABELS = "labels.prepare"
LABEL_SHARD = "labels.shard"
# Its payloads are the ids of jobs that have changed.
JOB_CHANNEL = "gero_job"
UNFINISHED = ("queued", "running")


async def lock_job(session: WriteSession, job_id: UUID) -> LabelJob | None:
    """Return a job that nobody else can change until *session* ends."""
    statement = select(LabelJob).where(LabelJob.id == job_id)
    return await session.scalar(statement.with_for_update(key_share=True))


async def notify_job(session: WriteSession, job_id: UUID) -> None:
    """Wake those who follow a job, when *session* commits."""
    await session.execute(NOTIFY, {"channel": JOB_CHANNEL, "key": str(job_id)})


async def finish_job(
    session: WriteSession,
    job: LabelJob,
    status: Literal["completed", "failed", "cancelled"],
    *,
    error: str | None = None,
) -> None:
    """End a job whose row *session* has locked."""
    job.status, job.error, job.finished_at = status, error, datetime.now(UTC)
    await notify_job(session, job.id)


@requires(SYSTEM)
async def fail_job(ctx: Context, job_id: UUID, reason: str) -> None:
    """End a job that can't go on; what it has stored stays."""
    async with ctx.database.write() as session:
        job = await lock_job(session, job_id)
        if job is not None and job.status in UNFINISHED:
            await finish_job(session, job, "failed", error=reason)
