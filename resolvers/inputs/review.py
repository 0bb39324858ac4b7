"""Inputs about reviews."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from resolvers.inputs.base import Input


class SkippedReview(Input):
    """A review that is passed on."""

    comment: Annotated[str, StringConstraints(max_length=10_000)] | None = None


class NewReview(SkippedReview):
    """What a reviewer says."""

    score: Annotated[float, Field(allow_inf_nan=False)] | None = Field(
        default=None, description="On the evaluation's scale."
    )
    preferred: Literal["first", "second", "tie"] | None = None

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if (self.score is None) == (self.preferred is None):
            raise ValueError("score or preferred is required, and not both")
        return self
