"""Mutations about improvements: asking for them, and deciding what they propose."""

from dataclasses import dataclass
from typing import Annotated

import strawberry

from db.models import Improvement as ImprovementRow
from resolvers import improvements, run_requests
from resolvers.inputs import NewImprovement
from schema.context import Info
from schema.inputs.dataset import DecideChangesInput, ImproveDatasetInput
from schema.inputs.fields import given_fields
from schema.mutations.changed import Changed
from schema.scalars import read_id
from schema.types.improvement import Improvement

LEADERBOARD_ID = frozenset({"leaderboard_id"})
WhatToDecide = Annotated[DecideChangesInput, strawberry.argument(description="Which changes.")]


@dataclass(frozen=True, slots=True)
class DecidedImprovement:
    """The source of `ImprovementPayload`."""

    improvement: ImprovementRow


@strawberry.type(description="What was decided.")
class ImprovementPayload:
    """Over `DecidedImprovement`."""

    improvement: Improvement = strawberry.field(description="The improvement, as it is now.")


async def improve_dataset(
    info: Info,
    input: Annotated[ImproveDatasetInput, strawberry.argument(description="What to improve.")],
) -> Changed:
    """Queue an improvement."""
    leaderboard_id = read_id("leaderboardId", input.leaderboard_id)
    given = given_fields(input, without=LEADERBOARD_ID)
    new = NewImprovement.model_validate(
        {name: value for name, value in given.items() if value is not None}
    )
    return Changed(run=await run_requests.improve_dataset(info.context.ctx, leaderboard_id, new))


async def accept_changes(info: Info, input: WhatToDecide) -> DecidedImprovement:
    """Accept changes."""
    return await _decide(info, input, "accepted")


async def reject_changes(info: Info, input: WhatToDecide) -> DecidedImprovement:
    """Reject changes."""
    return await _decide(info, input, "rejected")


async def _decide(info: Info, input: DecideChangesInput, decision: str) -> DecidedImprovement:
    named = input.change_ids
    change_ids = None if named is None else [read_id("changeIds", each) for each in named]
    improvement_id = read_id("improvementId", input.improvement_id)
    decided = await improvements.decide_changes(
        info.context.ctx, improvement_id, decision, change_ids
    )
    return DecidedImprovement(decided)
