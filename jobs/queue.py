"""The job engine, PgQueuer, behind the little of it that the rest may know."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.errors import RetryRequested
from pgqueuer.models import Job as EngineJob
from pgqueuer.models import Schedule
from sqlalchemy import insert, text, update

from db.base import new_id
from db.models import Job
from db.session import Database, WriteSession
from resolvers.context import Context
from resolvers.errors import AppError, UnavailableError, UpstreamError
from resolvers.failures import is_outage

log = logging.getLogger("gero.jobs")

ENTRYPOINT = "gero"
MAX_ATTEMPTS = 5
RETRY_SECONDS = 2
POLL_SECONDS = 2
RESTART_SECONDS = 1.0
# The engine asks for a limit of at least twice the batch.
BATCH_SIZE = 4
CONCURRENT_JOBS = 8
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
    """

    name: str
    expression: str
    run: Callable[[Context], Awaitable[object]]


class Worker:
    """Takes jobs off the queue and runs them, until it is told to stop.

    Args:
        database: Where jobs are recorded.
        dsn: Where the engine connects by itself, as asyncpg writes it.
        make_context: A fresh context for a job of a workspace.
        handlers: By kind of job.
        sweeps: Upkeep on a schedule.
        timeout_seconds: A worker that is silent for as long is taken for dead, and its jobs go
            on elsewhere.
    """

    def __init__(
        self,
        database: Database,
        dsn: str,
        *,
        make_context: Callable[[UUID | None], Context],
        handlers: Mapping[str, Handler],
        sweeps: Sequence[Sweep],
        timeout_seconds: float,
    ) -> None:
        self._database = database
        self._dsn = dsn
        self._make_context = make_context
        self._handlers = handlers
        self._sweeps = sweeps
        self._timeout = timedelta(seconds=timeout_seconds)
        self._stopping = asyncio.Event()
        self._engine: PgQueuer | None = None

    def stop(self) -> None:
        """Begin to stop: jobs under way may finish."""
        self._stopping.set()
        if self._engine is not None:
            self._engine.shutdown.set()

    async def run(self) -> None:
        """Work until `stop`, starting the engine anew whenever it loses the database."""
        while not self._stopping.is_set():
            try:
                await self._run_engine()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
                log.warning("the job engine lost the database, and starts again: %s", error)
            except Exception:
                log.exception("the job engine failed, and starts again")
            if not self._stopping.is_set():
                await asyncio.sleep(RESTART_SECONDS)

    async def _run_engine(self) -> None:
        connection = await asyncpg.connect(self._dsn, timeout=10)
        try:
            engine = PgQueuer.from_asyncpg_connection(connection)
            engine.entrypoint(ENTRYPOINT)(self._handle)
            for sweep in self._sweeps:
                engine.schedule(sweep.name, sweep.expression, clean_old=True)(self._sweeper(sweep))
            self._engine = engine
            if self._stopping.is_set():
                return
            await engine.run(
                dequeue_timeout=timedelta(seconds=POLL_SECONDS),
                batch_size=BATCH_SIZE,
                max_concurrent_tasks=CONCURRENT_JOBS,
                heartbeat_timeout=self._timeout,
                shutdown_on_listener_failure=True,
            )
        finally:
            self._engine = None
            await connection.close(timeout=5)

    def _sweeper(self, sweep: Sweep) -> Callable[[Schedule], Awaitable[None]]:
        async def run(_: Schedule) -> None:
            await sweep.run(self._make_context(None))

        return run

    async def _handle(self, engine_job: EngineJob) -> None:
        job = await self._begin(UUID(bytes=engine_job.payload or b""))
        if job is None:
            return
        ctx = self._make_context(job.workspace_id)
        handler = self._handlers[job.kind]
        if job.attempts > MAX_ATTEMPTS:
            reason = job.error or f"its worker died {MAX_ATTEMPTS} times"
            await self._give_up(ctx, handler, job, reason)
            return
        try:
            await handler.run(ctx, job)
        except (UpstreamError, UnavailableError) as error:
            await self._retry(ctx, handler, job, str(error))
        except AppError as error:
            await self._give_up(ctx, handler, job, str(error))
        except Exception as error:
            if is_outage(error):
                log.warning("job %s (%s) met an outage: %s", job.id, job.kind, error)
                await self._retry(ctx, handler, job, "the database could not be reached")
                return
            log.exception("job %s (%s) failed", job.id, job.kind)
            await self._retry(ctx, handler, job, "an internal error; the server's log has it")
        else:
            await self._end(job.id, "succeeded", None)

    async def _begin(self, job_id: UUID) -> Job | None:
        """Count an attempt, before it is made: one that kills the worker counts too."""
        async with self._database.write() as session:
            return await session.scalar(
                update(Job)
                .where(Job.id == job_id, Job.status.in_(["queued", "running"]))
                .values(status="running", attempts=Job.attempts + 1)
                .returning(Job)
            )

    async def _retry(self, ctx: Context, handler: Handler, job: Job, reason: str) -> None:
        if job.attempts >= MAX_ATTEMPTS:
            await self._give_up(ctx, handler, job, reason)
            return
        async with self._database.write() as session:
            await session.execute(update(Job).where(Job.id == job.id).values(error=reason))
        delay = timedelta(seconds=RETRY_SECONDS * 2 ** (job.attempts - 1))
        raise RetryRequested(delay=delay, reason=reason)

    async def _give_up(self, ctx: Context, handler: Handler, job: Job, reason: str) -> None:
        log.warning("job %s (%s) is given up: %s", job.id, job.kind, reason)
        await handler.give_up(ctx, job, reason)
        await self._end(job.id, "failed", reason)

    async def _end(self, job_id: UUID, status: str, error: str | None) -> None:
        async with self._database.write() as session:
            await session.execute(
                update(Job)
                .where(Job.id == job_id)
                .values(status=status, error=error, finished_at=datetime.now(UTC))
            )
