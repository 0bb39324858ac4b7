"""The PromotionEvent object type."""

from collections.abc import Sequence
from datetime import datetime

import strawberry
from strawberry.scalars import JSON

from compiled_graphql.selection import selected_names
from db.records import Row
from resolvers import candidates, runs
from schema.context import Info
from schema.enums import PromotionCause, PromotionRule
from schema.fields import batched
from schema.types.refs import CandidateRef, RunRef


async def served_before(roots: Sequence[Row], info: Info) -> Sequence[Row | None]:
    """Return who served before."""
    columns = selected_names(info, "CandidateModel")
    ids = [root.from_candidate_id for root in roots]
    return await candidates.find_candidates(info.context.ctx, ids, columns)


async def served_after(roots: Sequence[Row], info: Info) -> Sequence[Row | None]:
    """Return who served from then on."""
    columns = selected_names(info, "CandidateModel")
    ids = [root.to_candidate_id for root in roots]
    return await candidates.find_candidates(info.context.ctx, ids, columns)


async def runs_of(roots: Sequence[Row], info: Info) -> Sequence[Row | None]:
    """Return the runs they rest on."""
    columns = selected_names(info, "Run")
    return await runs.find_runs(info.context.ctx, [root.run_id for root in roots], columns)


@strawberry.type(description="One change of a leaderboard's production model.")
class PromotionEvent:
    """Over rows of `db.models.PromotionEvent`."""

    id: strawberry.ID = strawberry.field(description="Its id.")
    cause: PromotionCause = strawberry.field(description="What changed it.")
    rule: PromotionRule | None = strawberry.field(
        description="The rule that decided, when a run's ranking changed it."
    )
    numbers: JSON = strawberry.field(description="What it rested on, as the ranking's decision.")
    undone_event_id: strawberry.ID | None = strawberry.field(
        description="The event that was rolled back, when one was."
    )
    token_id: strawberry.ID | None = strawberry.field(
        description="The API token that changed it, when a person or a program did."
    )
    user_id: strawberry.ID | None = strawberry.field(
        description="The user who changed it, when one did."
    )
    created_at: datetime = strawberry.field(description="When it took effect.")
    from_candidate: CandidateRef | None = batched(
        served_before,
        "Who served before; null at the first one.",
        needs=["from_candidate_id"],
    )
    to_candidate: CandidateRef | None = batched(
        served_after,
        "Who serves since; null when nobody was left.",
        needs=["to_candidate_id"],
    )
    run: RunRef | None = batched(runs_of, "The run that it rests on.", needs=["run_id"])
