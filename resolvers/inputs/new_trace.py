"""Inputs about model calls that clients report."""

from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from db.base import USD_PLACES
from resolvers.inputs.base import Input, Name, RuleError, WrittenInstant

MAX_TRACES = 1_000
MAX_MESSAGES = 10_000
Tokens = Annotated[int, Field(ge=0, le=2**31 - 1)]


def _rounded(cost_usd: Decimal) -> Decimal:
    """Round to what is stored: who multiplies prices in floats sends all the digits of these."""
    return round(cost_usd, USD_PLACES)


Cost = Annotated[Decimal, Field(ge=0, le=1_000_000), AfterValidator(_rounded)]


class NewTrace(Input):
    """A model call that was made elsewhere."""

    id: Annotated[str, StringConstraints(min_length=1, max_length=255)] | None = Field(
        default=None,
        description="Your own name for it. Together with started_at, it makes what is sent again "
        "the same trace.",
    )
    started_at: WrittenInstant | None = Field(
        default=None,
        description="When the call began: not longer ago than traces are kept, and not in the "
        "future. Now when it is left out.",
    )
    input: str | None = Field(default=None, description="What was asked.")
    messages: Annotated[list[dict[str, Any]], Field(max_length=MAX_MESSAGES)] | None = Field(
        default=None, description="What the model was sent, as OpenAI chat messages."
    )
    output: str | None = Field(default=None, description="What it answered.")
    expected: str | None = Field(default=None, description="What it should have answered.")
    provider: Name | None = Field(default=None, description="Who served the model.")
    model: Name | None = Field(default=None, description="The model that was called.")
    status: Literal["ok", "error", "cancelled"] | None = Field(
        default=None,
        description="How it ended; error when there is an error, else ok, when it is left out.",
    )
    error: str | None = Field(default=None, description="Why it failed.")
    latency_ms: Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)] = Field(
        default=0.0, description="Request sent to answer read, in milliseconds."
    )
    prompt_tokens: Tokens | None = Field(default=None, description="Tokens sent.")
    completion_tokens: Tokens | None = Field(default=None, description="Tokens generated.")
    cost_usd: Cost | None = Field(
        default=None, description="What it cost, in US dollars, rounded to 12 places."
    )
    score: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = Field(
        default=None, description="How good the answer was, 0 to 1."
    )
    metadata: dict[str, Any] = Field(default={}, description="What else is known of it.")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not (self.input or self.messages or self.output or self.error):
            raise ValueError("one of input, messages, output and error is needed")
        if self.error is not None and self.status == "ok":
            raise RuleError("status", "must not be ok of a call with an error")
        if self.id is not None and self.started_at is None:
            raise RuleError("started_at", "is required with an id, for both make it the same trace")
        return self


class NewTraces(Input):
    """Model calls that were made elsewhere."""

    traces: Annotated[list[NewTrace], Field(min_length=1, max_length=MAX_TRACES)]
