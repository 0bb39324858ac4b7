"""Where jobs are queued, and what a worker is made of; the engine itself is in worker.py."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import insert, text

from db.base import new_id
from db.models import Job
from db.session import Database, WriteSession
from resolvers.context import Context

ENTRYPOINT = "gero"
ENQUEUE = """
INSERT INTO pgqueuer (priority, entrypoint, payload, status)
SELECT 0, $1, payload, 'queued' FROM unnest($2::bytea[]) AS payload
"""

# A job that the engine has dropped, as it does when the database fails it in
# mid-job, is queued again from our own record of it.
REQUEUE_LOST = """
INSERT INTO pgqueuer (priority, entrypoint, payload, status)
SELECT 0, :entrypoint, uuid_send(job.id), 'queued'
FROM job
WHERE job.status IN ('queued', 'running')
  AND job.created_at < now() - interval '30 seconds'
  AND NOT EXISTS (SELECT 1 FROM pgqueuer WHERE pgqueuer.payload = uuid_send(job.id))
RETURNING id
"""
# The engine keeps only what is unfinished.
COUNT_UNFINISHED = """
SELECT count(*) FILTER (WHERE status = 'queued') AS queued,
       count(*) FILTER (WHERE status = 'picked') AS running
FROM pgqueuer
"""


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """The jobs that are unfinished, of all workers together.

    Attributes:
        queued: Those that wait, some for the time of their next attempt.
        running: Those that a worker has.
    """

    queued: int
    running: int


class PgJobQueue:
    """Queues jobs in the caller's transaction; see `JobQueue`."""

    async def enqueue(
        self,
        session: WriteSession,
        kind: str,
        *,
        workspace_id: UUID,
        subject_id: UUID,
        arguments: Sequence[dict[str, Any]],
    ) -> None:
        """Queue a job for each of *arguments* in *session*'s own transaction."""
        jobs: list[dict[str, Any]] = [
            {
                "id": new_id(),
                "workspace_id": workspace_id,
                "kind": kind,
                "subject_id": subject_id,
                "arguments": each,
                "status": "queued",
                "attempts": 0,
            }
            for each in arguments
        ]
        await session.execute(insert(Job), jobs)
        # Through the session's own connection: on the raw driver connection the
        # first statement would commit by itself.
        connection = await session.connection()
        payloads = [job["id"].bytes for job in jobs]
        await connection.exec_driver_sql(ENQUEUE, (ENTRYPOINT, payloads))


async def requeue_lost_jobs(ctx: Context) -> int:
    """Queue the unfinished jobs that the engine no longer holds, and return how many."""
    async with ctx.database.write() as session:
        requeued = await session.execute(text(REQUEUE_LOST), {"entrypoint": ENTRYPOINT})
        return len(requeued.all())


async def read_queue_depth(database: Database) -> QueueDepth:
    """Return how many jobs are unfinished."""
    async with database.read() as session:
        found = (await session.execute(text(COUNT_UNFINISHED))).one()
    return QueueDepth(found.queued, found.running)


class Handler(Protocol):
    """What does one kind of job."""

    async def run(self, ctx: Context, job: Job) -> None:
        """Do the work; safe to be done twice."""

    async def give_up(self, ctx: Context, job: Job, reason: str) -> None:
        """Record that the work will not be done."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """Small upkeep, done by one worker at a time on a schedule.

    Attributes:
        expression: Cron, in UTC.
        at_start: Whether it is done when a worker starts, too.
    """

    name: str
    expression: str
    run: Callable[[Context], Awaitable[object]]
    at_start: bool = False
