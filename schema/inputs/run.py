"""Inputs about runs."""

from decimal import Decimal

import strawberry

from schema.enums import CallStatus, DatasetSizeMode, DatasetSplit, RowAlgorithm


@strawberry.input(description="Which of a run's results.")
class ResultFilterInput:
    """`resolvers.runs.ResultFilter`."""

    candidate_id: strawberry.ID | None = strawberry.field(
        default=None, description="Of this candidate."
    )
    status: CallStatus | None = strawberry.field(
        default=None, description="Answered, or ended in an error."
    )
    min_score: float | None = strawberry.field(
        default=None, description="Scored so much or more, 0 to 1."
    )
    max_score: float | None = strawberry.field(
        default=None, description="Scored so much or less, 0 to 1."
    )


@strawberry.input(description="At most so many rows, and which.")
class RowLimitInput:
    """`resolvers.inputs.RowLimit`."""

    auto: bool = strawberry.field(
        default=False, description="Let the server choose: at most 1,000."
    )
    rows: int | None = strawberry.field(default=None, description="Rows at most.")
    algorithm: RowAlgorithm = strawberry.field(
        default=RowAlgorithm.LAST_N, description="Which rows."
    )


@strawberry.input(description="Which rows of the dataset a run uses.")
class DatasetSizeInput:
    """`resolvers.inputs.DatasetSize`."""

    mode: DatasetSizeMode = strawberry.field(
        default=DatasetSizeMode.ALL, description="All of them, or a limited number."
    )
    limit: RowLimitInput | None = strawberry.field(
        default=None, description="Goes with mode LIMIT."
    )
    split: DatasetSplit = strawberry.field(
        default=DatasetSplit.ALL, description="Of both sides of the dataset, or of one."
    )
    seed: int | None = strawberry.field(default=None, description="Makes a shuffle repeatable.")


@strawberry.input(description="What to rank.")
class StartRunInput:
    """`resolvers.inputs.NewRun`."""

    leaderboard_id: strawberry.ID = strawberry.field(description="The leaderboard.")
    dataset: DatasetSizeInput | None = strawberry.field(
        default=strawberry.UNSET, description="Which rows; every row when left out."
    )
    candidate_ids: list[strawberry.ID] | None = strawberry.field(
        default=strawberry.UNSET, description="Which candidates; all of them when left out."
    )
    early_stopping: bool = strawberry.field(
        default=False,
        description="Stop asking candidates that can no longer win, at 95% confidence.",
    )
    max_cost_usd: Decimal | None = strawberry.field(
        default=strawberry.UNSET,
        description="US dollars; the run stops before its calls can have cost more.",
    )


@strawberry.input(description="A run to end.")
class CancelRunInput:
    """Names it."""

    id: strawberry.ID = strawberry.field(description="The run.")


@strawberry.input(description="A run to score again, or to replay.")
class RepeatRunInput:
    """Names it."""

    run_id: strawberry.ID = strawberry.field(description="The run; it has ended.")
