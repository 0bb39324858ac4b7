"""Handlers of the jobs that have a model label a dataset's rows."""

from collections.abc import Mapping
from typing import Final

from db.models import Job
from jobs.queue import Handler
from resolvers.context import Context
from resolvers.label_execution import execute_label_shard
from resolvers.label_lifecycle import LABEL_SHARD, PREPARE_LABELS, fail_job
from resolvers.label_preparation import prepare_labels


class LabelStep:
    """Part of a labelling job's work; a job that a part of can't be done fails."""

    async def give_up(self, ctx: Context, job: Job, reason: str) -> None:
        """Fail the labelling job."""
        await fail_job(ctx, job.subject_id, reason)


class PrepareLabels(LabelStep):
    """Chooses the rows and queues the shards."""

    async def run(self, ctx: Context, job: Job) -> None:
        """Prepare the labelling job."""
        await prepare_labels(ctx, job.subject_id)


class ExecuteLabelShard(LabelStep):
    """Asks for the labels of some rows."""

    async def run(self, ctx: Context, job: Job) -> None:
        """Make the calls."""
        await execute_label_shard(ctx, job)


HANDLERS: Final[Mapping[str, Handler]] = {
    PREPARE_LABELS: PrepareLabels(),
    LABEL_SHARD: ExecuteLabelShard(),
}
