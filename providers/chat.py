"""Calls of model endpoints: OpenRouter's, and the ones that users bring."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import orjson

from providers.addresses import RefusedAddressError, check_literal, check_name
from providers.base import ChatAnswer, ChatTarget, ProviderError, ProviderErrorCode
from providers.chat_answers import read_answer
from providers.chat_stream import HttpChatStream
from providers.http import HttpClient, read_bounded
from providers.http_failures import failure

# Sandbox models are told by their name, so that they can stand beside real ones.
SANDBOX_PREFIX = "sandbox/"
SANDBOX_KEY = "sk-sandbox"
JSON_HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}
# A compressed stream comes in the blocks of its compressor.
STREAM_HEADERS = {
    "Content-Type": "application/json",
    "Accept": "text/event-stream, application/json",
    "Accept-Encoding": "identity",
}


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
        client, url, headers = self._route(target)
        response, content = await client.fetch(
            "POST",
            url,
            headers={**JSON_HEADERS, **headers},
            content=orjson.dumps(_body(target, messages, params)),
            timeout_seconds=target.timeout_seconds,
            first_byte_timeout_seconds=target.first_byte_timeout_seconds,
            max_bytes=self._max_response_bytes,
        )
        if not response.is_success:
            told = response.headers.get("retry-after")
            raise failure(response.status, told, content, sent=headers)
        return read_answer(content, target, response.headers.get("content-type"))

    @asynccontextmanager
    async def open_stream(
        self, target: ChatTarget, messages: Sequence[Mapping[str, Any]], params: Mapping[str, Any]
    ) -> AsyncIterator[HttpChatStream]:
        """Ask *target* once, for an answer that comes in parts; see `ChatProvider`."""
        client, url, headers = self._route(target)
        body = _body(target, messages, params)
        stated = body.get("stream_options")
        options = stated if isinstance(stated, dict) else {}
        body |= {"stream": True, "stream_options": {**options, "include_usage": True}}
        async with client.stream(
            "POST",
            url,
            headers={**STREAM_HEADERS, **headers},
            content=orjson.dumps(body),
            timeout_seconds=target.timeout_seconds,
            first_byte_timeout_seconds=target.first_byte_timeout_seconds,
        ) as response:
            if not response.is_success:
                content = await read_bounded(response, self._max_response_bytes)
                told = response.headers.get("retry-after")
                raise failure(response.status, told, content, sent=headers)
            stream = HttpChatStream(response, target, max_bytes=self._max_response_bytes)
            yield stream
            await stream.finish()

    def _route(self, target: ChatTarget) -> tuple[HttpClient, str, Mapping[str, str]]:
        if target.url is not None:
            if not self._allow_private_endpoints and not target.url.startswith("https://"):
                raise _refused("the endpoint must be an https URL at a public address")
            return self._guarded, target.url, target.headers
        if self.is_offline(target.model_id or ""):
            key = {"Authorization": f"Bearer {SANDBOX_KEY}"}
            return self._trusted, f"{self._sandbox_url}/api/v1/chat/completions", key
        return self._trusted, f"{self._openrouter_url}/chat/completions", target.headers


def _body(
    target: ChatTarget, messages: Sequence[Mapping[str, Any]], params: Mapping[str, Any]
) -> dict[str, Any]:
    body: dict[str, Any] = {**target.merge(params), "messages": list(messages)}
    if target.model_id is not None:
        body["model"] = target.model_id
    if target.url is None:
        body["usage"] = {"include": True}
    return body


def _refused(message: str) -> ProviderError:
    return ProviderError(ProviderErrorCode.REFUSED_ADDRESS, message)
