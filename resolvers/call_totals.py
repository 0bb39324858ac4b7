"""What many calls of one model may cost together, before any of them is made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from providers.base import ChatTarget
from resolvers.call_bounds import MILLION, bound_call, size_call

ZERO = Decimal(0)
# For a call that nothing has been seen of: a byte-level tokenizer makes about one token of four
# characters of English, and an answer is taken for a paragraph.
CHARACTERS_A_TOKEN = 4
ASSUMED_COMPLETION_TOKENS = 200
# Of an expectation, in US dollars.
SHOWN_PLACES = 9


@dataclass(frozen=True, slots=True)
class Expectation:
    """What calls may cost, in US dollars.

    Attributes:
        expected_usd: None when the model's prices are not known.
        most_usd: The most that they can cost; None when its prices are not known.
        basis: Whether the expectation rests on earlier answers, or on assumptions.
    """

    expected_usd: Decimal | None
    most_usd: Decimal | None
    basis: Literal["measured", "assumed"]


class CallTotal:
    """What calls of one model amount to, one added after the other.

    Args:
        target: The model; nobody calls it here.
        default_max_tokens: Generated at most by a call that sets no bound.
    """

    def __init__(self, target: ChatTarget, *, default_max_tokens: int) -> None:
        self._target = target
        self._default_max_tokens = default_max_tokens
        self._is_priced = None not in (
            target.input_price_per_million_usd,
            target.output_price_per_million_usd,
        )
        self._most_usd = self._assumed_usd = ZERO

    def add(
        self, messages: Sequence[Mapping[str, Any]], params: Mapping[str, Any] | None = None
    ) -> None:
        """Add a call."""
        if not self._is_priced:
            return
        target = self._target
        params = params or {}
        default = self._default_max_tokens
        size = size_call(target, messages, params, default_max_tokens=default)
        bounded = bound_call(target, messages, params, size)
        self._most_usd += bounded.most_usd
        tokens = sum(len(each["content"]) for each in messages) // CHARACTERS_A_TOKEN
        cost = (target.input_price_per_million_usd or ZERO) * tokens
        cost += (target.output_price_per_million_usd or ZERO) * ASSUMED_COMPLETION_TOKENS
        self._assumed_usd += cost / MILLION

    def expect(self, mean_usd: Decimal | None, count: int, *, tries: int = 1) -> Expectation:
        """Return what the calls may cost.

        Args:
            mean_usd: What earlier ones cost on average; None when there were none.
            count: How many there are.
            tries: How often each may have to be made.
        """
        most_usd = self._most_usd * tries if self._is_priced else None
        if mean_usd is not None:
            expected_usd = round(mean_usd * count, SHOWN_PLACES)
            if most_usd is not None:
                expected_usd = min(expected_usd, most_usd)
            return Expectation(expected_usd, most_usd, basis="measured")
        assumed_usd = min(self._assumed_usd, self._most_usd) if self._is_priced else None
        return Expectation(assumed_usd, most_usd, basis="assumed")
