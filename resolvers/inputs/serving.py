"""How production is served: what may stand in for it, and what a call may cost."""

from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from resolvers.inputs.base import Input, RuleError

MAX_FALLBACK_MODELS = 5


class Serving(Input):
    """How a leaderboard's inference endpoint serves."""

    fallback_models: Annotated[int, Field(ge=0, le=MAX_FALLBACK_MODELS)] = Field(
        default=0,
        description="How many of the ranking's next models may serve, one after another, when "
        "the model in production fails.",
    )
    unknown_price: Literal["refuse", "allow"] = Field(
        default="refuse",
        description="What becomes of a call whose most can't be told, by a token with a budget: "
        "refused with 402, or allowed, and hold_usd set aside for it.",
    )
    hold_usd: Annotated[Decimal, Field(gt=0, le=10_000, decimal_places=9)] | None = Field(
        default=None,
        description="US dollars set aside for a call on a token's budget, in place of the most "
        "that its tokens may cost. A call that costs more is charged in full all the same.",
    )

    @model_validator(mode="after")
    def _can_be_held(self) -> Self:
        if self.unknown_price == "allow" and self.hold_usd is None:
            raise RuleError("hold_usd", "is required with unknown_price allow: it is set aside")
        return self
