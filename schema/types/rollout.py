"""The Rollout and Shadow object types."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import strawberry
from strawberry.scalars import JSON

from db.records import Row
from engine.guardrails import ArmFigures
from engine.guardrails import Decision as EngineDecision
from resolvers import candidates, leaderboards, rollouts, runs
from resolvers.rollouts import StepArm
from schema.context import Info
from schema.fields import batched, referred, resolved
from schema.rollout_enums import (
    Guardrail,
    GuardrailStanding,
    RolloutAction,
    RolloutArm,
    RolloutStatus,
    ShadowStatus,
)
from schema.types.refs import CandidateRef, LeaderboardRef, RunRef


@strawberry.type(description="A mean, and an interval that holds it at all looks at once.")
class MeanInterval:
    """Over `engine.confidence_sequences.Interval`."""

    mean: float = strawberry.field(description="The mean of what was seen.")
    low: float = strawberry.field(description="The lower end.")
    high: float = strawberry.field(description="The upper end.")


def request_count(root: strawberry.Parent[StepArm]) -> int:
    """Return how many requests it served."""
    return root.figures.sums.requests


def error_count(root: strawberry.Parent[StepArm]) -> int:
    """Return how many failed."""
    return root.figures.sums.errors


def score_count(root: strawberry.Parent[StepArm]) -> int:
    """Return how many answers were judged."""
    return root.figures.sums.score.count


def figures_field(name: str, description: str) -> Any:
    """Declare a field that is one of an arm's means."""

    def find(root: strawberry.Parent[StepArm]) -> Any:
        figures: ArmFigures = root.figures
        return getattr(figures, name)

    return resolved(find, description)


@strawberry.type(description="What one of the two models did in one step of a rollout.")
class RolloutStepArm:
    """Over `resolvers.rollouts.StepArm`."""

    step: int = strawberry.field(description="The step, from 0.")
    share: float = strawberry.field(description="The canary's share of the traffic in it.")
    arm: RolloutArm = strawberry.field(description="Which of the two.")
    request_count: int = resolved(request_count, "Requests that it served.")
    error_count: int = resolved(error_count, "Of these, how many failed.")
    score_count: int = resolved(score_count, "Answers that the judge scored.")
    error_rate: MeanInterval | None = figures_field(
        "error_rate", "The share that failed; null without requests."
    )
    latency_ms: MeanInterval | None = figures_field(
        "latency_ms", "Geometric mean of the answered ones; null for fewer than 50."
    )
    cost_usd: MeanInterval | None = figures_field(
        "cost_usd", "Mean US dollars of a request; null for fewer than 50 of known cost."
    )
    score: MeanInterval | None = figures_field(
        "score", "Mean judge score, 0 to 1; null without scores."
    )


@strawberry.type(description="The canary against production, in one respect.")
class GuardrailComparison:
    """Over `engine.guardrails.Comparison`."""

    guardrail: Guardrail = strawberry.field(description="In what respect.")
    standing: GuardrailStanding = strawberry.field(description="How it stands to its limit.")
    value: float | None = strawberry.field(
        description="The difference or the ratio that was seen; null when it is not known."
    )
    low: float | None = strawberry.field(description="The least that it can be in truth.")
    high: float | None = strawberry.field(
        description="The most that it can be in truth; null when there is no bound."
    )
    limit: float = strawberry.field(description="What it may be.")


@strawberry.type(description="What would follow if the rollout were looked at now.")
class RolloutVerdict:
    """Over `engine.guardrails.Decision`."""

    action: RolloutAction = strawberry.field(description="What would follow.")
    reason: str = strawberry.field(description="Why.")
    comparisons: list[GuardrailComparison] = strawberry.field(description="On what it rests.")


async def arms_of(roots: Sequence[Row], info: Info) -> Sequence[Sequence[StepArm]]:
    """Return what their arms did."""
    return await rollouts.list_arms(info.context.ctx, roots)


async def verdicts_of(roots: Sequence[Row], info: Info) -> Sequence[EngineDecision | None]:
    """Return what would be decided now."""
    return await rollouts.look_at_rollouts(info.context.ctx, roots)


def judge_model(root: strawberry.Parent[Row]) -> str | None:
    """Return who judges."""
    return None if root.judge is None else root.judge["model"]


@strawberry.type(
    description="A promotion that goes out step by step: its canary serves a growing share of the "
    "traffic, and is compared with the model in production."
)
class Rollout:
    """Over rows of `db.models.Rollout`."""

    id: strawberry.ID = strawberry.field(description="Its id.")
    status: RolloutStatus = strawberry.field(description="How far it has come.")
    settings: JSON = strawberry.field(description="How it goes; fixed when it began.")
    step: int = strawberry.field(description="Which of its steps it is at, from 0.")
    share: float = strawberry.field(description="The canary's share of the traffic at this step.")
    reason: str | None = strawberry.field(description="Why it ended; null while it runs.")
    numbers: JSON | None = strawberry.field(description="On what its end rested.")
    max_cost_usd: Decimal = strawberry.field(
        name="maxJudgeCostUsd", description="US dollars that its judge may cost."
    )
    committed_usd: Decimal = strawberry.field(
        name="judgeCostUsd",
        description="US dollars that its judge's calls have cost, or can have cost while they are "
        "under way.",
    )
    judge_error: str | None = strawberry.field(
        description="Why nobody is judged any more, though somebody should be."
    )
    created_at: datetime = strawberry.field(description="When it began.")
    step_started_at: datetime = strawberry.field(description="When its step began.")
    finished_at: datetime | None = strawberry.field(description="When it ended.")
    judge_model: str | None = resolved(
        judge_model, "Who judges samples of the answers; null for nobody.", needs=["judge"]
    )
    arms: list[RolloutStepArm] = batched(
        arms_of, "What the two models did, step by step.", needs=["settings"]
    )
    verdict: RolloutVerdict | None = batched(
        verdicts_of,
        "What would follow if it were looked at now; null once it has ended.",
        needs=["status", "settings", "step", "step_started_at"],
    )
    from_candidate: CandidateRef | None = referred(
        candidates.find_candidates, "CandidateModel", "from_candidate_id", "Who is in production."
    )
    to_candidate: CandidateRef | None = referred(
        candidates.find_candidates, "CandidateModel", "to_candidate_id", "The canary."
    )
    run: RunRef | None = referred(
        runs.find_runs, "Run", "run_id", "The run whose ranking promotes it, when one does."
    )
    leaderboard: LeaderboardRef | None = referred(
        leaderboards.find_leaderboards, "Leaderboard", "leaderboard_id", "Its leaderboard."
    )


@strawberry.type(
    description="A challenger that a share of production's requests also go to, traced and never "
    "answered from, within a budget of its own."
)
class Shadow:
    """Over rows of `db.models.Shadow`."""

    id: strawberry.ID = strawberry.field(description="Its id.")
    status: ShadowStatus = strawberry.field(description="How far it has come.")
    share: float = strawberry.field(description="Of the requests.")
    budget_usd: Decimal = strawberry.field(description="US dollars that its calls may cost.")
    spent_usd: Decimal = strawberry.field(
        description="US dollars that they did cost, or can have cost where that is not known."
    )
    held_usd: Decimal = strawberry.field(
        description="US dollars that the calls under way may cost."
    )
    call_count: int = strawberry.field(description="Calls that have ended.")
    error_count: int = strawberry.field(description="Of these, failed ones.")
    reason: str | None = strawberry.field(description="Why it ended; null while it runs.")
    created_at: datetime = strawberry.field(description="When it began.")
    ends_at: datetime | None = strawberry.field(
        description="When it ends; null for when its budget is used up."
    )
    finished_at: datetime | None = strawberry.field(description="When it ended.")
    challenger: CandidateRef | None = referred(
        candidates.find_candidates, "CandidateModel", "challenger_id", "Whom it tries."
    )
