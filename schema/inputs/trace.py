"""Inputs about traces."""

from datetime import datetime
from decimal import Decimal

import strawberry

from resolvers.inputs import TraceConditions
from resolvers.trace_filter import TraceFilter
from schema.enums import CallStatus, TraceSource
from schema.inputs.fields import given_fields


@strawberry.input(description="Which traces; what is left out does not matter.")
class TraceFilterInput:
    """`resolvers.traces.TraceFilter`."""

    source: TraceSource | None = strawberry.field(default=None, description="Made for this.")
    status: CallStatus | None = strawberry.field(default=None, description="Ended like this.")
    run_id: strawberry.ID | None = strawberry.field(default=None, description="Of this run.")
    candidate_id: strawberry.ID | None = strawberry.field(
        default=None, description="Of this candidate."
    )
    leaderboard_id: strawberry.ID | None = strawberry.field(
        default=None, description="Of this leaderboard."
    )
    since: datetime | None = strawberry.field(
        default=None, description="Made at this instant or later."
    )
    until: datetime | None = strawberry.field(default=None, description="Made before this instant.")
    provider: str | None = strawberry.field(default=None, description="Served by this provider.")
    model: str | None = strawberry.field(default=None, description="Of this model.")
    token_id: strawberry.ID | None = strawberry.field(
        default=None, description="Charged to this API token."
    )
    min_latency_ms: float | None = strawberry.field(
        default=None, description="Took so many milliseconds or more."
    )
    max_latency_ms: float | None = strawberry.field(
        default=None, description="Took so many milliseconds or less."
    )
    min_cost_usd: Decimal | None = strawberry.field(
        default=None, description="Cost so much or more, and it is known."
    )
    max_cost_usd: Decimal | None = strawberry.field(
        default=None, description="Cost so much or less, and it is known."
    )
    min_score: float | None = strawberry.field(
        default=None, description="Was scored so much or more, in a run; feedback is no score."
    )
    max_score: float | None = strawberry.field(
        default=None, description="Was scored so much or less, in a run."
    )
    has_error: bool | None = strawberry.field(
        default=None, description="Whether an error was told."
    )
    metadata_key: str | None = strawberry.field(
        default=None, description="Has this key at the top of its metadata."
    )
    metadata_value: str | None = strawberry.field(
        default=None,
        description="And this is that key's value: a string, or a number, true, false or null as "
        "JSON writes it.",
    )
    search: str | None = strawberry.field(
        default=None,
        description="Has these words in the first 50,000 characters of its input or its output. "
        "Words in quotation marks follow each other, OR is between alternatives, and a minus "
        "before what must not be there.",
    )


def read_trace_filter(given: TraceFilterInput | None) -> TraceFilter:
    """Return the filter that was given."""
    if given is None:
        return TraceFilter()
    return TraceConditions.model_validate(given_fields(given)).to_filter()
