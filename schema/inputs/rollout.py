"""Inputs about rollouts and shadows."""

from datetime import datetime
from decimal import Decimal

import strawberry

from schema.rollout_enums import StickyBy


@strawberry.input(
    description="How much worse than production a canary may be; null takes a guardrail away."
)
class GuardrailsInput:
    """`resolvers.inputs.Guardrails`."""

    max_error_rate_increase: float | None = strawberry.field(
        default=0.02, description="Share of requests that fail, less production's; 0 to 1."
    )
    max_latency_ratio: float | None = strawberry.field(
        default=1.5, description="Geometric mean latency, over production's."
    )
    max_cost_ratio: float | None = strawberry.field(
        default=2.0, description="Mean cost of a request, over production's."
    )
    min_score_difference: float | None = strawberry.field(
        default=None,
        description="Mean judge score, less production's; -1 to 0. It goes with evalType JUDGE.",
    )
    judge_share: float = strawberry.field(
        default=0.05,
        description="Of the canary's answers, how many the leaderboard's judge scores, with about "
        "as many of production's; above 0, at most 1.",
    )


@strawberry.input(description="How a promotion goes out step by step.")
class RolloutSettingsInput:
    """`resolvers.inputs.RolloutSettings`."""

    steps: list[float] = strawberry.field(
        default_factory=lambda: [0.01, 0.05, 0.25, 1.0],
        description="Shares of the traffic that the canary serves, ascending; the last is 1.",
    )
    sticky_by: StickyBy = strawberry.field(
        default=StickyBy.USER, description="What decides who serves a request."
    )
    min_requests_per_step: int = strawberry.field(
        default=100, description="Of the canary and of production, before a step may end."
    )
    min_minutes_per_step: float = strawberry.field(
        default=10.0, description="Before a step may end; at most 43,200."
    )
    guardrails: GuardrailsInput = strawberry.field(
        default_factory=GuardrailsInput, description="How much worse the canary may be."
    )
    confidence: float = strawberry.field(
        default=0.95,
        description="A canary that is within its limits is rolled back with at most the rest of "
        "the probability, however often one looks; above 0.5 and at most 0.9999.",
    )
    max_judge_cost_usd: Decimal = strawberry.field(
        default=Decimal(1), description="US dollars that the judge may cost in all."
    )


@strawberry.input(description="A model to promote step by step.")
class StartRolloutInput:
    """`resolvers.rollouts.start_rollout`."""

    leaderboard_id: strawberry.ID = strawberry.field(description="The leaderboard.")
    candidate_id: strawberry.ID = strawberry.field(description="The model; one of its candidates.")
    settings: RolloutSettingsInput | None = strawberry.field(
        default=None,
        description="How; as the leaderboard's promotion says, or else by default, when left out.",
    )


@strawberry.input(description="A rollout that is to go on.")
class AdvanceRolloutInput:
    """Names it."""

    rollout_id: strawberry.ID = strawberry.field(description="The rollout.")
    to_step: int | None = strawberry.field(
        default=None,
        description="Which step that must be, from 0; so that a request sent twice takes one.",
    )


@strawberry.input(description="A rollout to end.")
class CancelRolloutInput:
    """Names it."""

    rollout_id: strawberry.ID = strawberry.field(description="The rollout.")


@strawberry.input(description="A rollout whose canary is to be taken back.")
class RollBackRolloutInput:
    """Names it."""

    rollout_id: strawberry.ID = strawberry.field(description="The rollout.")
    reason: str | None = strawberry.field(
        default=None, description="Why, for those who read the event."
    )


@strawberry.input(description="A challenger to try on production's requests.")
class StartShadowInput:
    """`resolvers.inputs.NewShadow`."""

    leaderboard_id: strawberry.ID = strawberry.field(description="The leaderboard.")
    challenger_id: strawberry.ID = strawberry.field(description="One of its candidates.")
    share: float = strawberry.field(
        default=0.05, description="Of the requests; above 0, at most 1."
    )
    budget_usd: Decimal = strawberry.field(
        description="US dollars that its calls may cost in all; no token is charged for them."
    )
    ends_at: datetime | None = strawberry.field(
        default=None, description="When it ends; when its budget is used up, if left out."
    )


@strawberry.input(description="A shadow to end.")
class StopShadowInput:
    """Names it."""

    shadow_id: strawberry.ID = strawberry.field(description="The shadow.")
