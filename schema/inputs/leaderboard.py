"""Inputs about leaderboards."""

from decimal import Decimal

import strawberry

from schema.enums import (
    DatasetType,
    ErrorScoring,
    EvalType,
    JudgeMode,
    MatchMode,
    ModelSelection,
    PromotionRule,
    ReviewMode,
    UnknownPrice,
)
from schema.inputs.dataset import PushSettingsInput
from schema.inputs.rollout import RolloutSettingsInput


@strawberry.input(description="The scores that a judge may give; rankings show them as 0 to 1.")
class ScoreScaleInput:
    """`resolvers.inputs.ScoreScale`."""

    low: float = strawberry.field(default=0.0, description="The worst.")
    high: float = strawberry.field(default=5.0, description="The best.")


@strawberry.input(description="How answers are scored.")
class EvaluationInput:
    """`resolvers.inputs.Evaluation`."""

    match: MatchMode = strawberry.field(
        default=MatchMode.EXACT, description="How the two are compared."
    )
    extract: str | None = strawberry.field(
        default=None,
        description="A regex (RE2) applied to the answer first: its first group, else its match.",
    )
    rubric: str | None = strawberry.field(
        default=None, description="By what a judge judges; a row's own rubric takes its place."
    )
    scale: ScoreScaleInput | None = strawberry.field(
        default=None, description="The scores that a judge may give: 0 to 5 when left out."
    )
    judge_votes: int = strawberry.field(
        default=1, description="Scores asked of each answer, at most 9; their mean counts."
    )
    judge_mode: JudgeMode = strawberry.field(
        default=JudgeMode.SCORE, description="What a judge is asked."
    )
    review_mode: ReviewMode = strawberry.field(
        default=ReviewMode.SCORE, description="What reviewers do, with evalType HUMAN."
    )
    review_share: float = strawberry.field(
        default=1.0,
        description="How much must be reviewed, drawn by chance, before a run that people score "
        "is ranked; above 0, at most 1.",
    )
    errors: ErrorScoring = strawberry.field(
        default=ErrorScoring.ZERO, description="What a row counts on which the call failed."
    )


@strawberry.input(description="When a new ranking changes production, and whom it may put there.")
class PromotionInput:
    """`resolvers.inputs.Promotion`."""

    rule: PromotionRule = strawberry.field(
        default=PromotionRule.ALWAYS, description="What decides."
    )
    confidence: float = strawberry.field(
        default=0.95, description="Of CONFIDENT and CHEAPEST_WITHIN, above 0.5 and at most 0.9999."
    )
    epsilon: float | None = strawberry.field(
        default=None,
        description="How much worse than the best may serve, in score; goes with CHEAPEST_WITHIN.",
    )
    max_cost_per_1k_requests_usd: Decimal | None = strawberry.field(
        default=None,
        name="maxCostPer1kRequestsUsd",
        description="US dollars; who costs more, or an unknown amount, is not promoted.",
    )
    max_latency_ms_p95: float | None = strawberry.field(
        default=None, name="maxLatencyMsP95", description="Who is slower is not promoted."
    )
    min_score: float | None = strawberry.field(
        default=None, description="Who scores less is not promoted."
    )
    rollout: RolloutSettingsInput | None = strawberry.field(
        default=None, description="Have a promotion go out step by step; at once when left out."
    )


@strawberry.input(description="How production is served.")
class ServingInput:
    """`resolvers.inputs.Serving`."""

    fallback_models: int = strawberry.field(
        default=0,
        description="How many of the ranking's next models may serve when the one in production "
        "fails, 0 to 5.",
    )
    unknown_price: UnknownPrice = strawberry.field(
        default=UnknownPrice.REFUSE,
        description="What becomes of a call whose most can't be told, by a token with a budget.",
    )
    hold_usd: Decimal | None = strawberry.field(
        default=None,
        description="US dollars set aside for a call on a token's budget, in place of the most "
        "that its tokens may cost.",
    )


@strawberry.input(description="A leaderboard to create.")
class CreateLeaderboardInput:
    """`resolvers.inputs.NewLeaderboard`."""

    name: str = strawberry.field(description="Its name.")
    system_prompt: str = strawberry.field(
        description="The task; {input}, {question} and {query} stand for a row's input, which is "
        "appended when there is none of them."
    )
    dataset_url: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="A Hugging Face URL of a .jsonl or .jsonl.gz file; its first rows are read "
        "now. datasetType GET needs it.",
    )
    dataset_type: DatasetType = strawberry.field(
        default=DatasetType.GET, description="Where its rows come from."
    )
    push: PushSettingsInput | None = strawberry.field(
        default=strawberry.UNSET,
        description="What a pushed dataset takes; goes with datasetType PUSH.",
    )
    eval_type: EvalType = strawberry.field(
        default=EvalType.EXACT, description="How answers are evaluated."
    )
    evaluation: EvaluationInput | None = strawberry.field(
        default=strawberry.UNSET, description="The evaluation's settings."
    )
    judge_model: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="OpenRouter's name for the judge; goes with evalType JUDGE.",
    )
    judge_auto: bool = strawberry.field(
        default=False,
        description="Let each run pick a strong judge of another family than any candidate.",
    )
    promotion: PromotionInput | None = strawberry.field(
        default=strawberry.UNSET, description="When a new ranking changes production."
    )
    slug: str | None = strawberry.field(
        default=strawberry.UNSET, description="What clients call it by; of a-z, 0-9 and hyphens."
    )
    serving: ServingInput | None = strawberry.field(
        default=strawberry.UNSET, description="How production is served."
    )


@strawberry.input(description="What to change; what is left out stays.")
class UpdateLeaderboardInput:
    """`resolvers.inputs.LeaderboardChanges`."""

    id: strawberry.ID = strawberry.field(description="The leaderboard.")
    name: str | None = strawberry.field(default=strawberry.UNSET, description="Its name.")
    system_prompt: str | None = strawberry.field(default=strawberry.UNSET, description="The task.")
    dataset_url: str | None = strawberry.field(
        default=strawberry.UNSET, description="Where its rows are read."
    )
    dataset_type: DatasetType | None = strawberry.field(
        default=strawberry.UNSET, description="Where its rows come from."
    )
    push: PushSettingsInput | None = strawberry.field(
        default=strawberry.UNSET,
        description="What to change of what a pushed dataset takes; null takes a limit away.",
    )
    eval_type: EvalType | None = strawberry.field(
        default=strawberry.UNSET, description="How answers are evaluated."
    )
    evaluation: EvaluationInput | None = strawberry.field(
        default=strawberry.UNSET, description="The evaluation's settings."
    )
    judge_model: str | None = strawberry.field(
        default=strawberry.UNSET, description="OpenRouter's name for the judge; null for none."
    )
    judge_auto: bool | None = strawberry.field(
        default=strawberry.UNSET, description="Let each run pick the judge."
    )
    promotion: PromotionInput | None = strawberry.field(
        default=strawberry.UNSET, description="When a new ranking changes production."
    )
    slug: str | None = strawberry.field(
        default=strawberry.UNSET, description="What clients call it by; of a-z, 0-9 and hyphens."
    )
    serving: ServingInput | None = strawberry.field(
        default=strawberry.UNSET, description="How production is served."
    )
    model_selection: ModelSelection | None = strawberry.field(
        default=strawberry.UNSET, description="Which model serves production."
    )
    selected_candidate_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET, description="Who is pinned; null unpins."
    )


@strawberry.input(description="A leaderboard to delete.")
class DeleteLeaderboardInput:
    """Names it."""

    id: strawberry.ID = strawberry.field(description="The leaderboard.")


@strawberry.input(description="A change of production to undo.")
class RollBackProductionInput:
    """Names it."""

    leaderboard_id: strawberry.ID = strawberry.field(description="The leaderboard.")
    event_id: strawberry.ID | None = strawberry.field(
        default=None, description="The change; the latest one when left out."
    )
