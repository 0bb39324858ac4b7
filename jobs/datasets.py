"""Handlers of the jobs that keep datasets."""

import logging
from collections.abc import Mapping
from typing import Final

from db.models import Job
from jobs.queue import Handler
from resolvers.consolidation import consolidate_dataset
from resolvers.context import Context
from resolvers.push_storage import CONSOLIDATE

log = logging.getLogger("gero.jobs")


class ConsolidateDataset:
    """Makes a snapshot of what was pushed."""

    async def run(self, ctx: Context, job: Job) -> None:
        """Consolidate the dataset."""
        await consolidate_dataset(ctx, job.subject_id)

    async def give_up(self, ctx: Context, job: Job, reason: str) -> None:  # noqa: ARG002
        """Leave it: the rows stay pending, and are due again at the next sweep.

        The reason may quote a row, and is not for the log.
        """
        log.warning(
            "the dataset of leaderboard %s in workspace %s is not consolidated",
            job.subject_id,
            ctx.workspace_id,
        )


HANDLERS: Final[Mapping[str, Handler]] = {CONSOLIDATE: ConsolidateDataset()}
