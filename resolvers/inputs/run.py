"""Inputs about runs."""

from decimal import Decimal
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AliasChoices, Field, model_validator

from resolvers.inputs.base import Input, RuleError

MAX_SEED = 2**63 - 1
Ceiling = Annotated[Decimal, Field(gt=0, le=1_000_000, max_digits=18, decimal_places=9)]


class RowLimit(Input):
    """At most so many rows, and which."""

    auto: bool = Field(default=False, description="Let the server choose: at most 1,000 rows.")
    rows: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    algorithm: Literal["LAST_N", "RANDOM_SHUFFLE", "WEIGHTED_SHUFFLE"] = Field(
        default="LAST_N",
        description="Which: the last ones, those that were pushed last of a pushed dataset; or "
        "drawn by the seed, all rows alike or by their weights. A row of weight 0 is never drawn "
        "by weight.",
    )

    @model_validator(mode="after")
    def _rows_or_auto(self) -> Self:
        if not self.auto and self.rows is None:
            raise RuleError("rows", "is required unless auto is true")
        return self


class DatasetSize(Input):
    """Which rows of the dataset a run uses."""

    mode: Literal["ALL", "LIMIT"] = "ALL"
    limit: RowLimit | None = None
    split: Literal["ALL", "TRAIN", "VALIDATION"] = Field(
        default="ALL",
        description="Of which side. A row's input puts it on one side for ever, a fifth of the "
        "inputs on the validation side; models are trained on the other.",
    )
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = Field(
        default=None, description="Makes a shuffle repeatable; chosen and shown when left out."
    )

    @model_validator(mode="after")
    def _limit_goes_with_its_mode(self) -> Self:
        if (self.mode == "LIMIT") != (self.limit is not None):
            raise RuleError("limit", "goes with mode LIMIT")
        return self


class RunRequest(Input):
    """What runs of every kind are asked for with."""

    dataset: DatasetSize = DatasetSize()
    max_cost_usd: Ceiling | None = Field(
        default=None,
        description="The run stops before its calls can have cost more. Every candidate needs "
        "prices, so that the most a call may cost is known before it is made.",
    )
    leaderboard_model_ids: Annotated[list[UUID], Field(min_length=1, max_length=200)] | None = (
        Field(
            default=None,
            validation_alias=AliasChoices(
                "leaderboard_model_ids", "leaderboardModelIds", "candidate_ids", "candidateIds"
            ),
            description="The candidates to ask; all of them when left out.",
        )
    )


class NewRun(RunRequest):
    """What a run is asked to rank."""

    early_stopping: bool = Field(
        default=False,
        description="Stop asking candidates that can no longer win, at 95% confidence.",
    )


class NewImprovement(RunRequest):
    """What a run is asked to improve a dataset by."""

    auto_apply: bool = Field(
        default=False,
        description="Accept all that is proposed, instead of leaving it to a person.",
    )
