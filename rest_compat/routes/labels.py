"""/v1/leaderboard/{leaderboard_id}/dataset/auto-labels: labels that a model gives."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body

from db.models import LabelJob
from db.records import Row
from resolvers import auto_labels
from resolvers.context import Context
from resolvers.inputs import NewAutoLabels
from rest_compat.deps import Ctx, Limit, NewId, Offset, RepeatableRoute
from rest_compat.job_shapes import JobList, JobShape, StartedJobShape
from rest_compat.routes.pushes import DATASET

router = APIRouter(tags=["datasets"], route_class=RepeatableRoute)

EVERYTHING_MISSING = NewAutoLabels()


async def shape_jobs(ctx: Context, found: Sequence[Row | LabelJob]) -> list[JobShape]:
    """Gather what jobs show, in one statement for all of them."""
    progress = await auto_labels.list_job_progress(ctx, [job.id for job in found])
    return [JobShape.of(job, done) for job, done in zip(found, progress, strict=True)]


@router.post(
    f"{DATASET}/auto-labels", operation_id="startAutoLabels", status_code=HTTPStatus.ACCEPTED
)
async def start_auto_labels(
    ctx: Ctx,
    leaderboard_id: UUID,
    new_id: NewId,
    body: Annotated[NewAutoLabels, Body()] = EVERYTHING_MISSING,
) -> StartedJobShape:
    """Have a model label rows; an empty body asks for everything that any of them lacks."""
    started = await auto_labels.start_auto_labels(ctx, leaderboard_id, body, id=new_id)
    (job,) = await shape_jobs(ctx, [started])
    return StartedJobShape(job=job)


@router.get(f"{DATASET}/auto-labels", operation_id="listAutoLabels")
async def list_auto_labels(
    ctx: Ctx, leaderboard_id: UUID, limit: Limit = 50, offset: Offset = 0
) -> JobList:
    """List the jobs that label a dataset's rows, newest first, with how far each has come."""
    rows, total = await auto_labels.list_jobs_by_offset(
        ctx, leaderboard_id, limit=limit, offset=offset
    )
    jobs = await shape_jobs(ctx, rows)
    return JobList(jobs=jobs, count=len(jobs), total=total, limit=limit, offset=offset)
