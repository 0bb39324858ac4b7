"""Inputs about leaderboards."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AliasChoices, Field, StringConstraints, field_validator, model_validator

from engine.matching import MatchMode, PatternError, check_pattern
from resolvers.inputs.base import Input, LeftOut, ModelId, Name, Price, RuleError, Slug, Url
from resolvers.inputs.dataset import PushFields, push_settings
from resolvers.inputs.rollout import RolloutSettings, check_score_guardrail
from resolvers.inputs.serving import Serving

Prompt = Annotated[str, StringConstraints(min_length=1, max_length=100_000)]
EvalType = Literal["exact", "judge", "human"]
DatasetType = Literal["GET", "PUSH"]


class ScoreScale(Input):
    """The scores that a judge may give; rankings show them as 0 to 1."""

    low: Annotated[float, Field(ge=-1_000, le=1_000, allow_inf_nan=False)] = 0.0
    high: Annotated[float, Field(ge=-1_000, le=1_000, allow_inf_nan=False)] = 5.0

    @model_validator(mode="after")
    def _has_a_width(self) -> Self:
        if self.low >= self.high:
            raise RuleError("low", f"must be below high (got {self.low} and {self.high})")
        return self


class Evaluation(Input):
    """How answers are scored."""

    match: MatchMode = Field(default=MatchMode.EXACT, description="How the two are compared.")
    extract: Annotated[str, StringConstraints(min_length=1, max_length=1_000)] | None = Field(
        default=None,
        description="A regex applied to the answer first: its first group, else its whole match.",
    )
    rubric: Annotated[str, StringConstraints(min_length=1, max_length=20_000)] | None = Field(
        default=None, description="By what a judge judges; a row's own rubric takes its place."
    )
    scale: ScoreScale | None = Field(
        default=None, description="The scores that a judge may give: 0 to 5 when left out."
    )
    judge_votes: Annotated[int, Field(ge=1, le=9)] = Field(
        default=1, description="Scores asked of each answer; their mean counts."
    )
    judge_mode: Literal["score", "pairwise"] = Field(
        default="score",
        description="Score each answer by itself, or compare the answers to a row in pairs.",
    )
    review_mode: Literal["score", "prefer"] = Field(
        default="score",
        description="What reviewers do: score each answer, or prefer one of two to a row.",
    )
    review_share: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = Field(
        default=1.0,
        description="Of a run that people score: how much of it must be reviewed, by chance, "
        "before it is ranked.",
    )
    errors: Literal["zero", "leave_out"] = Field(
        default="zero",
        description="A row on which the call failed scores 0, as users would have seen it fail, "
        "or is left out of the mean.",
    )

    @model_validator(mode="after")
    def _votes_go_with_scores(self) -> Self:
        if self.judge_mode == "pairwise" and self.judge_votes > 1:
            raise RuleError("judge_votes", "goes with judge_mode score")
        return self

    @field_validator("extract")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                check_pattern(value)
            except PatternError as error:
                raise ValueError(f"is not a valid regex: {error}") from error
        return value


class Promotion(Input):
    """When a new ranking changes production, and whom it may put there."""

    rule: Literal["always", "confident", "cheapest_within"] = Field(
        default="always",
        description="always: the best of each ranking. confident: only one that is better than "
        "the model in production, at the confidence. cheapest_within: the cheapest that is not "
        "worse than the best by more than epsilon, at the confidence.",
    )
    confidence: Annotated[float, Field(gt=0.5, le=0.9999, allow_inf_nan=False)] = 0.95
    epsilon: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = Field(
        default=None, description="In score, 0 to 1; goes with cheapest_within, which needs it."
    )
    max_cost_per_1k_requests_usd: Price | None = Field(
        default=None, description="Who costs more, or an unknown amount, is not promoted."
    )
    max_latency_ms_p95: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None, description="Who is slower is not promoted."
    )
    min_score: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = Field(
        default=None, description="Who scores less is not promoted."
    )
    rollout: RolloutSettings | None = Field(
        default=None,
        description="Have a promotion go out step by step; at once to everybody when left out.",
    )

    @model_validator(mode="after")
    def _epsilon_goes_with_its_rule(self) -> Self:
        if (self.rule == "cheapest_within") != (self.epsilon is not None):
            raise RuleError("epsilon", "goes with rule cheapest_within, which needs it")
        return self


class NewLeaderboard(PushFields):
    """A leaderboard to create."""

    name: Name
    system_prompt: Prompt = Field(
        validation_alias=AliasChoices(
            "system_prompt", "systemPrompt", "model_prompt", "modelPrompt"
        ),
        description="The task. {input}, {question} and {query} stand for the row's input; "
        "with none of them the input is appended.",
    )
    dataset_type: DatasetType = Field(
        default="GET", description="GET: rows are read from dataset_url. PUSH: they are pushed."
    )
    dataset_url: Url | None = Field(
        default=None,
        description="A Hugging Face URL of a .jsonl or .jsonl.gz file; dataset_type GET needs it.",
    )
    eval_type: EvalType = "exact"
    evaluation: Evaluation = Evaluation()
    judge_provider: Literal["openrouter"] | None = Field(
        default=None, description="Who serves the judge: openrouter when left out."
    )
    judge_model: ModelId | None = Field(
        default=None, description="OpenRouter's name for the judge; eval_type judge needs it."
    )
    judge_auto: bool = Field(
        default=False,
        description="Let each run pick a strong judge of another family than any candidate.",
    )
    promotion: Promotion = Promotion()
    slug: Slug | LeftOut = Field(
        default=None, description="What clients call it by; made of its name when left out."
    )
    serving: Serving = Serving()

    @model_validator(mode="after")
    def _dataset_fits_its_type(self) -> Self:
        check_dataset_type(self.dataset_type, self.dataset_url, self.pushed())
        return self

    @model_validator(mode="after")
    def _judge_fits_the_evaluation(self) -> Self:
        check_judge(self.eval_type, self.judge_model, is_auto=self.judge_auto)
        check_score_guardrail(self.eval_type, self.promotion.rollout)
        return self


# Of the fields of a change, those that null takes back.
NULLABLE_CHANGES = {
    "selected_leaderboard_model_id",
    "judge_provider",
    "judge_model",
    *(PushFields.model_fields.keys() - {"auto_limit_size", "dedupe"}),
}


def check_dataset_type(
    dataset_type: str, dataset_url: str | None, pushed: Mapping[str, Any]
) -> None:
    """Check that a dataset is read from a URL or is pushed, and has no settings of the other kind.

    Args:
        dataset_type: `GET` or `PUSH`.
        dataset_url: Where rows are read.
        pushed: The settings of a pushed dataset that are given.

    Raises:
        RuleError: It is otherwise.
    """
    if dataset_type == "PUSH":
        if dataset_url is not None:
            raise RuleError("dataset_url", "goes with dataset_type GET")
        push_settings(pushed)
        return
    if dataset_url is None:
        raise RuleError("dataset_url", "is required for dataset_type GET")
    if pushed:
        raise RuleError(min(pushed), "goes with dataset_type PUSH")


def check_judge(eval_type: str, judge_model: str | None, *, is_auto: bool) -> None:
    """Check that a leaderboard that is judged has one judge, and that no other has one.

    Raises:
        RuleError: It is otherwise.
    """
    if eval_type != "judge":
        if judge_model is not None or is_auto:
            field = "judge_auto" if is_auto else "judge_model"
            raise RuleError(field, "goes with eval_type judge")
        return
    if is_auto and judge_model is not None:
        raise RuleError("judge_model", "and judge_auto exclude each other")
    if not is_auto and judge_model is None:
        raise RuleError("judge_model", "is required for eval_type judge, unless judge_auto is true")


class LeaderboardChanges(PushFields):
    """What to change on a leaderboard; what is left out stays."""

    name: Name | LeftOut = None
    system_prompt: Prompt | LeftOut = Field(
        default=None,
        validation_alias=AliasChoices(
            "system_prompt", "systemPrompt", "model_prompt", "modelPrompt"
        ),
    )
    dataset_type: DatasetType | LeftOut = None
    dataset_url: Url | LeftOut = None
    eval_type: EvalType | LeftOut = None
    evaluation: Evaluation | LeftOut = None
    judge_provider: Literal["openrouter"] | None = None
    judge_model: ModelId | None = None
    judge_auto: bool | LeftOut = None
    promotion: Promotion | LeftOut = None
    slug: Slug | LeftOut = None
    serving: Serving | LeftOut = None
    model_selection: Literal["ranking_winner", "manual"] | LeftOut = None
    selected_leaderboard_model_id: UUID | None = Field(
        default=None,
        validation_alias=AliasChoices(
            "selected_leaderboard_model_id",
            "selectedLeaderboardModelId",
            "selected_candidate_id",
            "selectedCandidateId",
        ),
        description="The candidate that serves when model_selection is manual.",
    )

    @model_validator(mode="after")
    def _null_only_unpins(self) -> Self:
        for field in self.model_fields_set - NULLABLE_CHANGES:
            if getattr(self, field) is None:
                raise RuleError(field, "must not be null")
        return self
