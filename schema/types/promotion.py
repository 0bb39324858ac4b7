"""The PromotionEvent object type."""

from datetime import datetime

import strawberry
from strawberry.scalars import JSON

from resolvers import candidates, rollouts, runs
from schema.enums import PromotionCause, PromotionRule
from schema.fields import referred
from schema.types.refs import CandidateRef, RolloutRef, RunRef


@strawberry.type(
    description="One change of a leaderboard's production model, or a canary that was taken back."
)
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
    from_candidate: CandidateRef | None = referred(
        candidates.find_candidates,
        "CandidateModel",
        "from_candidate_id",
        "Who served before; null at the first one.",
    )
    to_candidate: CandidateRef | None = referred(
        candidates.find_candidates,
        "CandidateModel",
        "to_candidate_id",
        "Who serves since; null when nobody was left.",
    )
    run: RunRef | None = referred(runs.find_runs, "Run", "run_id", "The run that it rests on.")
    rollout: RolloutRef | None = referred(
        rollouts.find_rollouts,
        "Rollout",
        "rollout_id",
        "The rollout that ended with it, when one did.",
    )
