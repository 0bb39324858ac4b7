"""The most that one model call can use and cost, worked out from what is sent before it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Any
from urllib.parse import urlsplit

import orjson

from db.base import USD_PLACES
from providers.base import ChatTarget
from resolvers.errors import InvalidInputError, PriceUnknownError

MAX_TOKENS = 10_000_000
MAX_CHOICES = 128
# The parameters that bound a call, each with the largest value that is not a slip.
BOUNDS = {
    "max_tokens": MAX_TOKENS,
    "max_completion_tokens": MAX_TOKENS,
    "n": MAX_CHOICES,
    "best_of": MAX_CHOICES,
}
# With these a provider bills by other rules than tokens of this model at this price.
OTHERWISE_BILLED = frozenset({
    "audio",
    "modalities",
    "models",
    "plugins",
    "prediction",
    "preset",
    "provider",
    "service_tier",
    "web_search_options",
})  # fmt: skip
# But for these values; null is one for all of them.
PLAINLY_BILLED: Mapping[str, Sequence[object]] = {
    "modalities": (None, ["text"]),
    "service_tier": (None, "default"),
}
# Parts of messages that are text, each under the name of its kind.
TEXT_PARTS = frozenset({"text", "refusal"})
# Chat templates wrap each message in a few tokens of their own, and tools in an instruction.
TOKENS_A_MESSAGE = 16
TOKENS_OF_TOOLS = 1_000
BYTES_A_TOKEN = 4
MILLION = 1_000_000
OPENAI_HOST = ".api.openai.com"  # regions have names before it
SMALLEST_USD = Decimal(1).scaleb(-USD_PLACES)


@dataclass(slots=True)
class CallSize:
    """A call that can't send and generate more than is known.

    Attributes:
        params: What is sent beside the messages, with a bound where the caller set none.
        sent_bytes: Of what is sent, as JSON.
        most_prompt_tokens: The most that it can send.
        most_completion_tokens: The most that it can generate.
    """

    params: Mapping[str, Any]
    sent_bytes: int
    most_prompt_tokens: int
    most_completion_tokens: int

    @property
    def likely_tokens(self) -> int:
        """About what it sends, and the most that it can generate.

        Source: https://help.openai.com/en/articles/4936856, four characters of English a token.
        """
        return -(-self.sent_bytes // BYTES_A_TOKEN) + self.most_completion_tokens


@dataclass(slots=True)
class BoundedCall:
    """A call that can't cost more than is known.

    Attributes:
        params: What is sent beside the messages, with a bound where the caller set none.
        most_usd: The most that it can cost, in US dollars.
    """

    params: Mapping[str, Any]
    most_usd: Decimal


def find_wrong_bound(params: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the first parameter that should bound a call and can't, and what it must be."""
    for name, most in BOUNDS.items():
        value = params.get(name)
        if value is not None and (type(value) is not int or not 1 <= value <= most):
            return name, f"must be a whole number from 1 to {most}"
    return None


def size_call(
    target: ChatTarget,
    messages: Sequence[Mapping[str, Any]],
    params: Mapping[str, Any],
    *,
    default_max_tokens: int,
) -> CallSize:
    """Return a call with the most that it can send and generate.

    A byte-level tokenizer makes at most one token of each byte that is sent,
    and each of the choices generates at most `max_tokens`.

    Args:
        target: Who is called.
        messages: What is sent.
        params: The caller's, which override the target's own.
        default_max_tokens: Generated at most, where neither sets a bound.

    Raises:
        InvalidInputError: A bound is not a number that bounds.
    """
    merged = target.merge(params)
    longest, choices = 0, 1
    if not BOUNDS.keys().isdisjoint(merged):
        longest, choices = _read_bounds(merged)
    if longest == 0:
        longest = default_max_tokens
        bound = {_bound_of(target): longest}
        merged |= bound
        params = {**params, **bound}
    merged["messages"] = list(messages)
    # Written as it is sent: it was checked when it came, and to do that again takes seconds.
    sent_bytes = len(orjson.dumps(merged))
    prompt_tokens = sent_bytes + TOKENS_A_MESSAGE * len(messages)
    if merged.get("tools") or merged.get("functions"):
        prompt_tokens += TOKENS_OF_TOOLS
    return CallSize(params, sent_bytes, prompt_tokens, longest * choices)


def _bound_of(target: ChatTarget) -> str:
    """Return the parameter that bounds an answer there.

    OpenAI's reasoning models refuse `max_tokens`, which most other servers know alone. Source:
    https://platform.openai.com/docs/api-reference/chat/create, `max_tokens`.
    """
    host = urlsplit(target.url).hostname if target.url is not None else None
    is_openai = host is not None and f".{host}".endswith(OPENAI_HOST)
    return "max_completion_tokens" if is_openai else "max_tokens"


def _read_bounds(params: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many tokens an answer has at most, 0 for no bound, and how many answers there are.

    Raises:
        InvalidInputError: A bound is not a number that bounds.
    """
    wrong = find_wrong_bound(params)
    if wrong is not None:
        raise InvalidInputError(": ".join(wrong), details={"field": wrong[0]})
    longest = max(params.get("max_tokens") or 0, params.get("max_completion_tokens") or 0)
    return longest, max(params.get("n") or 1, params.get("best_of") or 1)


def bound_call(
    target: ChatTarget,
    messages: Sequence[Mapping[str, Any]],
    params: Mapping[str, Any],
    size: CallSize,
    *,
    name: str = "the model",
) -> BoundedCall:
    """Return a call with the most that it can cost.

    Args:
        target: Who is called, and at what price.
        messages: What is sent.
        params: The caller's, which override the target's own.
        size: From `size_call`.
        name: The model's, for people.

    Raises:
        PriceUnknownError: Nothing bounds the call.
    """
    _refuse_what_has_no_bound(messages, params)
    input_price, output_price = _prices(target, name)
    total = input_price * size.most_prompt_tokens + output_price * size.most_completion_tokens
    return BoundedCall(size.params, (total / MILLION).quantize(SMALLEST_USD, ROUND_CEILING))


def _prices(target: ChatTarget, name: str) -> tuple[Decimal, Decimal]:
    """Return the prices of a million tokens in and out, in US dollars."""
    input_price = target.input_price_per_million_usd
    output_price = target.output_price_per_million_usd
    if input_price is None or output_price is None:
        raise PriceUnknownError(
            f"what {name} charges is not known, so a token with a budget can't call it: add it "
            "with input_price_per_million_usd and output_price_per_million_usd (0 if it is free)",
            details={"reason": "price_unknown"},
        )
    return input_price, output_price


def _refuse_what_has_no_bound(
    messages: Sequence[Mapping[str, Any]], params: Mapping[str, Any]
) -> None:
    """Refuse what costs more than its bytes; a candidate's own parameters are its owner's choice.

    Raises:
        PriceUnknownError: Something in the request is.
    """
    unbounded = []
    if not OTHERWISE_BILLED.isdisjoint(params):
        unbounded += [
            name
            for name in params
            if name in OTHERWISE_BILLED and params[name] not in PLAINLY_BILLED.get(name, (None,))
        ]
    tools = params.get("tools")
    if isinstance(tools, list) and not all(_is_a_function(tool) for tool in tools):
        unbounded.append("tools")
    for position, message in enumerate(messages):
        parts = message.get("content")
        if isinstance(parts, list) and not all(_is_text(part) for part in parts):
            unbounded.append(f"messages.{position}.content")
    if unbounded:
        raise PriceUnknownError(
            f"{unbounded[0]}: what this may cost can't be bounded, so a token with a budget "
            "can't send it",
            details={"reason": "unbounded", "field": unbounded[0]},
        )


def _is_a_function(tool: object) -> bool:
    return isinstance(tool, dict) and tool.get("type", "function") == "function"


def _is_text(part: object) -> bool:
    return (
        isinstance(part, dict)
        and (kind := part.get("type")) in TEXT_PARTS
        and isinstance(part.get(kind), str)
    )
