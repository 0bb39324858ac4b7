"""Mutations about the model in production."""

from typing import Annotated

import strawberry

from resolvers import promotions
from schema.context import Info
from schema.inputs.leaderboard import RollBackProductionInput
from schema.mutations.changed import Changed
from schema.scalars import read_id, read_optional_id
from schema.types.leaderboard import Leaderboard
from schema.types.promotion import PromotionEvent


@strawberry.type(description="What rolling production back changed.")
class RollBackProductionPayload:
    """Over `Changed`."""

    leaderboard: Leaderboard = strawberry.field(description="The leaderboard, as it is now.")
    event: PromotionEvent = strawberry.field(description="The change that was made.")


async def roll_back_production(
    info: Info,
    input: Annotated[RollBackProductionInput, strawberry.argument(description="What to undo.")],
) -> Changed:
    """Undo a change of production."""
    leaderboard, event = await promotions.roll_back_production(
        info.context.ctx,
        read_id("leaderboardId", input.leaderboard_id),
        event_id=read_optional_id("eventId", input.event_id),
    )
    return Changed(leaderboard=leaderboard, event=event)
