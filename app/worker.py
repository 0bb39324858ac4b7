"""Builds the worker of a process."""

from app.services import Process
from app.settings import Settings
from jobs.queue import Sweep, Worker, requeue_lost_jobs
from jobs.runs import HANDLERS
from resolvers.budgets import release_expired_holds
from resolvers.idempotency import forget_old_answers

SWEEPS = (
    Sweep("requeue_lost_jobs", "* * * * *", requeue_lost_jobs),
    Sweep("release_expired_holds", "* * * * *", release_expired_holds),
    Sweep("forget_old_answers", "17 * * * *", forget_old_answers),
)


def create_worker(process: Process, settings: Settings) -> Worker:
    """Build a worker over *process*'s services."""
    return Worker(
        process.background_database,
        settings.dsn,
        make_context=process.system_context,
        handlers=HANDLERS,
        sweeps=SWEEPS,
        timeout_seconds=settings.worker_timeout_seconds,
    )
