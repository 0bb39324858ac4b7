"""Builds the worker of a process."""

from app.services import Process
from app.settings import Settings
from jobs.datasets import HANDLERS as DATASET_HANDLERS
from jobs.labels import HANDLERS as LABEL_HANDLERS
from jobs.queue import Sweep, requeue_lost_jobs
from jobs.rollouts import HANDLERS as ROLLOUT_HANDLERS
from jobs.runs import HANDLERS as RUN_HANDLERS
from jobs.worker import Worker
from resolvers.budgets import release_expired_holds
from resolvers.due_datasets import consolidate_due_datasets
from resolvers.idempotency import forget_old_answers
from resolvers.rollout_sweep import advance_rollouts, end_shadows
from resolvers.snapshot_garbage import delete_orphaned_objects
from resolvers.trace_upkeep import (
    drop_old_traces,
    find_words,
    index_past_days,
    make_next_days,
    put_hours_together,
)

SWEEPS = (
    Sweep("requeue_lost_jobs", "* * * * *", requeue_lost_jobs),
    Sweep("release_expired_holds", "* * * * *", release_expired_holds),
    Sweep("consolidate_due_datasets", "* * * * *", consolidate_due_datasets),
    Sweep("advance_rollouts", "* * * * *", advance_rollouts),
    Sweep("end_shadows", "* * * * *", end_shadows),
    Sweep("delete_orphaned_objects", "41 4 * * *", delete_orphaned_objects),
    Sweep("forget_old_answers", "17 * * * *", forget_old_answers),
    Sweep("find_words", "* * * * *", find_words),
    Sweep("make_next_days", "7 * * * *", make_next_days, at_start=True),
    Sweep("index_past_days", "11 * * * *", index_past_days),
    Sweep("put_hours_together", "23 * * * *", put_hours_together),
    Sweep("drop_old_traces", "31 3 * * *", drop_old_traces),
)


def create_worker(process: Process, settings: Settings) -> Worker:
    """Build a worker over *process*'s services."""
    return Worker(
        process.background_database,
        settings.dsn,
        make_context=process.system_context,
        handlers={**RUN_HANDLERS, **DATASET_HANDLERS, **LABEL_HANDLERS, **ROLLOUT_HANDLERS},
        sweeps=SWEEPS,
        timeout_seconds=settings.worker_timeout_seconds,
    )
