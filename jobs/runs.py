"""Handlers of the jobs that carry a run out."""

from collections.abc import Mapping
from typing import Final

from db.models import Job
from jobs.queue import Handler
from resolvers.context import Context
from resolvers.run_completion import advance_run
from resolvers.run_execution import execute_shard, fail_run
from resolvers.run_lifecycle import ADVANCE_RUN, PREPARE_RUN, RUN_SHARD
from resolvers.run_preparation import prepare_run


class RunStep:
    """Part of a run's work; a run that a part of can't be done fails."""

    async def give_up(self, ctx: Context, job: Job, reason: str) -> None:
        """Fail the run."""
        await fail_run(ctx, job.subject_id, reason)


class PrepareRun(RunStep):
    """Reads the dataset and queues the shards."""

    async def run(self, ctx: Context, job: Job) -> None:
        """Prepare the run."""
        await prepare_run(ctx, job.subject_id)


class ExecuteShard(RunStep):
    """Makes the calls of some of a run's rows."""

    async def run(self, ctx: Context, job: Job) -> None:
        """Make the calls."""
        await execute_shard(ctx, job)


class AdvanceRun(RunStep):
    """Decides what follows when all queued calls are stored."""

    async def run(self, ctx: Context, job: Job) -> None:
        """Queue more calls, or rank."""
        await advance_run(ctx, job.subject_id)


HANDLERS: Final[Mapping[str, Handler]] = {
    PREPARE_RUN: PrepareRun(),
    RUN_SHARD: ExecuteShard(),
    ADVANCE_RUN: AdvanceRun(),
}
