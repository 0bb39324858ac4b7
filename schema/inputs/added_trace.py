"""Inputs about model calls that were made elsewhere."""

from datetime import datetime
from decimal import Decimal

import strawberry
from strawberry.scalars import JSON

from schema.enums import CallStatus


@strawberry.input(
    description="A model call that was made elsewhere; one of input, messages, output and error "
    "is needed."
)
class AddTraceInput:
    """`resolvers.inputs.NewTrace`."""

    leaderboard_id: strawberry.ID | None = strawberry.field(
        default=None, description="To which leaderboard it belongs; to none when it is left out."
    )
    id: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="Your own name for it, 255 characters at most. Together with startedAt, it "
        "makes what is sent again the same trace.",
    )
    started_at: datetime | None = strawberry.field(
        default=strawberry.UNSET,
        description="When the call began: not longer ago than traces are kept, and not in the "
        "future. Now when it is left out.",
    )
    input: str | None = strawberry.field(
        default=strawberry.UNSET, description="What was asked; the messages' text when left out."
    )
    messages: list[JSON] | None = strawberry.field(
        default=strawberry.UNSET, description="What the model was sent, as OpenAI chat messages."
    )
    output: str | None = strawberry.field(default=strawberry.UNSET, description="What it answered.")
    expected: str | None = strawberry.field(
        default=strawberry.UNSET, description="What it should have answered."
    )
    provider: str | None = strawberry.field(
        default=strawberry.UNSET, description="Who served the model."
    )
    model: str | None = strawberry.field(
        default=strawberry.UNSET, description="The model that was called."
    )
    status: CallStatus | None = strawberry.field(
        default=strawberry.UNSET,
        description="How it ended; ERROR when there is an error, else OK, when it is left out.",
    )
    error: str | None = strawberry.field(default=strawberry.UNSET, description="Why it failed.")
    latency_ms: float = strawberry.field(
        default=0.0, description="Request sent to answer read, in milliseconds."
    )
    prompt_tokens: int | None = strawberry.field(
        default=strawberry.UNSET, description="Tokens sent."
    )
    completion_tokens: int | None = strawberry.field(
        default=strawberry.UNSET, description="Tokens generated."
    )
    cost_usd: Decimal | None = strawberry.field(
        default=strawberry.UNSET, description="What it cost, in US dollars, rounded to 12 places."
    )
    score: float | None = strawberry.field(
        default=strawberry.UNSET, description="How good the answer was, 0 to 1."
    )
    metadata: JSON | None = strawberry.field(
        default=strawberry.UNSET, description="An object: what else is known of it."
    )
