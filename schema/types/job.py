"""The Job object type: long work on a dataset, and how far it has come."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

import strawberry

from db.records import Row
from resolvers import auto_labels, datasets, leaderboards
from resolvers.loaders.labels import JobProgress as Progress
from schema.context import Info
from schema.enums import JobKind, JobStatus, LabelField, LabelMode
from schema.fields import batched, referred, resolved
from schema.types.refs import LeaderboardRef, SnapshotRef


@strawberry.type(description="How far a job has come, in rows.")
class JobProgress:
    """Over `resolvers.loaders.labels.JobProgress`."""

    done: int = strawberry.field(
        description="Rows that are dealt with, the failed ones among them."
    )
    failed: int = strawberry.field(
        description="Rows whose call failed, or of which no reply can be used."
    )
    total: int | None = strawberry.field(
        description="Rows that are asked for; null until they are chosen."
    )


def kind_of() -> str:
    """Return what it does: there is one kind of job so far."""
    return "auto_labels"


async def progress_of(roots: Sequence[Row], info: Info) -> Sequence[Progress]:
    """Return how far they have come."""
    return await auto_labels.list_job_progress(info.context.ctx, [root.id for root in roots])


async def costs_usd(roots: Sequence[Row], info: Info) -> Sequence[Decimal]:
    """Return what they have cost so far."""
    return [progress.cost_usd for progress in await progress_of(roots, info)]


@strawberry.type(description="Long work on a dataset's rows; what it is asked to do is fixed.")
class Job:
    """Over rows of `db.models.LabelJob`."""

    id: strawberry.ID = strawberry.field(description="Its id.")
    kind: JobKind = resolved(kind_of, "What it does.")
    status: JobStatus = strawberry.field(description="How far it has come.")
    mode: LabelMode = strawberry.field(description="Which labels the model is asked for.")
    fields: list[LabelField] = strawberry.field(description="What of rows it labels.")
    row_limit: int | None = strawberry.field(description="Rows at most; null for all.")
    label_model: str = strawberry.field(description="Who is asked.")
    prompt_version: str = strawberry.field(description="Of the prompt that it is asked with.")
    max_cost_usd: Decimal | None = strawberry.field(
        description="US dollars that its calls can't pass; null for no ceiling."
    )
    estimated_cost_usd: Decimal | None = strawberry.field(
        description="US dollars it was expected to cost; null until its rows are chosen, or when "
        "that is not known."
    )
    error: str | None = strawberry.field(description="Why it failed.")
    created_at: datetime = strawberry.field(description="When it was asked for.")
    started_at: datetime | None = strawberry.field(description="When its calls began.")
    finished_at: datetime | None = strawberry.field(description="When it ended.")
    progress: JobProgress = batched(progress_of, "How far it has come.")
    cost_usd: Decimal = batched(costs_usd, "US dollars so far, of the calls whose cost is known.")
    snapshot: SnapshotRef | None = referred(
        datasets.find_snapshots,
        "DatasetSnapshot",
        "snapshot_id",
        "Whose rows it labels; null until they are chosen.",
    )
    leaderboard: LeaderboardRef | None = referred(
        leaderboards.find_leaderboards,
        "Leaderboard",
        "leaderboard_id",
        "Its leaderboard; null once that is deleted.",
    )
