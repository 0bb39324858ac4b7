"""Handlers of the jobs that carry a run out."""

from collections.abc import Mapping
from typing import Final

from db.models import Job
from jobs.queue import Handler
from resolvers.context import Context
from resolvers.run_execution import execute_shard, fail_run, prepare_run
from resolvers.runs import PREPARE_RUN, RUN_SHARD


class PrepareRun:
    """Reads the dataset and queues the shards."""

    async def run(self, ctx: Context, job: Job) -> None:
        """Prepare the run."""
        await prepare_run(ctx, job.subject_id)

    async def give_up(self, ctx: Context, job: Job, reason: str) -> None:
        """Fail the run."""
        await fail_run(ctx, job.subject_id, reason)


class ExecuteShard:
    """Makes the calls of some of a run's rows."""

    async def run(self, ctx: Context, job: Job) -> None:
        """Make the calls."""
        await execute_shard(ctx, job.subject_id, job.id, job.arguments["positions"])

    async def give_up(self, ctx: Context, job: Job, reason: str) -> None:
        """Fail the run."""
        await fail_run(ctx, job.subject_id, reason)


HANDLERS: Final[Mapping[str, Handler]] = {
    PREPARE_RUN: PrepareRun(),
    RUN_SHARD: ExecuteShard(),
}
