"""Inputs about traces."""

from decimal import Decimal
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import Field, StringConstraints, field_validator, model_validator

from resolvers.inputs.base import Input, RuleError, WrittenInstant
from resolvers.trace_filter import TraceFilter, TraceSource

MAX_ROWS = 10_000
Text = Annotated[str, StringConstraints(max_length=1_000_000)]


class NewFeedback(Input):
    """What somebody says of a model call."""

    trace_id: UUID
    score: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = Field(
        default=None, description="How good the answer was, 0 to 1."
    )
    correction: Text | None = Field(default=None, description="What it should have been.")
    comment: Text | None = None

    @field_validator("comment")
    @classmethod
    def _none_if_blank(cls, value: str | None) -> str | None:
        return value if value and value.strip() else None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.score is None and self.correction is None and self.comment is None:
            raise ValueError("one of score, correction and comment is needed")
        return self


class RowsFromTraces(Input):
    """Which traces become rows, and what those expect."""

    trace_ids: Annotated[list[UUID], Field(min_length=1, max_length=MAX_ROWS)] | None = Field(
        default=None, description="These alone, of those that the filter admits."
    )
    limit: Annotated[int, Field(ge=1, le=MAX_ROWS)] = Field(
        default=1_000, description="Traces at most, the newest first."
    )
    expected: Literal["output", "feedback", "none"] = Field(
        default="none",
        description="output: what the model answered. feedback: what a person said it should have "
        "answered, or its answer where a person's score of it is at least min_score; a trace "
        "without either is passed over. none: nothing.",
    )
    min_score: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 1.0
    tags: Annotated[tuple[Text, ...], Field(max_length=100)] = ()


Limit = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Cost = Annotated[Decimal, Field(ge=0, le=1_000_000_000, decimal_places=12)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=1_000)]


class TraceConditions(Input):
    """Which traces are asked for; what is left out does not matter."""

    source: TraceSource | None = None
    status: Literal["ok", "error", "cancelled"] | None = None
    provider: Word | None = None
    model: Word | None = None
    leaderboard_id: UUID | None = None
    run_id: UUID | None = None
    candidate_id: UUID | None = None
    token_id: UUID | None = None
    since: WrittenInstant | None = None
    until: WrittenInstant | None = None
    min_latency_ms: Limit | None = None
    max_latency_ms: Limit | None = None
    min_cost_usd: Cost | None = None
    max_cost_usd: Cost | None = None
    min_score: Annotated[float, Field(allow_inf_nan=False)] | None = None
    max_score: Annotated[float, Field(allow_inf_nan=False)] | None = None
    has_error: bool | None = None
    metadata_key: Word | None = None
    metadata_value: Annotated[str, StringConstraints(max_length=1_000)] | None = None
    search: Word | None = None

    @field_validator("search")
    @classmethod
    def _has_a_word(cls, value: str | None) -> str | None:
        if value is not None and not any(map(str.isalnum, value)):
            raise ValueError("must hold a word")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for low, high in (
            ("since", "until"),
            ("min_latency_ms", "max_latency_ms"),
            ("min_cost_usd", "max_cost_usd"),
            ("min_score", "max_score"),
        ):
            least, most = getattr(self, low), getattr(self, high)
            if least is not None and most is not None and least > most:
                raise RuleError(low, f"must not be above {high} (got {least} and {most})")
        if self.metadata_value is not None and self.metadata_key is None:
            raise RuleError("metadata_value", "needs a metadata_key")
        return self

    def to_filter(self) -> TraceFilter:
        """Return it as the conditions of a statement."""
        return TraceFilter(**dict(self))
