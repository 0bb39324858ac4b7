"""Calls of model endpoints: OpenRouter's, and the ones that users bring."""

from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import urlsplit

import orjson

from providers.addresses import RefusedAddressError, check_literal, check_name
from providers.base import ChatAnswer, ChatTarget, ProviderError, ProviderErrorCode
from providers.http import HttpClient

# Sandbox models are told by their name, so that they can stand beside real ones.
SANDBOX_PREFIX = "sandbox/"
SANDBOX_KEY = "sk-sandbox"
SHOWN_BODY_CHARACTERS = 500
PLAIN_OUTPUT_FIELDS = ("output", "text", "generated_text", "response", "content")
TOO_MANY_REQUESTS = 429
MICRO = Decimal("0.000000000001")


class HttpChatProvider:
    """Speaks to OpenRouter, to a sandbox that stands in for it, and to users' endpoints.

    Args:
        trusted: Reaches the addresses that the operator configured.
        guarded: Reaches users' endpoints, under the address rules.
        openrouter_url: Base URL, without a trailing slash.
        sandbox_url: Where models named `sandbox/...` are served, if anywhere.
        allow_private_endpoints: Admit http and non-public addresses.
        max_response_bytes: The largest answer that is read.
    """

    def __init__(
        self,
        *,
        trusted: HttpClient,
        guarded: HttpClient,
        openrouter_url: str,
        sandbox_url: str | None,
        allow_private_endpoints: bool,
        max_response_bytes: int,
    ) -> None:
        self._trusted = trusted
        self._guarded = guarded
        self._openrouter_url = openrouter_url
        self._sandbox_url = sandbox_url
        self._allow_private_endpoints = allow_private_endpoints
        self._max_response_bytes = max_response_bytes

    def is_offline(self, model_id: str) -> bool:
        """Tell whether the sandbox serves *model_id*, so that it needs no key."""
        return self._sandbox_url is not None and model_id.startswith(SANDBOX_PREFIX)

    async def check_endpoint(self, url: str) -> None:
        """Check that candidates may use *url*.

        Raises:
            ProviderError: Its scheme or its address is not allowed.
        """
        parts = urlsplit(url)
        if self._allow_private_endpoints:
            if parts.scheme not in {"http", "https"} or not parts.hostname:
                raise _refused("the endpoint must be an http or https URL")
            return
        if parts.scheme != "https" or not parts.hostname:
            raise _refused("the endpoint must be an https URL at a public address")
        try:
            check_literal(url)
            await check_name(parts.hostname, parts.port or 443)
        except RefusedAddressError as error:
            raise _refused(str(error)) from error

    async def complete(
        self, target: ChatTarget, messages: Sequence[Mapping[str, Any]], params: Mapping[str, Any]
    ) -> ChatAnswer:
        """Ask *target* once; see `ChatProvider`."""
        body: dict[str, Any] = {**target.params, **params, "messages": list(messages)}
        if target.model_id is not None:
            body["model"] = target.model_id
        client, url, headers = self._route(target)
        if target.url is None:
            body["usage"] = {"include": True}
        response, content = await client.fetch(
            "POST",
            url,
            headers={"Content-Type": "application/json", "Accept": "application/json", **headers},
            content=orjson.dumps(body),
            timeout_seconds=target.timeout_seconds,
            max_bytes=self._max_response_bytes,
        )
        if not response.is_success:
            raise failure(response.status_code, response.headers.get("retry-after"), content)
        return read_answer(content, target)

    def _route(self, target: ChatTarget) -> tuple[HttpClient, str, Mapping[str, str]]:
        if target.url is not None:
            if not self._allow_private_endpoints and not target.url.startswith("https://"):
                raise _refused("the endpoint must be an https URL at a public address")
            return self._guarded, target.url, target.headers
        if self.is_offline(target.model_id or ""):
            key = {"Authorization": f"Bearer {SANDBOX_KEY}"}
            return self._trusted, f"{self._sandbox_url}/api/v1/chat/completions", key
        return self._trusted, f"{self._openrouter_url}/chat/completions", target.headers


def _refused(message: str) -> ProviderError:
    return ProviderError(ProviderErrorCode.REFUSED_ADDRESS, message)


def failure(status: int, retry_after: str | None, content: bytes) -> ProviderError:
    """Describe a non-2xx answer.

    429 and 5xx are retryable: the endpoint says that it generated nothing.
    """
    shown = content[: SHOWN_BODY_CHARACTERS * 4].decode("utf-8", "replace")
    shown = shown.replace("\x00", "")[:SHOWN_BODY_CHARACTERS]
    code = ProviderErrorCode.REJECTED
    if status == TOO_MANY_REQUESTS:
        code = ProviderErrorCode.RATE_LIMITED
    elif status in {401, 403}:
        code = ProviderErrorCode.CREDENTIAL_REFUSED
    elif status == 404:  # noqa: PLR2004 - Not Found
        code = ProviderErrorCode.NOT_FOUND
    elif status >= 500:  # noqa: PLR2004 - the server errors
        code = ProviderErrorCode.SERVER_ERROR
    retryable = code in {ProviderErrorCode.RATE_LIMITED, ProviderErrorCode.SERVER_ERROR}
    return ProviderError(
        code,
        f"the endpoint answered {status}",
        status=status,
        retry_after_seconds=_seconds(retry_after),
        is_retryable=retryable,
        body=shown or None,
    )


def _seconds(retry_after: str | None) -> float | None:
    """Read a Retry-After in seconds; the date form is rare here, and is ignored."""
    if retry_after is None or not retry_after.strip().isdecimal():
        return None
    return float(retry_after)


def read_answer(content: bytes, target: ChatTarget) -> ChatAnswer:
    """Take output, usage and cost from a 2xx body.

    Raises:
        ProviderError: No output can be found in it.
    """
    value = _parse(content)
    completion = value if isinstance(value, dict) and "choices" in value else None
    output = _find_output(value)
    if output is None:
        raise ProviderError(
            ProviderErrorCode.INVALID_RESPONSE,
            "no output in the answer: expected an OpenAI chat completion, one of the fields "
            f"{', '.join(PLAIN_OUTPUT_FIELDS)}, a list with 'generated_text', or a text",
            body=content[:SHOWN_BODY_CHARACTERS].decode("utf-8", "replace").replace("\x00", ""),
        )
    fields = value if isinstance(value, dict) else {}
    stated = fields.get("usage")
    usage: dict[str, Any] = stated if isinstance(stated, dict) else {}
    prompt_tokens = _count(usage, "prompt_tokens")
    completion_tokens = _count(usage, "completion_tokens")
    return ChatAnswer(
        output=output.replace("\x00", "\ufffd"),
        completion=completion,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cost_usd=_cost(fields, usage, prompt_tokens, completion_tokens, target),
    )


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
            return "" if message.get("tool_calls") else None
        return None
    return next((text for name in PLAIN_OUTPUT_FIELDS if (text := _text(value.get(name)))), None)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _count(usage: Mapping[str, Any], name: str) -> int | None:
    value = usage.get(name)
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31
    return value if is_count else None


def _cost(
    fields: Mapping[str, Any],
    usage: Mapping[str, Any],
    prompt_tokens: int | None,
    completion_tokens: int | None,
    target: ChatTarget,
) -> Decimal | None:
    """Return what the call cost in US dollars: the provider's figure before ours."""
    for stated in (usage.get("cost"), fields.get("cost_usd")):
        if isinstance(stated, int | float | str) and not isinstance(stated, bool):
            try:
                figure = Decimal(str(stated))
            except InvalidOperation:
                continue
            if figure.is_finite() and 0 <= figure < 1_000_000:  # noqa: PLR2004 - not a price
                return figure.quantize(MICRO)
    return price(target, prompt_tokens, completion_tokens)


def price(
    target: ChatTarget, prompt_tokens: int | None, completion_tokens: int | None
) -> Decimal | None:
    """Return tokens times the target's prices in US dollars, or None when either is unknown."""
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
    return (total / 1_000_000).quantize(MICRO)
