"""Inputs about traces."""

from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import Field, StringConstraints, model_validator

from resolvers.inputs.base import Input

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
