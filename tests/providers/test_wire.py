"""Answers as they come over one connection: however they are cut, what they are, or why refused."""

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.base import ProviderError, ProviderErrorCode
from providers.wire import MAX_HEAD_BYTES, Wire
from tests.providers.http_peer import (
    LONG_SECONDS,
    SHORT_SECONDS,
    Exchange,
    http_client,
    http_peer,
)
from tests.providers.test_http import failure_of, post

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


class Outcome(NamedTuple):
    """What came of one exchange.

    Attributes:
        loss: Why it came to nothing.
        is_kept: Its connection may be used again.
    """

    status: int
    body: bytes
    loss: str | None
    is_kept: bool


@asynccontextmanager
async def a_wire() -> AsyncIterator[Wire]:
    """Yield a connection whose other end is ours."""
    lost = asyncio.Event()
    ours, theirs = socket.socketpair()
    with theirs:
        _, wire = await asyncio.get_running_loop().create_connection(
            lambda: Wire(lambda _: lost.set()), sock=ours
        )
        yield wire
        wire.abort()
        await lost.wait()


async def outcome(parts: Sequence[bytes], *, method: str = "GET", ends: bool = False) -> Outcome:
    """Return what comes of an answer that is received in *parts*, and then maybe its end."""
    async with a_wire() as wire:
        assert wire.send(b"", None, is_head=method == "HEAD", on_sent=lambda: None)
        for part in parts:
            wire.data_received(part)
        if ends:
            wire.eof_received()
        body = wire.take(1_000_000)
        return Outcome(wire.status, body, wire.loss, wire.retire())


KEPT = {
    "length": (OK + b"Content-Length: 5\r\n\r\nhello", b"hello"),
    "no reason": (b"HTTP/1.1 200\r\ncontent-length:5 \t\r\n\r\nhello", b"hello"),
    "empty": (OK + b"Content-Length: 0\r\n\r\n", b""),
    "chunks": (CHUNKED + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", b"hello"),
    "extension": (CHUNKED + b'2;a=b;c="d"\r\nhe\r\n03\r\nllo\r\n0;e\r\n\r\n', b"hello"),
    "trailers": (CHUNKED + b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-Other: 2\r\n\r\n", b"hello"),
    "interim": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        + OK + b"Content-Length: 5\r\n\r\nhello",
        b"hello",
    ),
    "upgrade offered": (
        OK + b"Upgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 5\r\n\r\nhello", b"hello"
    ),
    "1.0 that stays": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello", b"hello"
    ),
}  # fmt: skip
LEFT = {
    "close": (OK + b"Connection: Close\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    "one of several options": (
        OK + b"Connection: x, close\r\nContent-Length: 5\r\n\r\nhello", b"hello"
    ),
    "1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    "1.0 in chunks": (
        CHUNKED.replace(b"1.1 200 OK", b"1.0 200 OK\r\nConnection: keep-alive")
        + b"5\r\nhello\r\n0\r\n\r\n",
        b"hello",
    ),
    "another answer": (OK + b"Content-Length: 5\r\n\r\nhello" + OK, b"hello"),
    "more than its length": (OK + b"Content-Length: 5\r\n\r\nhello, world", b"hello"),
    "more after close": (
        OK + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello, world", b"hello"
    ),
}  # fmt: skip
REFUSED = {
    "both lengths": (
        OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding can't be present with Content-Length",
    ),
    "both, the other way": (
        CHUNKED[:-2] + b"Content-Length: 5\r\n\r\n0\r\n\r\n",
        "Content-Length can't be present with Transfer-Encoding",
    ),
    "two lengths": (
        OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "Duplicate Content-Length"
    ),
    "a list of lengths": (
        OK + b"Content-Length: 5, 5\r\n\r\nhello", "Invalid character in Content-Length"
    ),
    "a signed length": (
        OK + b"Content-Length: +5\r\n\r\nhello", "Invalid character in Content-Length"
    ),
    "an endless length": (OK + b"Content-Length: %d\r\n\r\n" % 10**30, "Content-Length overflow"),
    "two codings": (
        CHUNKED[:-2] + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "two headers transfer-encoding",
    ),
    "a coding before": (
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "a Transfer-Encoding other than chunked",
    ),
    "a coding after": (
        OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        "a Transfer-Encoding other than chunked",
    ),
    "another coding": (
        OK + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "a Transfer-Encoding other than chunked",
    ),
    "a folded header": (
        OK + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n", "Unexpected whitespace after header value"
    ),
    "a space before the colon": (
        OK + b"Content-Length : 5\r\n\r\nhello", "Invalid header "
    ),
    "a null": (OK + b"X: a\x00b\r\nContent-Length: 0\r\n\r\n", "Invalid header value char"),
    "bare line feeds": (
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", "Missing expected CR after response line"
    ),
    "a chunk of no size": (CHUNKED + b"x\r\nhello\r\n0\r\n\r\n", "Invalid character in chunk size"),
    "an endless chunk": (CHUNKED + b"f" * 17 + b"\r\n", "Chunk size overflow"),
    "a switch": (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "an interim answer"),
    "an interim answer with a body": (
        b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nhello", "an interim answer"
    ),
    "a status below all": (b"HTTP/1.1 042 What\r\n\r\n", "an interim answer"),
    "another protocol": (b"220 mail.example ESMTP\r\n\r\n", "Expected HTTP/, RTSP/ or ICE/"),
    "TLS": (b"\x15\x03\x01\x00\x02\x02\x46", "Expected HTTP/, RTSP/ or ICE/"),
    "a long head": (
        OK + b"X: %b\r\nContent-Length: 5\r\n\r\nhello" % (b"x" * MAX_HEAD_BYTES),
        "a head or a trailer is over 64 KiB",
    ),
}  # fmt: skip


def in_two(answer: bytes) -> list[list[bytes]]:
    """Return *answer* cut in two, everywhere but in the long stretch of a long one."""
    cuts = [at for at in range(1, len(answer)) if at < 200 or at > len(answer) - 200]
    return [[answer[:at], answer[at:]] for at in cuts]


def in_bytes(answer: bytes) -> list[bytes]:
    return [answer[at : at + 1] for at in range(len(answer))]


@pytest.mark.parametrize("name", KEPT)
async def test_however_an_answer_is_cut_it_is_the_same_and_its_connection_is_kept(
    name: str,
) -> None:
    answer, body = KEPT[name]
    for parts in ([answer], in_bytes(answer), *in_two(answer)):
        assert await outcome(parts) == Outcome(200, body, None, is_kept=True)


@pytest.mark.parametrize("name", LEFT)
async def test_however_an_answer_is_cut_its_connection_is_left(name: str) -> None:
    answer, body = LEFT[name]
    for parts in ([answer], in_bytes(answer), *in_two(answer)):
        assert await outcome(parts) == Outcome(200, body, None, is_kept=False)


@pytest.mark.parametrize("name", REFUSED)
async def test_however_it_is_cut_what_can_not_be_trusted_is_refused(name: str) -> None:
    answer, why = REFUSED[name]
    for parts in ([answer], in_bytes(answer), *in_two(answer)):
        found = await outcome(parts)
        assert (found.body, found.is_kept) == (b"", False)
        assert found.loss is not None
        assert found.loss.startswith(f"what came is not valid HTTP: {why}")


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.data())
async def test_chunks_cut_anywhere_are_the_body(chunks: list[bytes], data: st.DataObject) -> None:
    answer = CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in chunks)
    answer += b"0\r\n\r\n"
    cuts = sorted(data.draw(st.sets(st.integers(1, len(answer) - 1), max_size=10)))
    edges = [0, *cuts, len(answer)]
    parts = [answer[begin:end] for begin, end in pairwise(edges)]
    assert await outcome(parts) == Outcome(200, b"".join(chunks), None, is_kept=True)


@given(st.binary(max_size=300))
async def test_whatever_comes_it_is_an_answer_or_an_error(noise: bytes) -> None:
    for begin in (b"", OK, CHUNKED, b"HTTP/1.1 "):
        found = await outcome([begin + noise], ends=True)
        if found.loss is None:
            assert 200 <= found.status <= 999
        else:
            assert not found.is_kept


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
@pytest.mark.parametrize("length", [b"", b"Content-Length: 5\r\n"])
async def test_what_has_no_body_ends_with_its_head(status: bytes, length: bytes) -> None:
    answer = b"HTTP/1.1 " + status + b"\r\n" + length + b"\r\n"
    for parts in ([answer], in_bytes(answer), *in_two(answer)):
        assert await outcome(parts) == Outcome(int(status[:3]), b"", None, is_kept=True)
    assert not (await outcome([answer + b"hello"])).is_kept
    assert not (await outcome([answer, b"hello"])).is_kept


async def test_the_answer_to_head_ends_with_its_head() -> None:
    answer = OK + b"Content-Length: 5\r\n\r\n"
    for parts in ([answer], in_bytes(answer), *in_two(answer)):
        assert await outcome(parts, method="HEAD") == Outcome(200, b"", None, is_kept=True)
    for parts in ([answer + b"hello"], [answer, b"hello"], [CHUNKED]):
        assert not (await outcome(parts, method="HEAD")).is_kept


async def test_after_the_answer_to_head_comes_the_next() -> None:
    async with a_wire() as wire:
        for is_head in (True, True, False):
            assert wire.send(b"", None, is_head=is_head, on_sent=lambda: None)
            wire.data_received(OK + b"Content-Length: 5\r\n\r\n" + (b"" if is_head else b"hello"))
            assert wire.is_complete
            assert wire.take(10) == (b"" if is_head else b"hello")
            assert wire.retire()


async def test_a_body_without_a_length_ends_with_its_connection() -> None:
    for parts in ([OK + b"\r\nhello"], in_bytes(OK + b"\r\nhello")):
        assert await outcome(parts, ends=True) == Outcome(200, b"hello", None, is_kept=False)


@pytest.mark.parametrize(
    ("answer", "body", "when"),
    [
        (b"", b"", "before it was answered"),
        (OK[:9], b"", "before it was answered"),
        (OK + b"Content-Length: 5\r\n", b"", "before it was answered"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", b"", "before it was answered"),
        (OK + b"Content-Length: 5\r\n\r\n", b"", "in the middle of the answer"),
        (OK + b"Content-Length: 5\r\n\r\nhell", b"hell", "in the middle of the answer"),
        (CHUNKED + b"5\r\nhe", b"he", "in the middle of the answer"),
        (CHUNKED + b"2\r\nhe\r\n", b"he", "in the middle of the answer"),
        (CHUNKED + b"2\r\nhe\r\n0\r\n", b"he", "in the middle of the answer"),
    ],
)
async def test_what_had_come_before_the_end_is_given_and_the_rest_is_lost(
    answer: bytes, body: bytes, when: str
) -> None:
    found = await outcome([answer] if answer else [], ends=True)
    assert found[1:] == (body, f"closed {when}", False)


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (OK, b"X-Header: x\r\n"),
        (OK, b"x"),
        (OK + b"X: ", b"x"),
        (b"HTTP/1.1 200 ", b"x"),
        (b"", b"\r\n"),
        (b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"),
        (CHUNKED + b"1;", b"x"),
        (CHUNKED + b"1\r\nx\r\n0\r\n", b"X-Trailer: x\r\n"),
        (CHUNKED + b"1\r\nx\r\n0\r\n", b"x"),
    ],
)
async def test_what_never_ends_is_given_up(begin: bytes, more: bytes) -> None:
    async def answer_without_end(exchange: Exchange) -> None:
        await exchange.send(begin)
        while True:
            await exchange.send(more * 100)

    async with http_peer(answer_without_end) as peer, http_client() as client:
        error = await failure_of(client, peer.url)
    assert (error.code, error.is_retryable) == (ProviderErrorCode.CONNECTION_LOST, False)
    assert str(error).endswith("a head or a trailer is over 64 KiB)")


async def test_interim_answers_are_passed_over() -> None:
    async def answer_twice(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Hints\r\nA: b\r\n\r\n")
        await exchange.answer(b"ok")

    async with http_peer(answer_twice) as peer, http_client() as client:
        for _ in range(2):
            response, body = await post(client, peer.url)
            assert (response.status, body, response.headers.get("a")) == (200, b"ok", None)
    assert peer.connections == 1


async def test_of_a_header_that_came_twice_the_first_is_told_in_any_case() -> None:
    async def answer_headers(exchange: Exchange) -> None:
        await exchange.answer(b"ok", "X-One: a ", "x-one: b", "Location: /\xe9")

    async with http_peer(answer_headers) as peer, http_client() as client:
        response, _ = await post(client, peer.url)
    assert response.headers["x-ONE"] == "a"
    assert response.headers.get("missing") is None
    assert response.headers["location"] == "/\xe9"
    assert list(response.headers) == ["x-one", "location", "content-length"]
    with pytest.raises(KeyError, match="missing"):
        response.headers["missing"]


async def test_a_server_waits_for_a_slow_reader() -> None:
    piece = bytes(64 * 1024)
    sent = 0
    total = 64 * 1024 * 1024

    async def answer_much(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.send(OK + b"Content-Length: %d\r\n\r\n" % total)
        while sent < total:
            await exchange.send(piece)
            sent += len(piece)

    async with (
        http_peer(answer_much) as peer,
        http_client() as client,
        client.stream("GET", peer.url, headers={}) as response,
    ):
        before = -1
        while sent != before:  # until nothing moves any more
            before = sent
            await asyncio.sleep(0.1)
        assert 0 < sent < total // 2
        read = 0
        while got := await response.read():
            read += len(got)
            assert len(got) <= 64 * 1024
    assert (read, sent) == (total, total)


async def test_a_refusal_before_the_whole_request_was_read_is_an_answer() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        await left.wait()
        writer.close()

    left = asyncio.Event()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with server, http_client(max_connections=1) as client:
        for _ in range(2):  # a connection that still holds half a request is not used again
            response, body = await post(client, url, b"x" * 32 * 2**20)
            assert (response.status, body) == (413, b"big")
        left.set()


@pytest.mark.parametrize("content", [None, b"{}", b"x" * 2**20])
async def test_a_server_that_resets_is_a_lost_connection(content: bytes | None) -> None:
    async def reset(exchange: Exchange) -> None:
        exchange.writer.transport.abort()

    async with http_peer(reset) as peer, http_client() as client:
        for _ in range(3):
            error = await failure_of(client, peer.url, **({"content": content} if content else {}))
            assert error.code == ProviderErrorCode.CONNECTION_LOST
            assert str(error).endswith("before it was answered)")


async def test_each_read_is_limited_and_said() -> None:
    async def answer_slowly(exchange: Exchange) -> None:
        await exchange.begin_stream()
        for _ in range(6):
            await exchange.send_chunks(b"x")
            await asyncio.sleep(SHORT_SECONDS / 2)
        await exchange.wait_until_left()

    async with http_peer(answer_slowly) as peer, http_client() as client:
        async with client.stream(
            "GET", peer.url, headers={}, read_timeout_seconds=SHORT_SECONDS
        ) as response:
            received = b""
            while len(received) < 6:
                received += await response.read()
            with pytest.raises(ProviderError, match="no answer in time") as at:
                await response.read()
        assert at.value.code == ProviderErrorCode.TIMED_OUT


async def test_a_request_that_was_begun_and_not_taken_in_is_not_repeated() -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await left.wait()
        writer.close()

    left = asyncio.Event()
    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1024)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    content = bytes(32 * 2**20)
    async with server, http_client() as client:
        with pytest.raises(ProviderError, match="no answer in time") as at:
            async with client.stream(
                "POST", url, headers={}, content=content, read_timeout_seconds=SHORT_SECONDS
            ):
                pass
        error = await failure_of(client, url, content=content, timeout_seconds=SHORT_SECONDS)
        left.set()
    assert (at.value.code, at.value.is_retryable) == (ProviderErrorCode.TIMED_OUT, False)
    assert (error.code, error.is_retryable) == (ProviderErrorCode.CONNECTION_FAILED, False)
    assert str(error) == "the request could not be sent within 0.2 s"


async def test_of_a_connection_that_is_lost_nothing_is_left_to_collect() -> None:
    async def answer_and_close(exchange: Exchange) -> None:
        if len(peer.requests) % 3:
            await exchange.answer(b"ok", "Connection: close")
        exchange.writer.close()

    async with http_peer(answer_and_close) as peer, http_client() as client:
        gc.collect()
        gc.disable()
        try:
            for _ in range(9):
                with suppress(ProviderError):
                    await post(client, peer.url)
                while client.usage.open:
                    await asyncio.sleep(0)
            assert [each for each in gc.get_objects() if isinstance(each, Wire)] == []
        finally:
            gc.enable()


async def test_a_reader_that_pauses_is_not_out_of_time() -> None:
    async def answer_in_two(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.send_chunks(b"a", b"b")
        await exchange.end_stream()

    async with (
        http_peer(answer_in_two) as peer,
        http_client() as client,
        client.stream(
            "GET", peer.url, headers={}, timeout_seconds=0.2, first_byte_timeout_seconds=0.2
        ) as response,
    ):
        await asyncio.sleep(0.5)
        assert b"".join([piece async for piece in response.chunks()]) == b"ab"


async def test_a_wait_for_a_connection_is_limited_as_a_read_is() -> None:
    async def stay_silent(exchange: Exchange) -> None:
        await exchange.wait_until_left()

    async with http_peer(stay_silent) as peer, http_client(max_connections=1) as client:
        first = asyncio.create_task(failure_of(client, peer.url, timeout_seconds=LONG_SECONDS))
        while not peer.requests:
            await asyncio.sleep(0.01)
        with pytest.raises(ProviderError, match="no connection in time") as at:
            async with client.stream("GET", peer.url, headers={}, read_timeout_seconds=0.1):
                pass
        assert at.value.code == ProviderErrorCode.CONNECTION_FAILED
        first.cancel()
        await asyncio.wait([first])


@pytest.mark.parametrize(
    ("header", "idle_seconds"),
    [
        ("X-Nothing: said", 4),
        ("Keep-Alive: max=5", 4),
        ("Keep-Alive: timeout=5, max=5", 4),
        ("Keep-Alive: timeout=10", 9),
        ("Keep-Alive: timeout=600", 15),
        ("Keep-Alive: timeout=0", 0),
    ],
)
async def test_an_unused_connection_is_left_before_its_server_closes_it(
    header: str, idle_seconds: float
) -> None:
    """A request that crosses the closing would be lost; where nothing is said, most wait 5 s."""
    async with a_wire() as wire:
        assert wire.send(b"", None, is_head=False, on_sent=lambda: None)
        wire.data_received(OK + header.encode() + b"\r\nContent-Length: 0\r\n\r\n")
        assert wire.idle_seconds == idle_seconds
