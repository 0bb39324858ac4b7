"""Inputs about labels that a model gives."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from engine.edits import EditField
from engine.label_prompts import LABELLED_FIELDS
from resolvers.inputs.base import Input, ModelId
from resolvers.inputs.run import Ceiling

LabelledField = Literal["expected", "tags", "quality", "rubric"]


class NewAutoLabels(Input):
    """Which labels a model is asked for, and of which rows."""

    mode: Literal["missing", "all"] = Field(
        default="missing",
        description="missing: what rows lack; all: also anew what a model said earlier. What a row "
        "came with or a person said is never replaced.",
    )
    limit: Annotated[int, Field(ge=1, le=10_000_000)] | None = Field(
        default=None, description="Rows at most, the first that there is something to ask of."
    )
    label_model: ModelId | None = Field(
        default=None,
        description="Who is asked, by OpenRouter's name for it; when left out, the first of "
        "GERO_JUDGE_MODELS that is of another family than the leaderboard's models.",
    )
    fields: Annotated[list[LabelledField], Field(min_length=1, max_length=4)] = Field(
        default=[field.value for field in LABELLED_FIELDS],  # type: ignore[misc]
        description="What is asked for.",
    )
    max_cost_usd: Ceiling | None = Field(
        default=None,
        description="The job stops before its calls can have cost more. The model needs prices.",
    )

    @field_validator("fields")
    @classmethod
    def _each_once_in_order(cls, value: list[LabelledField]) -> list[LabelledField]:
        return [field for field in LABELLED_FIELDS if field in value]  # type: ignore[misc]

    @property
    def edit_fields(self) -> list[EditField]:
        """What is asked for, as edits name it."""
        return [EditField(field) for field in self.fields]
