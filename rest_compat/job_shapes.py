"""What the routes answer about jobs: the JSON of long work on a dataset."""

from typing import Literal, Self
from uuid import UUID

from pydantic import Field

from db.models import LabelJob
from db.records import Row
from resolvers.loaders.labels import JobProgress
from rest_compat.shapes import Instant, ListShape, Shape, Usd


class JobProgressShape(Shape):
    """How far a job has come, in rows."""

    done: int = Field(description="Rows that are dealt with, the failed ones among them.")
    failed: int = Field(description="Rows whose call failed, or of which no reply can be used.")
    total: int | None = Field(description="Unknown until the rows are chosen.")


class JobShape(Shape):
    """A job that has a model label rows."""

    id: UUID
    leaderboard_id: UUID
    kind: Literal["auto_labels"]
    status: Literal["queued", "running", "completed", "failed", "cancelled"]
    mode: Literal["missing", "all"]
    fields: list[Literal["expected", "tags", "quality", "rubric"]]
    label_model: str
    progress: JobProgressShape
    cost_usd: Usd
    estimated_cost_usd: Usd | None = Field(
        description="Null until the rows are chosen, or when the model's prices are not known."
    )
    max_cost_usd: Usd | None
    error: str | None = Field(description="Why a failed job failed.")
    snapshot_id: UUID | None = Field(description="Whose rows are labelled.")
    created_at: Instant
    started_at: Instant | None
    finished_at: Instant | None

    @classmethod
    def of(cls, job: Row | LabelJob, progress: JobProgress) -> Self:
        """Shape a job."""
        gathered = {"kind", "progress", "cost_usd"}
        columns = {name: getattr(job, name) for name in cls.model_fields.keys() - gathered}
        return cls.model_validate(
            {
                **columns,
                "kind": "auto_labels",
                "progress": progress,
                "cost_usd": progress.cost_usd,
            }
        )


class StartedJobShape(Shape):
    """The job that was asked for."""

    job: JobShape


class JobList(ListShape):
    """Jobs, newest first."""

    jobs: list[JobShape]
