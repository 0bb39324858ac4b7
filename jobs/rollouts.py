"""Handlers of the jobs that have samples of production's answers judged."""

from collections.abc import Mapping
from typing import Final

from db.models import Job
from jobs.queue import Handler
from resolvers.context import Context
from resolvers.trace_judging import judge_traces, stop_judging
from resolvers.trace_sampling import JUDGE_TRACES


class JudgeTraces:
    """Scores some answers of a rollout; one whose judge can't be asked goes on without."""

    async def run(self, ctx: Context, job: Job) -> None:
        """Have the judge score them."""
        await judge_traces(ctx, job)

    async def give_up(self, ctx: Context, job: Job, reason: str) -> None:
        """Have no more answers judged."""
        await stop_judging(ctx, job.subject_id, reason)


HANDLERS: Final[Mapping[str, Handler]] = {JUDGE_TRACES: JudgeTraces()}
