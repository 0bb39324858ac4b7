"""The sandbox's streams, as our own provider reads them, and its faults in them."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from app.sandbox.models import BALANCED
from app.sandbox.simulation import complete
from app.sandbox.tasks import list_task_rows
from providers.base import ChatAnswer, ChatTarget, ProviderError, ProviderErrorCode
from providers.chat import HttpChatProvider
from providers.chat_tally import ChatTally
from tests.app.sandbox.serving import chat_body, serve_sandbox
from tests.providers.http_peer import LONG_SECONDS, SHORT_SECONDS, chat_provider, target_at

CHAT = "/api/v1/chat/completions"
QUESTION = list_task_rows()[3]["question"]
MESSAGES = [{"role": "user", "content": QUESTION}]
TEXT = complete(BALANCED, QUESTION, prompt_tokens=1, max_tokens=None).text
CODE = ProviderErrorCode


@pytest.fixture
async def provider(sandbox_url: str) -> AsyncIterator[HttpChatProvider]:
    async with chat_provider(sandbox_url=sandbox_url) as provider:
        yield provider


@pytest.fixture(params=["openrouter", "custom"])
def by(request: pytest.FixtureRequest) -> str:
    """Name one of the two kinds of route."""
    kind: str = request.param
    return kind


def target(by: str, sandbox_url: str, name: str, **fields: Any) -> ChatTarget:
    if by == "openrouter":
        return target_at(None, model_id=f"sandbox/{name}", **fields)
    return target_at(f"{sandbox_url}/endpoints/{name}", **fields)


async def stream(
    provider: HttpChatProvider, target: ChatTarget
) -> tuple[list[dict[str, Any]], ChatAnswer]:
    """Return a streamed answer's chunks, and what they add up to."""
    tally = ChatTally(target)
    chunks = await read_into(tally, provider, target)
    return chunks, tally.answer()


async def read_into(
    tally: ChatTally, provider: HttpChatProvider, target: ChatTarget
) -> list[dict[str, Any]]:
    chunks = []
    async with provider.open_stream(target, MESSAGES, {}) as answer:
        async for chunk in answer:
            chunks.append(chunk)
            tally.add(chunk)
    return chunks


async def test_a_streamed_answer_adds_up_to_the_whole_one(
    provider: HttpChatProvider, sandbox_url: str, by: str
) -> None:
    asked = target(by, sandbox_url, "balanced-medium")
    chunks, streamed = await stream(provider, asked)
    whole = await provider.complete(asked, MESSAGES, {})
    assert (streamed.output, streamed.cost_usd) == (TEXT, whole.cost_usd)
    assert (streamed.cost_source, whole.cost_source) == ("provider", "provider")
    assert streamed.prompt_tokens == whole.prompt_tokens
    assert streamed.completion_tokens == whole.completion_tokens
    assert streamed.completion is not None
    assert whole.completion is not None
    message = streamed.completion["choices"][0]["message"]
    assert {**message, "refusal": None} == whole.completion["choices"][0]["message"]
    assert streamed.completion["choices"][0]["finish_reason"] == "stop"
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks[:-1]]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert deltas[-1] == {}
    assert len(deltas[1:-1]) >= 3
    assert chunks[-1]["choices"] == []


async def test_the_events_end_with_done_and_with_usage_only_when_it_is_wanted(
    client: httpx2.AsyncClient,
) -> None:
    body = chat_body(QUESTION, model="sandbox/quick-small", stream=True)
    answer = await client.post(CHAT, json=body)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.text.startswith(": OPENROUTER PROCESSING\n\ndata: {")
    assert answer.text.endswith('"native_finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')
    assert "usage" not in answer.text
    for wanted in ({"stream_options": {"include_usage": True}}, {"usage": {"include": True}}):
        assert '"usage":{"prompt_tokens":' in (await client.post(CHAT, json=body | wanted)).text


@pytest.mark.parametrize("shape", ["shape-output", "shape-list", "shape-string", "shape-plain"])
async def test_an_endpoint_of_another_shape_ignores_that_a_stream_was_wanted(
    provider: HttpChatProvider, sandbox_url: str, shape: str
) -> None:
    chunks, answer = await stream(provider, target("custom", sandbox_url, shape))
    assert (len(chunks), answer.output, answer.cost_source) == (1, TEXT, "unknown")


async def test_a_streamed_answer_is_counted_when_it_was_read_to_its_end(
    provider: HttpChatProvider, client: httpx2.AsyncClient, sandbox_url: str
) -> None:
    await client.delete("/stats")
    asked = target("custom", sandbox_url, "quick-small")
    await stream(provider, asked)
    counts = (await client.get("/stats")).json()
    assert counts == {
        "calls": {"endpoints/quick-small": 1}, "answered": 1, "answered_more_than_once": 0,
    }  # fmt: skip


async def test_a_streamed_answer_that_was_left_is_not_counted() -> None:
    with serve_sandbox(latency_scale=20) as url:
        async with chat_provider() as provider:
            asked = target("custom", url, "quick-small")
            async with provider.open_stream(asked, MESSAGES, {}) as answer:
                async for _ in answer:
                    break
            await provider.complete(target("custom", url, "shape-plain"), MESSAGES, {})
        async with httpx2.AsyncClient(base_url=url) as client:
            assert (await client.get("/stats")).json()["answered"] == 1


async def failure_of(
    provider: HttpChatProvider, target: ChatTarget
) -> tuple[ProviderError, ChatTally]:
    tally = ChatTally(target)
    with pytest.raises(ProviderError) as at:
        await read_into(tally, provider, target)
    return at.value, tally


@pytest.mark.parametrize(
    ("fault", "status", "is_retryable"),
    [("fault-401", 401, False), ("fault-429", 429, True), ("fault-500", 500, True)],
)
async def test_a_status_fault_comes_before_the_stream(
    provider: HttpChatProvider, sandbox_url: str, by: str, fault: str, status: int, *,
    is_retryable: bool,
) -> None:  # fmt: skip
    error, _ = await failure_of(provider, target(by, sandbox_url, fault))
    assert (error.status, error.is_retryable, error.has_begun) == (status, is_retryable, False)
    assert error.answered["error"]["code"] == status


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("fault-disconnect", CODE.CONNECTION_LOST),
        ("fault-error", CODE.SERVER_ERROR),
        ("fault-garbage", CODE.INVALID_RESPONSE),
    ],
)
async def test_a_stream_goes_wrong_in_the_middle(
    provider: HttpChatProvider, sandbox_url: str, by: str, fault: str, code: ProviderErrorCode
) -> None:
    error, tally = await failure_of(provider, target(by, sandbox_url, fault))
    assert (error.code, error.is_retryable) == (code, False)
    if fault != "fault-disconnect":  # what is in the buffers of a cut connection may be lost
        assert error.has_begun
        assert tally.text == "This answer is going to be cut off in the middle of a w"


async def test_a_huge_stream_is_too_large(
    provider: HttpChatProvider, sandbox_url: str, by: str
) -> None:
    error, _ = await failure_of(provider, target(by, sandbox_url, "fault-huge"))
    assert error.code == CODE.RESPONSE_TOO_LARGE


async def test_an_empty_stream_is_invalid(
    provider: HttpChatProvider, sandbox_url: str, by: str
) -> None:
    error, _ = await failure_of(provider, target(by, sandbox_url, "fault-empty"))
    assert error.code == CODE.INVALID_RESPONSE


async def test_a_stream_that_stalls_is_given_up_before_its_first_byte(
    provider: HttpChatProvider, sandbox_url: str, by: str
) -> None:
    asked = target(by, sandbox_url, "fault-timeout", first_byte_timeout_seconds=SHORT_SECONDS)
    error, _ = await failure_of(provider, asked)
    assert (error.code, error.has_begun) == (CODE.TIMED_OUT, False)


async def test_a_slow_stream_is_as_good_as_any(
    provider: HttpChatProvider, sandbox_url: str, by: str
) -> None:
    asked = target(by, sandbox_url, "fault-slow", first_byte_timeout_seconds=LONG_SECONDS)
    assert (await stream(provider, asked))[1].output == "Slow but sure."
    assert (await provider.complete(asked, MESSAGES, {})).output == "Slow but sure."


async def test_a_slow_stream_may_pass_its_time(
    provider: HttpChatProvider, sandbox_url: str, by: str
) -> None:
    asked = target(by, sandbox_url, "fault-slow", timeout_seconds=SHORT_SECONDS)
    error, tally = await failure_of(provider, asked)
    assert (error.code, error.has_begun) == (CODE.TIMED_OUT, True)
    assert tally.text != "Slow but sure."


async def test_an_error_that_is_answered_with_200_is_one(
    provider: HttpChatProvider, sandbox_url: str, by: str
) -> None:
    with pytest.raises(ProviderError, match="the provider failed half way") as at:
        await provider.complete(target(by, sandbox_url, "fault-error"), MESSAGES, {})
    assert (at.value.code, at.value.status) == (CODE.SERVER_ERROR, 502)


async def test_a_stream_may_have_no_usage(
    provider: HttpChatProvider, sandbox_url: str, by: str
) -> None:
    _, answer = await stream(provider, target(by, sandbox_url, "fault-no-usage"))
    assert (answer.output, answer.cost_usd, answer.cost_source) == (TEXT, None, "unknown")
