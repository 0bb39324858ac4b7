"""Inputs about rollouts and shadows."""

from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import Field, StringConstraints, model_validator

from resolvers.inputs.base import Input, Price, RuleError, WrittenInstant

Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Ratio = Annotated[float, Field(gt=0, le=1_000, allow_inf_nan=False)]
MINUTES_OF_A_MONTH = 43_200


class Guardrails(Input):
    """How much worse than production a canary may be; null takes a guardrail away."""

    max_error_rate_increase: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = (
        Field(default=0.02, description="Share of requests that fail, less production's.")
    )
    max_latency_ratio: Ratio | None = Field(
        default=1.5, description="Geometric mean latency, over production's."
    )
    max_cost_ratio: Ratio | None = Field(
        default=2.0, description="Mean cost of a request, over production's."
    )
    min_score_difference: Annotated[float, Field(ge=-1, le=0, allow_inf_nan=False)] | None = Field(
        default=None,
        description="Mean judge score, 0 to 1, less production's; goes with eval_type judge.",
    )
    judge_share: Share = Field(
        default=0.05,
        description="Of the canary's answers, how many the leaderboard's judge scores, with about "
        "as many of production's.",
    )


class RolloutSettings(Input):
    """How a promotion goes out step by step."""

    steps: Annotated[tuple[Share, ...], Field(min_length=2, max_length=20)] = Field(
        default=(0.01, 0.05, 0.25, 1.0),
        description="Shares of the traffic that the canary serves, ascending; the last is 1.",
    )
    sticky_by: Literal["user", "trace"] = Field(
        default="user",
        description="user: a request's user decides who serves it, and goes on deciding while the "
        "share grows; where none is named, and with trace, each request is by itself.",
    )
    min_requests_per_step: Annotated[int, Field(ge=1, le=10_000_000)] = Field(
        default=100, description="Of the canary and of production, before a step may end."
    )
    min_minutes_per_step: Annotated[
        float, Field(ge=0, le=MINUTES_OF_A_MONTH, allow_inf_nan=False)
    ] = Field(default=10.0, description="Before a step may end.")
    guardrails: Guardrails = Guardrails()
    confidence: Annotated[float, Field(gt=0.5, le=0.9999, allow_inf_nan=False)] = Field(
        default=0.95,
        description="A canary that is within its limits is rolled back with at most the rest of "
        "the probability, however often one looks.",
    )
    max_judge_cost_usd: Price = Field(
        default=Decimal(1), description="What the judge may cost in all, in US dollars."
    )

    @model_validator(mode="after")
    def _steps_lead_to_production(self) -> Self:
        if not all(earlier < later for earlier, later in pairwise(self.steps)):
            raise RuleError("steps", f"must ascend (got {list(self.steps)})")
        if self.steps[-1] != 1:
            raise RuleError("steps", f"must end with 1 (got {self.steps[-1]})")
        return self


class NewShadow(Input):
    """A challenger to try on production's requests, without answering any."""

    challenger_id: UUID = Field(description="A candidate of the leaderboard.")
    share: Share = Field(default=0.05, description="Of the requests.")
    budget_usd: Annotated[Price, Field(gt=0)] = Field(
        description="What its calls may cost in all, in US dollars."
    )
    ends_at: WrittenInstant | None = Field(
        default=None, description="When it ends; when its budget is used up, if left out."
    )

    @model_validator(mode="after")
    def _ends_some_day(self) -> Self:
        if self.ends_at is not None and self.ends_at <= datetime.now(UTC):
            raise RuleError("ends_at", f"must be in the future (got {self.ends_at.isoformat()})")
        return self


class RolloutRollback(Input):
    """Why a canary is taken back by hand."""

    reason: Annotated[str, StringConstraints(max_length=2_000)] | None = Field(
        default=None, description="For those who read the event."
    )


def check_score_guardrail(
    eval_type: str, rollout: RolloutSettings | None, *, within: str = "promotion.rollout"
) -> None:
    """Check that a rollout whose scores are guarded has a judge.

    Args:
        eval_type: The leaderboard's.
        rollout: What is asked for.
        within: Where that stands in what the caller sent.

    Raises:
        RuleError: It has none.
    """
    if (
        rollout is not None
        and rollout.guardrails.min_score_difference is not None
        and eval_type != "judge"
    ):
        raise RuleError(f"{within}.guardrails.min_score_difference", "goes with eval_type judge")
