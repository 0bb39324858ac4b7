"""Streamed answers against real servers: read however they come, limited, and left at once."""

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from providers.base import ChatTarget, ProviderError, ProviderErrorCode
from providers.chat import HttpChatProvider
from providers.chat_stream import EVENT_MAX_BYTES
from providers.chat_tally import ChatTally
from tests.providers.http_peer import (
    LONG_SECONDS,
    SHORT_SECONDS,
    Answer,
    Exchange,
    chat_provider,
    http_peer,
    target_at,
)

CODE = ProviderErrorCode
MESSAGES = [{"role": "user", "content": "Hi"}]


def content(text: str, **fields: Any) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": 0, "delta": {"content": text}}], **fields}


def event(value: object) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


DONE = b"data: [DONE]\n\n"
HELLO = [content("Hel", new={"field": 1}), content("lo €🙂"), {"choices": [], "usage": {"cost": 1}}]
HELLO_BYTES = b": OPENROUTER PROCESSING\n\n" + b"".join(map(event, HELLO)) + DONE


async def read(
    provider: HttpChatProvider,
    target: ChatTarget,
    params: dict[str, Any] | None = None,
    *,
    into: list[dict[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """Return the chunks of a stream; *into* has those that came before it failed."""
    chunks = [] if into is None else into
    async with provider.open_stream(target, MESSAGES, params or {}) as stream:
        async for chunk in stream:
            chunks.append(chunk)
    return chunks


async def read_from(answer: Answer, **fields: Any) -> list[dict[str, Any]]:
    async with http_peer(answer) as peer, chat_provider() as provider:
        return await read(provider, target_at(peer.url, **fields))


async def failure_from(answer: Answer, **fields: Any) -> tuple[ProviderError, list[dict[str, Any]]]:
    """Return why a stream failed, and what had come of it before."""
    chunks: list[dict[str, Any]] = []
    async with http_peer(answer) as peer, chat_provider() as provider:
        with pytest.raises(ProviderError) as at:
            await read(provider, target_at(peer.url, **fields), into=chunks)
    return at.value, chunks


def streaming(*parts: bytes, content_type: str = "text/event-stream") -> Answer:
    async def answer(exchange: Exchange) -> None:
        await exchange.begin_stream(content_type)
        await exchange.send_chunks(*parts)
        await exchange.end_stream()

    return answer


def answering(body: bytes, *headers: str, status: str = "200 OK") -> Answer:
    async def answer(exchange: Exchange) -> None:
        await exchange.answer(body, *headers, status=status)

    return answer


async def test_chunks_come_as_they_were_sent() -> None:
    assert await read_from(streaming(HELLO_BYTES)) == HELLO


@pytest.mark.parametrize("line_end", [b"\n", b"\r", b"\r\n"])
@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_however_they_are_cut(line_end: bytes, size: int) -> None:
    body = HELLO_BYTES.replace(b"\n", line_end)
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    assert await read_from(streaming(*parts)) == HELLO


@pytest.mark.parametrize(
    "body",
    [
        HELLO_BYTES.removesuffix(DONE),
        HELLO_BYTES.removesuffix(DONE).rstrip(b"\n"),
        HELLO_BYTES.removesuffix(b"\n\n"),
        HELLO_BYTES + event(content("after the end")),
        b"\xef\xbb\xbf" + HELLO_BYTES.replace(b"data: ", b"id: 1\nevent: message\ndata:"),
        HELLO_BYTES.replace(b'"id":"c",', b'"id":\ndata: "c",\ndata: '),
    ],
)
async def test_however_they_are_written_and_ended(body: bytes) -> None:
    assert await read_from(streaming(body)) == HELLO


@pytest.mark.parametrize("content_type", ["text/plain", "", "application/octet-stream"])
async def test_a_stream_that_does_not_say_what_it_is_is_one(content_type: str) -> None:
    parts = (b"\n", b"d", b"at", b"a: " + HELLO_BYTES.split(b"data: ", 1)[1])
    assert await read_from(streaming(*parts, content_type=content_type)) == HELLO


async def test_what_is_sent_asks_for_a_stream_and_its_usage() -> None:
    async with http_peer(streaming(HELLO_BYTES)) as peer, chat_provider() as provider:
        target = target_at(peer.url, params={"temperature": 0, "top_p": 1})
        await read(provider, target, {"top_p": 0.5, "stream_options": {"x": 1}})
    (request,) = peer.requests
    assert request.json() == {
        "temperature": 0,
        "top_p": 0.5,
        "messages": MESSAGES,
        "model": "m",
        "stream": True,
        "stream_options": {"x": 1, "include_usage": True},
    }
    assert b"Authorization: Bearer key-of-the-workspace\r\n" in request.head
    assert b"Accept-Encoding: identity\r\n" in request.head


async def test_openrouter_is_asked_for_its_own_usage_too() -> None:
    async with (
        http_peer(streaming(HELLO_BYTES)) as peer,
        chat_provider(openrouter_url=peer.url) as provider,
    ):
        await read(provider, target_at(None))
    (request,) = peer.requests
    assert request.json()["usage"] == {"include": True}
    assert request.json()["stream_options"] == {"include_usage": True}
    assert request.head.startswith(b"POST /v1/chat/completions ")


async def test_an_endpoint_that_answers_a_completion_gives_one_chunk() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    whole = {
        "id": "c",
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "tool_calls": [call]},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1},
        "cost_usd": 0.5,
    }
    answer = answering(orjson.dumps(whole), "Content-Type: application/json")
    assert await read_from(answer) == [
        {
            "id": "c",
            "object": "chat.completion.chunk",
            "choices": [
                {
                    "index": 0,
                    "delta": {
                        "role": "assistant",
                        "content": "Hello",
                        "tool_calls": [{"index": 0, **call}],
                    },
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 3, "completion_tokens": 1},
            "cost_usd": 0.5,
        }
    ]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"Hello", {}),
        (b'"Hello"', {}),
        (b'[{"generated_text": "Hello"}]', {}),
        (b'{"output": "Hello", "usage": {"cost": 1}, "cost_usd": 2, "x": 3}',
         {"usage": {"cost": 1}, "cost_usd": 2}),
    ],
)  # fmt: skip
async def test_an_endpoint_that_answers_anything_else_gives_one_chunk_too(
    body: bytes, told: dict[str, Any]
) -> None:
    delta = {"role": "assistant", "content": "Hello"}
    assert await read_from(answering(body)) == [
        {
            "object": "chat.completion.chunk",
            "choices": [{"index": 0, "delta": delta, "finish_reason": "stop"}],
            **told,
        }
    ]


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"choices": []}', b"\xff"])
async def test_an_answer_without_output_is_invalid(body: bytes) -> None:
    error, chunks = await failure_from(answering(body))
    assert (error.code, error.has_begun, chunks) == (CODE.INVALID_RESPONSE, False, [])


@pytest.mark.parametrize("body", [b"", DONE, b": nothing\n\n" + DONE, b"data:\n\n"])
async def test_a_stream_without_chunks_is_invalid(body: bytes) -> None:
    error, _ = await failure_from(streaming(*([body] if body else [])))
    assert (error.code, str(error)) == (CODE.INVALID_RESPONSE, "the stream was empty")


@pytest.mark.parametrize("data", [b"data: {no\n\n", b"data: []\n\n", b"data: 1\n\n"])
async def test_an_event_that_is_no_object_is_invalid(data: bytes) -> None:
    error, chunks = await failure_from(streaming(event(HELLO[0]), data))
    assert (error.code, error.has_begun, chunks) == (CODE.INVALID_RESPONSE, True, HELLO[:1])
    assert str(error) == "an event of the stream is not a JSON object"


@pytest.mark.parametrize("same_packet", [True, False])
async def test_an_error_in_the_stream_comes_after_what_was_before_it(*, same_packet: bool) -> None:
    told = {
        "id": "c",
        "error": {"code": 502, "message": "upstream is gone: key-of-the-workspace"},
        "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}],
    }
    parts = [event(HELLO[0]), event(told)]
    error, chunks = await failure_from(streaming(*([b"".join(parts)] if same_packet else parts)))
    assert chunks == HELLO[:1]
    assert (error.code, error.status) == (CODE.SERVER_ERROR, 502)
    assert (error.has_begun, error.is_retryable) == (True, False)
    assert str(error) == "the endpoint answered an error: upstream is gone: [removed]"
    assert error.answered["error"] == {"code": 502, "message": "upstream is gone: [removed]"}


@pytest.mark.parametrize(
    ("told", "code", "status", "is_retryable"),
    [
        ({"code": 429, "message": "slow"}, CODE.RATE_LIMITED, 429, True),
        ({"code": 400, "message": "slow"}, CODE.REJECTED, 400, False),
        ({"code": "server_error", "message": "slow"}, CODE.SERVER_ERROR, None, False),
        ("slow", CODE.SERVER_ERROR, None, False),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
async def test_an_error_in_place_of_the_first_chunk_is_as_one_with_a_status(
    told: object, code: str, status: int | None, *, is_retryable: bool, whole: bool
) -> None:
    value = {"error": told}
    answer = answering(orjson.dumps(value)) if whole else streaming(event(value))
    error, _ = await failure_from(answer)
    assert (error.code, error.status, error.is_retryable) == (code, status, is_retryable)
    assert str(error) == "the endpoint answered an error: slow"
    assert (error.has_begun, error.answered) == (False, value)


@pytest.mark.parametrize(
    ("told", "code"),
    [
        (event({"object": "error", "message": "no room", "code": 400}), CODE.REJECTED),
        (b"event: error\n" + event({"message": "no room"}), CODE.SERVER_ERROR),
        (b"event: error\n" + event({"error": {"message": "no room"}}), CODE.SERVER_ERROR),
        (
            event(
                {
                    "choices": [
                        {"delta": {}, "finish_reason": "error", "error": {"message": "no room"}}
                    ]
                }
            ),
            CODE.INVALID_RESPONSE,
        ),
    ],
)
async def test_an_error_is_found_in_each_form_that_endpoints_give_it(
    told: bytes, code: str
) -> None:
    error, chunks = await failure_from(streaming(event(HELLO[0]), told + DONE))
    assert (error.code, error.has_begun, error.is_retryable) == (code, True, False)
    assert str(error).endswith(": no room")
    assert chunks == HELLO[:1]


async def test_a_stream_that_ends_before_its_answer_is_lost() -> None:
    error, chunks = await failure_from(streaming(*map(event, HELLO[:2])))
    assert (error.code, error.has_begun, error.is_retryable) == (CODE.CONNECTION_LOST, True, False)
    assert str(error) == "the stream ended without a finish_reason, its usage or [DONE]"
    assert chunks == HELLO[:2]
    last = {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}
    assert await read_from(streaming(event(HELLO[0]), event(last))) == [HELLO[0], last]


async def test_a_chunk_of_json_that_only_python_takes_is_read() -> None:
    odd = b'data: {"choices": [{"delta": {"content": "\\ud83dx"}, "logprob": -Infinity}]}\n\n'
    assert await read_from(streaming(odd, DONE)) == [
        {"choices": [{"delta": {"content": "\ufffdx"}, "logprob": None}]}
    ]


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ([r"a\ud83d", r"\ude42b"], ["a", "🙂b"]),
        ([r"\uD83D", "", r"\uDE42"], ["", "", "🙂"]),
        ([r"\ud83d", "b"], ["", "\ufffdb"]),
        ([r"\ud83d", r"\ud83d", r"\ude42"], ["", "\ufffd", "🙂"]),
        ([r"\ude42", r"\ud83d\ude42\ud83d"], ["\ufffd", "🙂"]),
        (["🙂", r"\ud83d\ude42"], ["🙂", "🙂"]),
    ],
)
async def test_a_character_that_is_cut_in_two_comes_whole(sent: list[str], read: list[str]) -> None:
    def chunks(texts: list[str]) -> bytes:
        start = 'data: {"choices": [{"index": %d, "delta": {"content": "%s"}}]}\n\n'
        # The other choice's text must not get in between.
        return "".join(start % (0, text) + start % (1, "é") for text in texts).encode()

    last = b'data: {"choices": [{"index": 0, "delta": null, "finish_reason": "stop"}]}\n\n'
    *parts, end = await read_from(streaming(chunks(sent), last, DONE))
    assert [part["choices"][0]["delta"]["content"] for part in parts[::2]] == read
    assert {part["choices"][0]["delta"]["content"] for part in parts[1::2]} == {"é"}
    left = {"content": "\ufffd"} if sent[-1].endswith(r"\ud83d") else None
    assert end["choices"][0]["delta"] == left


async def test_a_status_that_is_no_success_fails_on_entering() -> None:
    told = {"error": {"message": "no such model"}}
    answer = answering(orjson.dumps(told), "Retry-After: 3", status="429 Too Many Requests")
    error, _ = await failure_from(answer)
    assert (error.code, error.status, error.is_retryable) == (CODE.RATE_LIMITED, 429, True)
    assert (error.answered, error.retry_after_seconds) == (told, 3.0)


async def test_a_stream_that_is_cut_is_lost_after_what_had_come() -> None:
    async def answer_half(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.send_chunks(event(HELLO[0]), b'data: {"choi')
        await asyncio.sleep(SHORT_SECONDS)
        exchange.writer.close()

    error, chunks = await failure_from(answer_half)
    assert (error.code, error.has_begun, error.is_retryable) == (CODE.CONNECTION_LOST, True, False)
    assert chunks == HELLO[:1]


async def begin_and_wait(exchange: Exchange) -> None:
    await exchange.begin_stream()
    await exchange.wait_until_left()


async def test_the_time_to_the_first_byte_of_the_body_is_limited_and_said() -> None:
    error, _ = await failure_from(begin_and_wait, first_byte_timeout_seconds=SHORT_SECONDS)
    assert (error.code, error.has_begun, error.is_retryable) == (CODE.TIMED_OUT, False, False)
    assert str(error) == "no first byte of an answer within 0.2 s of the request"


async def test_the_time_between_later_bytes_is_not() -> None:
    async def answer_slowly(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.send_chunks(b": wait\n\n")
        await asyncio.sleep(2 * SHORT_SECONDS)
        await exchange.send_chunks(HELLO_BYTES)
        await exchange.end_stream()

    assert await read_from(answer_slowly, first_byte_timeout_seconds=SHORT_SECONDS) == HELLO


async def test_the_total_time_is_limited_and_said() -> None:
    async def answer_for_ever(exchange: Exchange) -> None:
        await exchange.begin_stream()
        while not exchange.writer.is_closing():
            await exchange.send_chunks(event(HELLO[0]))
            await asyncio.sleep(SHORT_SECONDS / 10)

    error, chunks = await failure_from(answer_for_ever, timeout_seconds=SHORT_SECONDS)
    assert (error.code, error.has_begun) == (CODE.TIMED_OUT, True)
    assert str(error) == "no complete answer within 0.2 s"
    assert chunks[0] == HELLO[0]


async def test_a_stream_that_is_too_large_is_given_up() -> None:
    error, chunks = await failure_from(streaming(*[event(content("x" * 1_000))] * 200))
    assert (error.code, error.has_begun) == (CODE.RESPONSE_TOO_LARGE, True)
    assert str(error) == "the answer is over the limit of 100000 bytes"
    assert 0 < len(chunks) < 100


async def test_an_event_that_is_too_large_is_given_up() -> None:
    async with (
        http_peer(streaming(*[b"data: " + b"x" * 2**20] * 5)) as peer,
        chat_provider(max_bytes=10**8) as provider,
    ):
        with pytest.raises(ProviderError) as at:
            await read(provider, target_at(peer.url))
    assert at.value.code == CODE.RESPONSE_TOO_LARGE
    assert str(at.value) == f"an event of the stream is over the limit of {EVENT_MAX_BYTES} bytes"


Leave = Callable[[HttpChatProvider, ChatTarget], Awaitable[None]]


async def leave_early(provider: HttpChatProvider, target: ChatTarget) -> None:
    async with provider.open_stream(target, MESSAGES, {}) as stream:
        async for _ in stream:
            break


async def fail_in_the_middle(provider: HttpChatProvider, target: ChatTarget) -> None:
    async def fail() -> None:
        async with provider.open_stream(target, MESSAGES, {}) as stream:
            async for _ in stream:
                raise LookupError

    with pytest.raises(LookupError):
        await fail()


async def cancel_while_it_waits(provider: HttpChatProvider, target: ChatTarget) -> None:
    began = asyncio.Event()

    async def read_on() -> None:
        async with provider.open_stream(target, MESSAGES, {}) as stream:
            async for _ in stream:
                began.set()

    reader = asyncio.create_task(read_on())
    await began.wait()
    await asyncio.sleep(0.01)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader


@pytest.mark.parametrize("leave", [leave_early, fail_in_the_middle, cancel_while_it_waits])
async def test_a_server_sees_at_once_that_its_reader_has_left(leave: Leave) -> None:
    async def answer_one(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.send_chunks(event(HELLO[0]))
        await exchange.wait_until_left()
        peer.left.set()

    async with http_peer(answer_one) as peer, chat_provider() as provider:
        await leave(provider, target_at(peer.url))
        await asyncio.wait_for(peer.left.wait(), LONG_SECONDS)


async def test_a_server_sees_that_its_reader_has_left_before_the_head() -> None:
    async def answer_nothing(exchange: Exchange) -> None:
        await exchange.wait_until_left()
        peer.left.set()

    async with http_peer(answer_nothing) as peer, chat_provider() as provider:
        reader = asyncio.create_task(read(provider, target_at(peer.url)))
        while not peer.requests:
            await asyncio.sleep(0.01)
        reader.cancel()
        await asyncio.wait_for(peer.left.wait(), LONG_SECONDS)
        with pytest.raises(asyncio.CancelledError):
            await reader


async def test_streams_that_are_read_to_their_end_take_one_connection() -> None:
    async def answer_in_two(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.send_chunks(HELLO_BYTES)
        await asyncio.sleep(0.001)  # the end of the body comes after the end of the events
        await exchange.end_stream()

    async with http_peer(answer_in_two) as peer, chat_provider() as provider:
        for _ in range(50):
            assert await read(provider, target_at(peer.url)) == HELLO
    assert peer.connections == 1


async def test_a_body_that_does_not_end_costs_its_connection_alone() -> None:
    async def answer_without_end(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.send_chunks(HELLO_BYTES)
        await exchange.wait_until_left()

    async with http_peer(answer_without_end) as peer, chat_provider() as provider:
        for _ in range(2):
            assert await read(provider, target_at(peer.url)) == HELLO
    assert peer.connections == 2


async def test_a_stream_is_tallied() -> None:
    target = target_at("unused")
    tally = ChatTally(target)
    for chunk in await read_from(streaming(HELLO_BYTES)):
        tally.add(chunk)
    answer = tally.answer()
    assert (answer.output, answer.cost_usd) == ("Hello €🙂", Decimal(1))
    assert answer.cost_source == "provider"


TEXTS = st.lists(st.text(min_size=1), min_size=1, max_size=5)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(texts=TEXTS, cuts=st.lists(st.integers(1, 400), max_size=10))
async def test_whatever_is_said_and_wherever_it_is_cut(texts: list[str], cuts: list[int]) -> None:
    chunks = [content(text) for text in texts]
    body = b"".join(map(event, chunks)) + DONE
    places = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    parts = [body[start:end] for start, end in pairwise(places)]
    assert await read_from(streaming(*parts)) == chunks
