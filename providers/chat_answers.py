"""What a model's answer says: its output, its usage and its cost."""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

from providers.base import ChatAnswer, ChatTarget, CostSource, ProviderError, ProviderErrorCode
from providers.http_failures import find_stated_failure, read_answered, shown_text

PLAIN_OUTPUT_FIELDS = ("output", "text", "generated_text", "response", "content")
CHUNK = "chat.completion.chunk"
MICRO = Decimal("0.000000000001")
MILLION = Decimal(1_000_000)


def read_answer(content: bytes, target: ChatTarget) -> ChatAnswer:
    """Take output, usage and cost from a 2xx body.

    Raises:
        ProviderError: No output can be found in it, or it says that the call failed.
    """
    output, fields = _read(content, target)
    return build_answer(output, fields if "choices" in fields else None, fields, target)


def read_as_chunk(content: bytes, target: ChatTarget) -> dict[str, Any]:
    """Return a whole answer as the one `chat.completion.chunk` of a stream, usage included.

    Raises:
        ProviderError: As `read_answer`.
    """
    output, fields = _read(content, target)
    if "choices" in fields:
        choices = [_as_delta(each) for each in fields["choices"] if isinstance(each, dict)]
        return {**fields, "object": CHUNK, "choices": choices}
    told: dict[str, Any] = {name: fields[name] for name in ("usage", "cost_usd") if name in fields}
    delta = {"role": "assistant", "content": output}
    choice = {"index": 0, "delta": delta, "finish_reason": "stop"}
    return {"object": CHUNK, "choices": [choice], **told}


def _as_delta(choice: dict[str, Any]) -> dict[str, Any]:
    delta = choice.get("message")
    calls = delta.get("tool_calls") if isinstance(delta, dict) else None
    if isinstance(delta, dict) and isinstance(calls, list):
        numbered = [
            {"index": index, **call} for index, call in enumerate(calls) if isinstance(call, dict)
        ]
        delta = {**delta, "tool_calls": numbered}
    return {**{name: choice[name] for name in choice if name != "message"}, "delta": delta}


def _read(content: bytes, target: ChatTarget) -> tuple[str, dict[str, Any]]:
    """Return the output of a 2xx body, and its fields when it is an object."""
    value = _parse(content)
    output = _find_output(value)
    fields = value if isinstance(value, dict) else {}
    if output is None:
        stated = find_stated_failure(fields, content, sent=target.headers)
        raise stated or ProviderError(
            ProviderErrorCode.INVALID_RESPONSE,
            "no output in the answer: expected an OpenAI chat completion, one of the fields "
            f"{', '.join(PLAIN_OUTPUT_FIELDS)}, a list with 'generated_text', or a text",
            body=shown_text(content, target.headers),
            answered=read_answered(content, target.headers),
        )
    return output, fields


def build_answer(
    output: str, completion: dict[str, Any] | None, fields: Mapping[str, Any], target: ChatTarget
) -> ChatAnswer:
    """Put an answer together.

    Args:
        output: The text of the first choice.
        completion: The whole answer when it is an OpenAI chat completion.
        fields: Where `usage` and `cost_usd` are, if they are told.
        target: Who answered, and at what price.
    """
    stated = fields.get("usage")
    usage: dict[str, Any] = stated if isinstance(stated, dict) else {}
    prompt_tokens = _count(usage, "prompt_tokens")
    completion_tokens = _count(usage, "completion_tokens")
    cost_usd, cost_source = _cost(fields, usage, prompt_tokens, completion_tokens, target)
    output = output.replace("\x00", "\ufffd")
    # By position: names cost as much again, of what is made for each call.
    return ChatAnswer(output, completion, prompt_tokens, completion_tokens, cost_usd, cost_source)


def _parse(content: bytes) -> object:
    try:
        parsed: object = orjson.loads(content)
    except orjson.JSONDecodeError:
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError:
            return None
    return parsed


def _find_output(value: object) -> str | None:
    if isinstance(value, str):
        return value if value.strip() else None
    if isinstance(value, list):
        first = value[0] if value else None
        return _text(first.get("generated_text")) if isinstance(first, dict) else None
    if not isinstance(value, dict):
        return None
    choices = value.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        message = choices[0].get("message")
        if isinstance(message, dict):
            content = _text(message.get("content"))
            if content is not None:
                return content
            return "" if message.get("tool_calls") or message.get("refusal") else None
        return None
    return next((text for name in PLAIN_OUTPUT_FIELDS if (text := _text(value.get(name)))), None)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _count(usage: Mapping[str, Any], name: str) -> int | None:
    value = usage.get(name)
    return value if type(value) is int and 0 <= value < 2**31 else None


def _cost(
    fields: Mapping[str, Any],
    usage: Mapping[str, Any],
    prompt_tokens: int | None,
    completion_tokens: int | None,
    target: ChatTarget,
) -> tuple[Decimal | None, CostSource]:
    """Return what the call cost in US dollars, the provider's figure first, and whose it is."""
    for stated in (usage.get("cost"), fields.get("cost_usd")):
        if stated is None:
            continue
        if isinstance(stated, int | float | str) and not isinstance(stated, bool):
            try:
                figure = Decimal(str(stated))
            except InvalidOperation:
                continue
            if figure.is_finite() and 0 <= figure < 1_000_000:  # noqa: PLR2004 - not a price
                return figure.quantize(MICRO), "provider"
    computed = price_tokens(target, prompt_tokens, completion_tokens)
    return computed, "unknown" if computed is None else "computed"


def price_tokens(
    target: ChatTarget, prompt_tokens: int | None, completion_tokens: int | None
) -> Decimal | None:
    """Return tokens times the target's prices in US dollars, or None when any is unknown."""
    if (
        prompt_tokens is None
        or completion_tokens is None
        or target.input_price_per_million_usd is None
        or target.output_price_per_million_usd is None
    ):
        return None
    total = (
        target.input_price_per_million_usd * prompt_tokens
        + target.output_price_per_million_usd * completion_tokens
    )
    return (total / MILLION).quantize(MICRO)
