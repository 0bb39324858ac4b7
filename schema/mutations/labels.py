"""Mutations about labels that a model gives: asking for them, their cost, and their end."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated

import strawberry

from db.models import LabelJob
from resolvers import auto_labels
from resolvers.auto_labels import LabelEstimate
from resolvers.inputs import NewAutoLabels
from schema.context import Info
from schema.enums import EstimateBasis
from schema.inputs.fields import given_fields
from schema.inputs.labels import CancelJobInput, StartAutoLabelsInput
from schema.scalars import read_id
from schema.types.job import Job

LEADERBOARD_ID = frozenset({"leaderboard_id"})
WhatToLabel = Annotated[StartAutoLabelsInput, strawberry.argument(description="Which labels.")]


@dataclass(frozen=True, slots=True)
class ChangedJob:
    """The source of `JobPayload`."""

    job: LabelJob


@dataclass(frozen=True, slots=True)
class EstimatedLabels:
    """The source of `EstimateAutoLabelsPayload`."""

    estimate: LabelEstimate


@strawberry.type(description="The job that was asked for, or ended.")
class JobPayload:
    """Over `ChangedJob`."""

    job: Job = strawberry.field(description="The job; follow its status and progress.")


@strawberry.type(description="What labels by a model may cost.")
class AutoLabelsEstimate:
    """Over `resolvers.auto_labels.LabelEstimate`."""

    label_model: str = strawberry.field(description="Who would be asked.")
    row_count: int = strawberry.field(description="Rows that it would be asked about.")
    expected_usd: Decimal | None = strawberry.field(
        description="US dollars; null when its prices are not known."
    )
    most_usd: Decimal | None = strawberry.field(
        description="The most that it can cost, each row asked twice; null when its prices are "
        "not known."
    )
    basis: EstimateBasis = strawberry.field(description="What the expectation rests on.")


@strawberry.type(description="What labels would cost.")
class EstimateAutoLabelsPayload:
    """Over `EstimatedLabels`."""

    estimate: AutoLabelsEstimate = strawberry.field(description="In US dollars.")


async def start_auto_labels(info: Info, input: WhatToLabel) -> ChangedJob:
    """Queue a job."""
    leaderboard_id = read_id("leaderboardId", input.leaderboard_id)
    new = read_new_labels(input)
    return ChangedJob(await auto_labels.start_auto_labels(info.context.ctx, leaderboard_id, new))


async def estimate_auto_labels(info: Info, input: WhatToLabel) -> EstimatedLabels:
    """Work out the cost."""
    leaderboard_id = read_id("leaderboardId", input.leaderboard_id)
    new = read_new_labels(input)
    found = await auto_labels.estimate_auto_labels(info.context.ctx, leaderboard_id, new)
    return EstimatedLabels(found)


async def cancel_job(
    info: Info,
    input: Annotated[CancelJobInput, strawberry.argument(description="Which job.")],
) -> ChangedJob:
    """End a job."""
    return ChangedJob(await auto_labels.cancel_job(info.context.ctx, read_id("id", input.id)))


def read_new_labels(input: StartAutoLabelsInput) -> NewAutoLabels:
    """Return what is asked for."""
    given = given_fields(input, without=LEADERBOARD_ID)
    return NewAutoLabels.model_validate(
        {name: value for name, value in given.items() if value is not None}
    )
