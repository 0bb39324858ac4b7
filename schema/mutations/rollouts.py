"""Mutations about rollouts and shadows."""

from typing import Annotated

import strawberry

from resolvers import rollouts, shadows
from resolvers.inputs import NewShadow, RolloutRollback, RolloutSettings
from schema.context import Info
from schema.inputs.fields import given_fields
from schema.inputs.rollout import (
    AdvanceRolloutInput,
    CancelRolloutInput,
    RollBackRolloutInput,
    StartRolloutInput,
    StartShadowInput,
    StopShadowInput,
)
from schema.mutations.changed import Changed
from schema.scalars import read_id
from schema.types.rollout import Rollout, Shadow

LEADERBOARD_ID = frozenset({"leaderboard_id"})


@strawberry.type(description="The rollout that was begun or changed.")
class RolloutPayload:
    """Over `Changed`."""

    rollout: Rollout = strawberry.field(description="The rollout, as it is now.")


@strawberry.type(description="The shadow that was begun or ended.")
class ShadowPayload:
    """Over `Changed`."""

    shadow: Shadow = strawberry.field(description="The shadow, as it is now.")


async def start_rollout(
    info: Info,
    input: Annotated[StartRolloutInput, strawberry.argument(description="What to promote.")],
) -> Changed:
    """Begin a rollout."""
    settings = None
    if input.settings is not None:
        settings = RolloutSettings.model_validate(given_fields(input.settings))
    rollout = await rollouts.start_rollout(
        info.context.ctx,
        read_id("leaderboardId", input.leaderboard_id),
        read_id("candidateId", input.candidate_id),
        settings,
    )
    return Changed(rollout=rollout)


async def advance_rollout(
    info: Info,
    input: Annotated[AdvanceRolloutInput, strawberry.argument(description="Which rollout.")],
) -> Changed:
    """Have a rollout go on."""
    rollout_id = read_id("rolloutId", input.rollout_id)
    return Changed(
        rollout=await rollouts.advance_rollout(info.context.ctx, rollout_id, to_step=input.to_step)
    )


async def cancel_rollout(
    info: Info,
    input: Annotated[CancelRolloutInput, strawberry.argument(description="Which rollout.")],
) -> Changed:
    """End a rollout."""
    rollout_id = read_id("rolloutId", input.rollout_id)
    return Changed(rollout=await rollouts.cancel_rollout(info.context.ctx, rollout_id))


async def roll_back_rollout(
    info: Info,
    input: Annotated[RollBackRolloutInput, strawberry.argument(description="Which rollout.")],
) -> Changed:
    """Take a canary back."""
    asked = RolloutRollback.model_validate({"reason": input.reason})
    rollout_id = read_id("rolloutId", input.rollout_id)
    return Changed(rollout=await rollouts.roll_back_rollout(info.context.ctx, rollout_id, asked))


async def start_shadow(
    info: Info,
    input: Annotated[StartShadowInput, strawberry.argument(description="Whom to try.")],
) -> Changed:
    """Begin a shadow."""
    new = NewShadow.model_validate(given_fields(input, without=LEADERBOARD_ID))
    leaderboard_id = read_id("leaderboardId", input.leaderboard_id)
    return Changed(shadow=await shadows.start_shadow(info.context.ctx, leaderboard_id, new))


async def stop_shadow(
    info: Info,
    input: Annotated[StopShadowInput, strawberry.argument(description="Which shadow.")],
) -> Changed:
    """End a shadow."""
    shadow_id = read_id("shadowId", input.shadow_id)
    return Changed(shadow=await shadows.stop_shadow(info.context.ctx, shadow_id))
