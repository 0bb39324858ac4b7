"""What the routes answer: the published JSON of each resource."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AliasPath, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from engine.instants import rfc3339
from resolvers.trace_filter import TraceSource

Instant = Annotated[
    datetime,
    PlainSerializer(rfc3339, return_type=str),
    Field(json_schema_extra={"format": "date-time"}),
]
Usd = Annotated[
    Decimal,
    PlainSerializer(float, return_type=float),
    Field(description="US dollars."),
]


def _is_present(value: object) -> bool:
    return value is not None


def _with_number(serving: dict[str, Any]) -> dict[str, Any]:
    """Return the settings with an amount as a number, which is stored exactly."""
    if "hold_usd" not in serving:
        return serving
    return {**serving, "hold_usd": float(serving["hold_usd"])}


def _pushed(name: str) -> Any:
    """Return where a setting of a pushed dataset is read: null when it is read from a URL."""
    return Field(validation_alias=AliasPath("push", name))


class Shape(BaseModel):
    """Parent of the answers."""

    model_config = ConfigDict(from_attributes=True)


class OpenAIFailure(BaseModel):
    """What went wrong, as OpenAI's API tells it."""

    message: str
    type: str
    param: str | None
    code: str
    details: dict[str, Any]


class OpenAIProblem(BaseModel):
    """An error, as OpenAI's clients understand it."""

    error: OpenAIFailure


class Problem(Shape):
    """Any failure."""

    error: str = Field(description="For people.")
    code: str = Field(description="For programs; stable.")
    details: dict[str, Any] = Field(description="What the failure is about.")


class Readiness(BaseModel):
    """Whether requests can be served."""

    status: Literal["ok", "unavailable"]
    checks: dict[str, str] = Field(description="What was looked at: ok, or what is wrong with it.")


class ScaleShape(Shape):
    """The scores that a judge may give."""

    low: float
    high: float


class EvaluationShape(Shape):
    """How answers are scored."""

    match: str
    extract: str | None = None
    errors: Literal["zero", "leave_out"] = "zero"
    rubric: str | None = None
    scale: ScaleShape | None = None
    judge_votes: int = 1
    judge_mode: Literal["score", "pairwise"] = "score"
    review_mode: Literal["score", "prefer"] = "score"
    review_share: float = 1.0


class GuardrailsShape(Shape):
    """How much worse than production a canary may be; null is not looked at."""

    max_error_rate_increase: float | None = None
    max_latency_ratio: float | None = None
    max_cost_ratio: float | None = None
    min_score_difference: float | None = None
    judge_share: float


class RolloutShape(Shape):
    """How a promotion goes out step by step."""

    steps: list[float]
    sticky_by: Literal["user", "trace"]
    min_requests_per_step: int
    min_minutes_per_step: float
    guardrails: GuardrailsShape
    confidence: float
    max_judge_cost_usd: Usd


class PromotionShape(Shape):
    """When a new ranking changes production, and whom it may put there."""

    rule: Literal["always", "confident", "cheapest_within"]
    confidence: float = 0.95
    epsilon: float | None = None
    max_cost_per_1k_requests_usd: Usd | None = None
    max_latency_ms_p95: float | None = None
    min_score: float | None = None
    rollout: RolloutShape | None = None


class LeaderboardShape(Shape):
    """A leaderboard."""

    id: UUID
    workspace_id: UUID
    name: str
    system_prompt: str
    dataset_type: Literal["GET", "PUSH"]
    dataset_url: str | None
    auto_limit_size: Annotated[bool | None, _pushed("auto_limit_size")] = None
    max_samples_to_gather: Annotated[int | None, _pushed("max_samples_to_gather")] = None
    daily_event_limit: Annotated[int | None, _pushed("daily_event_limit")] = None
    monthly_event_limit: Annotated[int | None, _pushed("monthly_event_limit")] = None
    consolidate_every_events: Annotated[int | None, _pushed("consolidate_every_events")] = None
    consolidate_every_hours: Annotated[int | None, _pushed("consolidate_every_hours")] = None
    dedupe: Annotated[bool | None, _pushed("dedupe")] = None
    near_duplicate_threshold: Annotated[float | None, _pushed("near_duplicate_threshold")] = None
    end_date: Annotated[str | None, _pushed("end_date")] = None
    eval_type: Literal["exact", "judge", "human"]
    evaluation: EvaluationShape
    judge_provider: Literal["openrouter"] | None
    judge_model: str | None
    judge_auto: bool
    model_selection: Literal["ranking_winner", "manual"]
    selected_leaderboard_model_id: UUID | None = Field(
        validation_alias="selected_candidate_id", description="The pinned model."
    )
    promotion: PromotionShape
    slug: str | None = Field(description="What clients call it by.")
    serving: Annotated[dict[str, Any], BeforeValidator(_with_number)] = Field(
        description="How production is served: what was set of it."
    )
    production_leaderboard_model_id: UUID | None = Field(
        validation_alias="production_candidate_id",
        description="Who serves production; null before the first ranking.",
    )
    created_at: Instant
    updated_at: Instant


class CandidateShape(Shape):
    """A candidate model; its credential is never shown."""

    id: UUID
    leaderboard_id: UUID
    provider: Literal["openrouter", "huggingface", "custom"]
    model_id: str | None
    display_name: str
    endpoint_url: str | None
    auth_method: str | None
    auth_header_name: str | None
    has_auth_token: Annotated[bool, BeforeValidator(_is_present)] = Field(
        validation_alias="auth_token_box", description="Whether a credential is stored."
    )
    params: dict[str, Any]
    input_price_per_million_usd: Usd | None
    output_price_per_million_usd: Usd | None
    timeout_seconds: float
    first_byte_timeout_seconds: float | None = Field(
        description="The longest that it may keep silent first."
    )
    created_at: Instant


class ProgressShape(Shape):
    """How far a run has come, in calls."""

    done: int
    failed: int
    total: int | None = Field(description="Unknown until the dataset has been read.")


class ComparisonShape(Shape):
    """A candidate against the next one, on the rows that both have."""

    difference: float = Field(description="How much higher its mean score is.")
    low: float = Field(description="Lower end of the difference's interval.")
    high: float = Field(description="Upper end of that interval.")
    p_value: float = Field(description="Two-sided.")
    p_value_adjusted: float = Field(
        description="Corrected for the number of pairs in the ranking, by Holm's method."
    )
    row_count: int
    method: Literal["mcnemar_exact", "sign_flip"]


class RankingEntryShape(Shape):
    """A candidate's place."""

    rank: int
    band: int | None = Field(
        description="Candidates that can't be told apart share one; 1 is the best."
    )
    leaderboard_model_id: UUID = Field(validation_alias="candidate_id")
    score: float = Field(
        description="Mean over the rows; errors count as 0, unless they are left out."
    )
    score_low: float | None = Field(
        description="Lower end of the score's interval, at the ranking's confidence."
    )
    score_high: float | None = Field(description="Upper end of that interval.")
    is_on_pareto_front: bool | None = Field(
        description="Nobody else is as good and as cheap, and better in one of both."
    )
    next_comparison: ComparisonShape | None
    strength: float | None = Field(
        description="Bradley-Terry: the natural logarithm of its odds against the average "
        "candidate, when answers were judged in pairs."
    )
    strength_low: float | None
    strength_high: float | None
    row_count: int
    error_count: int
    latency_ms_p50: float | None
    latency_ms_p95: float | None
    cost_usd: Usd | None
    cost_usd_per_1k: Usd | None = Field(description="US dollars for 1,000 requests.")


class RankingShape(Shape):
    """What a run found, best first."""

    completed_at: Instant
    row_count: int
    confidence: float
    saved_call_count: int = Field(description="Calls that early stopping did without.")
    saved_cost_usd: Usd | None
    verdict: Literal["PROMOTE", "HOLD", "INSUFFICIENT"] | None = Field(
        description="What it means for production."
    )
    decision: dict[str, Any] | None = Field(description="The numbers and the reason of that.")
    entries: list[RankingEntryShape]


class RunShape(Shape):
    """A run."""

    id: UUID
    leaderboard_id: UUID
    kind: Literal["ranking", "rescore", "replay", "improve_dataset"]
    status: Literal["queued", "running", "awaiting_review", "completed", "failed", "cancelled"]
    progress: ProgressShape
    cost_usd: Usd
    error: str | None = Field(description="Why a failed run failed.")
    snapshot_id: UUID | None
    row_count: int | None
    dataset_size: dict[str, Any]
    early_stopping: bool = Field(validation_alias="stops_early")
    max_cost_usd: Usd | None
    source_run_id: UUID | None = Field(description="The run that it scores again or replays.")
    ranking: RankingShape | None
    created_at: Instant
    started_at: Instant | None
    finished_at: Instant | None


class ListShape(Shape):
    """What every list has beside its items."""

    count: int = Field(description="Items in this answer.")
    total: int = Field(description="Items in all.")
    limit: int
    offset: int


class LeaderboardList(ListShape):
    """Leaderboards, newest first."""

    leaderboards: list[LeaderboardShape]


class CandidateList(ListShape):
    """A leaderboard's candidate models, in the order they were added."""

    models: list[CandidateShape]


class RunList(ListShape):
    """A leaderboard's runs, newest first."""

    runs: list[RunShape]


class TraceShape(Shape):
    """A model call."""

    id: UUID
    leaderboard_id: UUID | None
    run_id: UUID | None
    source: TraceSource
    status: Literal["ok", "error", "cancelled"]
    provider: str | None
    model: str | None
    leaderboard_model_id: UUID | None = Field(validation_alias="candidate_id")
    input: str | None
    messages: list[Any] | None
    output: str | None
    expected: str | None
    score: float | None
    error: str | None
    latency_ms: float
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_usd: Usd | None
    token_id: UUID | None
    metadata: dict[str, Any] = Field(validation_alias="trace_metadata")
    created_at: Instant


class TraceList(Shape):
    """Traces, newest first."""

    leaderboard_id: UUID
    traces_url: str
    count: int
    limit: int
    offset: int
    batch_count: int = Field(description="UTC days looked at.")
    scanned_rows: int = Field(description="Matching traces looked at, those passed over included.")
    rows: list[TraceShape]


class TraceStatsPointShape(Shape):
    """What the traces of an hour or a UTC day come to."""

    begins_at: Instant
    model: str | None = Field(description="Whose, by model; empty when it is not known.")
    source: TraceSource | None
    count: int
    error_count: int
    latency_ms_p50: float = Field(description="Within 2.5% of the true one, as the others.")
    latency_ms_p95: float
    latency_ms_p99: float
    prompt_tokens: int
    completion_tokens: int
    cost_usd: Usd
    unpriced_count: int = Field(description="Traces whose cost is not known.")


class TraceStatsShape(Shape):
    """What traces come to over time; intervals without any have no point."""

    leaderboard_id: UUID
    interval: Literal["hour", "day"]
    by: Literal["none", "model", "source"]
    points: list[TraceStatsPointShape]


class InferenceShape(BaseModel):
    """An OpenAI chat completion, and what is ours beside it."""

    model_config = ConfigDict(extra="allow")

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[dict[str, Any]]
    usage: dict[str, Any] | None
    output: str
    trace_id: UUID
    leaderboard_id: UUID
    cost_usd: Usd | None
    latency_ms: float
