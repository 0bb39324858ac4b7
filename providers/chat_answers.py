"""What a model's answer says: its output, its usage and its cost."""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from providers.answer_json import first_choice, load_json
from providers.base import ChatAnswer, ChatTarget, CostSource, ProviderError, ProviderErrorCode
from providers.event_stream import BYTE_ORDER_MARK
from providers.http_failures import find_stated_failure, read_answered, shown_text

PLAIN_OUTPUT_FIELDS = ("output", "text", "generated_text", "response", "content")
CHUNK = "chat.completion.chunk"
# Of the tools that an answer calls, those whose names are told, and how much of them.
MAX_TOLD_TOOLS = 20
MAX_NAME_CHARACTERS = 100
MICRO = Decimal("0.000000000001")
MILLION = Decimal(1_000_000)


def read_answer(content: bytes, target: ChatTarget, media_type: str | None = None) -> ChatAnswer:
    """Take output, usage and cost from a 2xx body.

    Args:
        content: The body.
        target: Who answered.
        media_type: What it says that it is.

    Raises:
        ProviderError: No output can be found in it, or it says that the call failed.
    """
    output, fields = _read(content, target, media_type)
    completion = fields if isinstance(fields.get("choices"), list) else None
    return build_answer(output, completion, fields, target)


def read_as_chunk(
    content: bytes, target: ChatTarget, media_type: str | None = None
) -> dict[str, Any]:
    """Return a whole answer as the one `chat.completion.chunk` of a stream, usage included.

    Takes and raises what `read_answer` does.
    """
    output, fields = _read(content, target, media_type)
    if isinstance(fields.get("choices"), list):
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


def _read(content: bytes, target: ChatTarget, media_type: str | None) -> tuple[str, dict[str, Any]]:
    """Return the output of a 2xx body, and its fields when it is an object."""
    try:
        value = _parse(content, may_be_text=(media_type or "").lower().startswith("text/"))
    except ValueError as error:
        reason = f"the answer is not the JSON that it begins as: {error}"
        raise _invalid(reason, content, target) from error
    output = _find_output(value)
    fields = value if isinstance(value, dict) else {}
    if output is None or fields.get("object") == "error" or first_choice(fields).get("error"):
        stated = find_stated_failure(fields, content, sent=target.headers)
        raise stated or _invalid(
            "no output in the answer: expected an OpenAI chat completion, one of the fields "
            f"{', '.join(PLAIN_OUTPUT_FIELDS)}, a list with 'generated_text', or a text",
            content,
            target,
        )
    return output, fields


def _invalid(message: str, content: bytes, target: ChatTarget) -> ProviderError:
    return ProviderError(
        ProviderErrorCode.INVALID_RESPONSE,
        message,
        body=shown_text(content, target.headers),
        answered=read_answered(content, target.headers),
    )


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


def called_tools(completion: Mapping[str, Any]) -> list[str]:
    """Return the names of the tools that the first choice of a completion calls, as stored."""
    message = first_choice(completion).get("message")
    calls = message.get("tool_calls") if isinstance(message, dict) else None
    if not isinstance(calls, list):
        return []
    functions = [
        call.get("function") or call.get("custom") for call in calls if isinstance(call, dict)
    ]
    names = [function.get("name") for function in functions if isinstance(function, dict)]
    told = [name for name in names if isinstance(name, str)][:MAX_TOLD_TOOLS]
    return [name[:MAX_NAME_CHARACTERS].replace("\x00", "\ufffd") for name in told]


def _parse(content: bytes, *, may_be_text: bool) -> object:
    """Return the JSON value that a body is, else its text; None when it is neither.

    Raises:
        ValueError: It begins as an object or array, and is none.
    """
    is_container = content.lstrip().removeprefix(BYTE_ORDER_MARK).startswith((b"{", b"["))
    if is_container or content.lstrip().startswith(b'"'):
        try:
            return load_json(content)
        except ValueError:
            if is_container and not may_be_text:
                raise
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _find_output(value: object) -> str | None:
    if isinstance(value, str):
        return value if value.strip() else None
    if isinstance(value, list):
        first = value[0] if value else None
        return _text(first.get("generated_text")) if isinstance(first, dict) else None
    if not isinstance(value, dict):
        return None
    if choice := first_choice(value):
        message = choice.get("message")
        return _output_of(message, choice) if isinstance(message, dict) else None
    return next((text for name in PLAIN_OUTPUT_FIELDS if (text := _text(value.get(name)))), None)


def _output_of(message: Mapping[str, Any], choice: Mapping[str, Any]) -> str | None:
    """Return what a message says, which is nothing where it calls a tool, speaks or has thought."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_text(part.get("text")) or "" for part in content if isinstance(part, dict))
    says_else = any(value for name, value in message.items() if name not in {"role", "content"})
    return "" if content is None and (says_else or choice.get("finish_reason")) else None


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
