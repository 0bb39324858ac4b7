"""The Subscription root: what can be followed while it changes."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from decimal import Decimal
from typing import Annotated, Any

import strawberry

from resolvers import auto_labels, candidates, label_progress, run_progress, runs
from schema.context import Info
from schema.enums import JobStatus, RunStatus
from schema.fields import referred
from schema.scalars import read_id
from schema.types.refs import CandidateRef, JobRef, RunRef


@strawberry.type(description="What a candidate has scored so far.")
class PartialScore:
    """Over `resolvers.run_progress.PartialScore`."""

    score: float | None = strawberry.field(
        description="Mean over the rows it has been scored on; null before the first."
    )
    row_count: int = strawberry.field(description="Rows it has been asked.")
    failed: int = strawberry.field(description="Rows on which its call failed.")
    candidate: CandidateRef | None = referred(
        candidates.find_candidates, "CandidateModel", "candidate_id", "Whose score it is."
    )


@strawberry.type(description="How far a run has come.")
class RunState:
    """Over `resolvers.run_progress.RunState`."""

    status: RunStatus = strawberry.field(description="The run's status.")
    error: str | None = strawberry.field(description="Why it failed.")
    done: int = strawberry.field(description="Calls stored, the failed ones among them.")
    failed: int = strawberry.field(description="Calls stored that ended in an error.")
    total: int | None = strawberry.field(
        description="All calls; null until the dataset has been read."
    )
    cost_usd: Decimal = strawberry.field(
        description="US dollars so far, of the calls whose cost is known."
    )
    calls_per_second: float = strawberry.field(description="Over the latest 10 seconds.")
    seconds_left: float | None = strawberry.field(
        description="At that speed; null when it is not known, 0 once the run has ended."
    )
    scores: list[PartialScore] = strawberry.field(description="By candidate, in the run's order.")
    run: RunRef | None = referred(runs.find_runs, "Run", "run_id", "The run, as it is now.")


async def follow_run(
    info: Info,
    run_id: Annotated[strawberry.ID, strawberry.argument(description="The run.")],
) -> AsyncGenerator[RunState, None]:
    """Follow a run."""
    states = await run_progress.follow_run(info.context.ctx, read_id("runId", run_id))
    async with aclosing(states):
        async for state in states:
            # What was read for the last state is not to be shown with this one.
            info.context.forget()
            source: Any = state
            yield source


@strawberry.type(description="How far a job has come.")
class JobState:
    """Over `resolvers.label_progress.JobState`."""

    status: JobStatus = strawberry.field(description="The job's status.")
    error: str | None = strawberry.field(description="Why it failed.")
    done: int = strawberry.field(
        description="Rows that are dealt with, the failed ones among them."
    )
    failed: int = strawberry.field(
        description="Rows whose call failed, or of which no reply can be used."
    )
    total: int | None = strawberry.field(
        description="Rows that are asked for; null until they are chosen."
    )
    cost_usd: Decimal = strawberry.field(
        description="US dollars so far, of the calls whose cost is known."
    )
    rows_per_second: float = strawberry.field(description="Over the latest 10 seconds.")
    seconds_left: float | None = strawberry.field(
        description="At that speed; null when it is not known, 0 once the job has ended."
    )
    job: JobRef | None = referred(auto_labels.find_jobs, "Job", "job_id", "The job, as it is now.")


async def follow_job(
    info: Info,
    job_id: Annotated[strawberry.ID, strawberry.argument(description="The job.")],
) -> AsyncGenerator[JobState, None]:
    """Follow a job."""
    states = await label_progress.follow_job(info.context.ctx, read_id("jobId", job_id))
    async with aclosing(states):
        async for state in states:
            # What was read for the last state is not to be shown with this one.
            info.context.forget()
            source: Any = state
            yield source


@strawberry.type(description="What can be followed.")
class Subscription:
    """The subscription root."""

    run_progress: AsyncGenerator[RunState, None] = strawberry.subscription(
        resolver=follow_run,
        description="A run's state now, and again whenever it changes, until it has ended. "
        "Whoever comes late is told the state first.",
    )
    job_progress: AsyncGenerator[JobState, None] = strawberry.subscription(
        resolver=follow_job,
        description="A job's state now, and again whenever it changes, until it has ended. "
        "Whoever comes late is told the state first.",
    )
