"""The job engine, PgQueuer, behind the little of it that the rest may know."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID
from weakref import WeakValueDictionary

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.errors import RetryRequested
from pgqueuer.models import Job as EngineJob
from pgqueuer.models import Schedule
from sqlalchemy import update

from db.models import Job
from db.session import Database
from jobs.queue import ENTRYPOINT, Handler, Sweep
from resolvers.context import Context
from resolvers.errors import AppError, UnavailableError, UpstreamError
from resolvers.failures import describe, is_outage
from resolvers.meters import JobOutcome

log = logging.getLogger("gero.jobs")

MAX_ATTEMPTS = 5
RETRY_SECONDS = 2
POLL_SECONDS = 2
RESTART_SECONDS = 1.0
# The engine asks for a limit of at least twice the batch.
BATCH_SIZE = 4
CONCURRENT_JOBS = 8


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
        self._turns: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()

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
                log.warning(
                    "the job engine lost the database, and starts again: %s", describe(error)
                )
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
                if sweep.at_start:
                    await sweep.run(self._make_context(None))
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
        """Do a job, after what an engine before this one has begun of it here.

        An engine that lost the database leaves its jobs at work: what they have paid for waits to
        be stored, and would be paid for again by another attempt beside them.
        """
        job_id = UUID(bytes=engine_job.payload or b"")
        async with self._turns.setdefault(job_id, asyncio.Lock()):
            await self._do(job_id)

    async def _do(self, job_id: UUID) -> None:
        job = await self._begin(job_id)
        if job is None:
            return
        ctx = self._make_context(job.workspace_id)
        handler = self._handlers[job.kind]
        with ctx.services.meters.job(job.kind, ctx.request_id) as attempt:
            attempt.outcome = await self._attempt(ctx, handler, job)

    async def _attempt(self, ctx: Context, handler: Handler, job: Job) -> JobOutcome:
        """Do a job, and record how it ended.

        Raises:
            RetryRequested: It is to be done again.
        """
        if job.attempts > MAX_ATTEMPTS:
            reason = job.error or f"its worker died {MAX_ATTEMPTS} times"
            return await self._give_up(ctx, handler, job, reason)
        try:
            await handler.run(ctx, job)
        except (UpstreamError, UnavailableError) as error:
            return await self._retry(ctx, handler, job, str(error))
        except AppError as error:
            return await self._give_up(ctx, handler, job, str(error))
        except Exception as error:
            if is_outage(error):
                log.warning("job %s (%s) met an outage: %s", job.id, job.kind, describe(error))
                return await self._retry(ctx, handler, job, "the database could not be reached")
            log.exception("job %s (%s) failed", job.id, job.kind)
            reason = "an internal error; the server's log has it"
            return await self._retry(ctx, handler, job, reason)
        await self._end(job.id, JobOutcome.SUCCEEDED, None)
        return JobOutcome.SUCCEEDED

    async def _begin(self, job_id: UUID) -> Job | None:
        """Count an attempt, before it is made: one that kills the worker counts too."""
        async with self._database.write() as session:
            return await session.scalar(
                update(Job)
                .where(Job.id == job_id, Job.status.in_(["queued", "running"]))
                .values(status="running", attempts=Job.attempts + 1)
                .returning(Job)
            )

    async def _retry(self, ctx: Context, handler: Handler, job: Job, reason: str) -> JobOutcome:
        if job.attempts >= MAX_ATTEMPTS:
            return await self._give_up(ctx, handler, job, reason)
        async with self._database.write() as session:
            await session.execute(update(Job).where(Job.id == job.id).values(error=reason))
        delay = timedelta(seconds=RETRY_SECONDS * 2 ** (job.attempts - 1))
        raise RetryRequested(delay=delay, reason=reason)

    async def _give_up(self, ctx: Context, handler: Handler, job: Job, reason: str) -> JobOutcome:
        # The reason may quote a row: it is its owners' to read, and the log is not.
        log.warning("job %s (%s) is given up; the row of the job says why", job.id, job.kind)
        await handler.give_up(ctx, job, reason)
        await self._end(job.id, JobOutcome.FAILED, reason)
        return JobOutcome.FAILED

    async def _end(self, job_id: UUID, status: JobOutcome, error: str | None) -> None:
        async with self._database.write() as session:
            await session.execute(
                update(Job)
                .where(Job.id == job_id)
                .values(status=status, error=error, finished_at=datetime.now(UTC))
            )
