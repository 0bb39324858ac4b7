"""Inputs about labels that a model gives."""

from decimal import Decimal

import strawberry

from schema.enums import LabelField, LabelMode


@strawberry.input(description="Which labels a model is asked for, and of which rows.")
class StartAutoLabelsInput:
    """`resolvers.inputs.NewAutoLabels`."""

    leaderboard_id: strawberry.ID = strawberry.field(description="Whose dataset it is.")
    mode: LabelMode = strawberry.field(
        default=LabelMode.MISSING,
        description="What a row came with or a person said is never replaced, in either.",
    )
    fields: list[LabelField] | None = strawberry.field(
        default=strawberry.UNSET, description="What of rows; everything when left out."
    )
    limit: int | None = strawberry.field(
        default=strawberry.UNSET,
        description="Rows at most, the first that there is something to ask of.",
    )
    label_model: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="Who is asked, by OpenRouter's name for it; the server's choice when left out.",
    )
    max_cost_usd: Decimal | None = strawberry.field(
        default=strawberry.UNSET,
        description="US dollars; the job stops before its calls can have cost more.",
    )


@strawberry.input(description="A job to end.")
class CancelJobInput:
    """Names it."""

    id: strawberry.ID = strawberry.field(description="The job.")
