"""Builds the worker of a process."""

from app.services import Process
from jobs.queue import Sweep, Worker, requeue_lost_jobs
from jobs.runs import HANDLERS
from resolvers.budgets import release_expired_holds
from resolvers.idempotency import forget_old_answers

SWEEPS = (
    Sweep("requeue_lost_jobs", "* * * * *", requeue_lost_jobs),
    Sweep("release_expired_holds", "* * * * *", release_expired_holds),
    Sweep("forget_old_answers", "17 * * * *", forget_old_answers),
)


def create_worker(process: Process, database_url: str) -> Worker:
    """Build a worker over *process*'s services."""
    return Worker(
        process.background_database,
        database_url.replace("postgresql+asyncpg://", "postgresql://", 1),
        make_context=process.system_context,
        handlers=HANDLERS,
        sweeps=SWEEPS,
    )
