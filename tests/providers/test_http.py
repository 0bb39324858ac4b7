"""The HTTP client against real servers: what it reuses, repeats, waits for and gives up."""

import asyncio
import gzip
import socket
import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from providers.base import ProviderError, ProviderErrorCode
from providers.http import HttpClient, HttpResponse
from tests.providers.http_peer import (
    LONG_SECONDS,
    SHORT_SECONDS,
    Exchange,
    http_client,
    http_peer,
)

CODE = ProviderErrorCode


async def post(
    client: HttpClient, url: str, content: bytes = b"{}", **options: Any
) -> tuple[HttpResponse, bytes]:
    defaults: dict[str, Any] = {"timeout_seconds": LONG_SECONDS, "max_bytes": 100_000}
    return await client.fetch("POST", url, headers={}, content=content, **(defaults | options))


async def failure_of(client: HttpClient, url: str, **options: Any) -> ProviderError:
    with pytest.raises(ProviderError) as at:
        await post(client, url, **options)
    return at.value


async def answer_ok(exchange: Exchange) -> None:
    await exchange.answer(b"ok")


async def test_2000_calls_in_a_row_take_one_connection() -> None:
    async with http_peer(answer_ok) as peer, http_client() as client:
        for _ in range(2_000):
            assert (await post(client, peer.url))[1] == b"ok"
    assert (peer.connections, len(peer.requests)) == (1, 2_000)


async def test_calls_at_once_take_no_more_connections_than_they_may() -> None:
    async with http_peer(answer_ok) as peer, http_client(max_connections=3) as client:
        await asyncio.gather(*(post(client, peer.url) for _ in range(50)))
    assert (peer.connections, len(peer.requests)) == (3, 50)


class ClosingServer:
    """Answers one request on each connection in a thread, and closes it when it is told to."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/v1"
        self.request_count = 0
        self.close_now, self.closed = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        for _ in range(2):
            connection, _ = self.listener.accept()
            with connection:
                while b"\r\n\r\n{}" not in (received := connection.recv(65_536)):
                    assert received
                self.request_count += 1
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                self.close_now.wait(LONG_SECONDS)
            self.closed.set()

    def close_idle(self) -> None:
        """Close the connection that is idle, and wait until that is done."""
        self.close_now.set()
        assert self.closed.wait(LONG_SECONDS)


async def test_a_post_over_a_connection_that_was_closed_while_idle_is_sent_once_over_another() -> (
    None
):
    server = ClosingServer()
    async with http_client() as client:
        assert (await post(client, server.url))[1] == b"ok"
        server.close_idle()  # while this loop is busy, so that only the kernel knows
        assert (await post(client, server.url))[1] == b"ok"
    server.thread.join()
    server.listener.close()
    assert server.request_count == 2


async def test_a_post_that_was_read_and_not_answered_is_lost_and_not_repeated() -> None:
    async def answer_first(exchange: Exchange) -> None:
        if len(peer.requests) == 1:
            await exchange.answer(b"ok")
        else:
            exchange.writer.close()

    async with http_peer(answer_first) as peer, http_client() as client:
        await post(client, peer.url)
        error = await failure_of(client, peer.url)
    assert (error.code, error.is_retryable) == (CODE.CONNECTION_LOST, False)
    assert (peer.connections, len(peer.requests)) == (1, 2)


async def test_a_server_that_only_hangs_up_gets_nothing_and_is_said_to() -> None:
    def accept(listener: socket.socket, connections: list[int]) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connections.append(1)
            connection.close()

    listener = socket.create_server(("127.0.0.1", 0))
    connections: list[int] = []
    thread = threading.Thread(target=accept, args=(listener, connections))
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    async with http_client() as client:
        error = await failure_of(client, url)
    listener.shutdown(socket.SHUT_RDWR)
    thread.join()
    listener.close()
    # Whether the request or the hanging-up is first is not ours to say.
    assert error.code in {CODE.CONNECTION_FAILED, CODE.CONNECTION_LOST}
    assert error.is_retryable == (error.code == CODE.CONNECTION_FAILED)
    assert len(connections) <= 3


async def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
    async with http_client() as client:
        error = await failure_of(client, url)
    assert (error.code, error.is_retryable) == (CODE.CONNECTION_FAILED, True)
    assert str(error) == "can't connect to 127.0.0.1: Connection refused"


async def test_a_server_that_does_not_shake_hands_is_left_after_the_connect_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/v1"
        async with http_client(connect_timeout_seconds=SHORT_SECONDS) as client:
            error = await failure_of(client, url)
    assert (error.code, error.is_retryable) == (CODE.CONNECTION_FAILED, True)
    assert str(error) == "can't connect to 127.0.0.1: no connection in time"


def self_signed(directory: Path) -> ssl.SSLContext:
    """Make a server's TLS settings, with a certificate that nobody trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = directory / "server.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


async def test_a_certificate_that_nobody_trusts_is_no_connection(tmp_path: Path) -> None:
    server = await asyncio.start_server(
        lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=self_signed(tmp_path)
    )
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with server, http_client() as client:
        error = await failure_of(client, url)
    assert error.code == CODE.CONNECTION_FAILED
    assert str(error).startswith("can't connect to 127.0.0.1: ")
    assert "certificate verify failed" in str(error)


async def stay_silent(exchange: Exchange) -> None:
    await exchange.wait_until_left()


async def begin_and_stay_silent(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
    await exchange.wait_until_left()


@pytest.mark.parametrize("answer", [stay_silent, begin_and_stay_silent])
async def test_the_total_time_is_limited_and_said(answer: Callable[..., Any]) -> None:
    async with http_peer(answer) as peer, http_client() as client:
        error = await failure_of(client, peer.url, timeout_seconds=SHORT_SECONDS)
    assert (error.code, error.is_retryable) == (CODE.TIMED_OUT, False)
    assert str(error) == "no complete answer within 0.2 s"


async def test_the_time_to_the_head_of_a_whole_answer_is_limited_and_said() -> None:
    async with http_peer(stay_silent) as peer, http_client() as client:
        error = await failure_of(client, peer.url, first_byte_timeout_seconds=SHORT_SECONDS)
    assert (error.code, error.is_retryable) == (CODE.TIMED_OUT, False)
    assert str(error) == "no first byte of an answer within 0.2 s of the request"


async def test_a_whole_answer_whose_head_is_in_time_may_take_all_its_time() -> None:
    async def answer_slowly(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        await asyncio.sleep(2 * SHORT_SECONDS)
        await exchange.send(b"ok")

    async with http_peer(answer_slowly) as peer, http_client() as client:
        _, body = await post(client, peer.url, first_byte_timeout_seconds=SHORT_SECONDS)
    assert body == b"ok"


async def test_an_answer_may_begin_before_the_whole_request_has_left() -> None:
    read_on = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
        await read_on.wait()
        await reader.readexactly(len(content))
        await asyncio.sleep(2 * SHORT_SECONDS)
        writer.write(b"k")
        writer.close()
        await writer.wait_closed()

    content = b"x" * 32 * 2**20  # more than the sockets' buffers
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with (
        server,
        http_client() as client,
        client.stream(
            "POST", url, headers={}, content=content, first_byte_timeout_seconds=SHORT_SECONDS
        ) as response,
    ):
        assert await response.read() == b"o"
        read_on.set()
        assert await response.read() == b"k"


async def test_waiting_for_a_connection_is_not_waiting_for_a_first_byte() -> None:
    async def answer_in_time(exchange: Exchange) -> None:
        await asyncio.sleep(SHORT_SECONDS * 3 / 4)
        await exchange.answer(b"ok")

    async with http_peer(answer_in_time) as peer, http_client(max_connections=1) as client:
        calls = [post(client, peer.url, first_byte_timeout_seconds=SHORT_SECONDS) for _ in range(3)]
        assert [body for _, body in await asyncio.gather(*calls)] == [b"ok"] * 3


async def test_a_call_that_finds_no_connection_free_in_time_was_not_made() -> None:
    async with http_peer(stay_silent) as peer, http_client(max_connections=1) as client:
        first = asyncio.create_task(failure_of(client, peer.url, timeout_seconds=2 * SHORT_SECONDS))
        while not peer.requests:
            await asyncio.sleep(0.01)
        error = await failure_of(client, peer.url, timeout_seconds=SHORT_SECONDS)
        await first
    assert (error.code, len(peer.requests)) == (CODE.CONNECTION_FAILED, 1)
    assert str(error) == "the request could not be sent within 0.2 s"


async def test_an_answer_that_is_too_large_is_given_up() -> None:
    async def answer_without_end(exchange: Exchange) -> None:
        await exchange.begin_stream()
        while True:
            await exchange.send_chunks(b"x" * 1_000)

    async with http_peer(answer_without_end) as peer, http_client() as client:
        error = await failure_of(client, peer.url, max_bytes=10_000)
    assert (error.code, error.status) == (CODE.RESPONSE_TOO_LARGE, 200)
    assert str(error) == "the answer is over the limit of 10000 bytes"


async def test_a_gzip_bomb_is_too_large() -> None:
    async def answer_bomb(exchange: Exchange) -> None:
        await exchange.answer(gzip.compress(b"0" * 10**8), "Content-Encoding: gzip")

    async with http_peer(answer_bomb) as peer, http_client() as client:
        assert (await failure_of(client, peer.url)).code == CODE.RESPONSE_TOO_LARGE


async def test_compression_is_undone_and_asked_for() -> None:
    async def answer_compressed(exchange: Exchange) -> None:
        await exchange.answer(gzip.compress(b"hello"), "Content-Encoding: gzip")

    async with http_peer(answer_compressed) as peer, http_client() as client:
        assert (await post(client, peer.url))[1] == b"hello"
    assert b"Accept-Encoding: gzip, deflate\r\n" in peer.requests[0].head


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
async def test_broken_or_unasked_compression_is_an_invalid_answer(encoding: str) -> None:
    async def answer_broken(exchange: Exchange) -> None:
        await exchange.answer(b"\x78\x9c" + b"\xff" * 50, f"Content-Encoding: {encoding}")

    async with http_peer(answer_broken) as peer, http_client() as client:
        error = await failure_of(client, peer.url)
    assert (error.code, str(error)) == (CODE.INVALID_RESPONSE, "the compression is broken")


async def test_an_answer_that_is_cut_is_lost() -> None:
    async def answer_half(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        exchange.writer.close()

    async with http_peer(answer_half) as peer, http_client() as client:
        error = await failure_of(client, peer.url)
    assert (error.code, error.is_retryable) == (CODE.CONNECTION_LOST, False)


async def test_what_is_no_http_is_a_lost_connection() -> None:
    async def answer_nonsense(exchange: Exchange) -> None:
        await exchange.send(b"220 mail.example ESMTP\r\n\r\n")
        exchange.writer.close()

    async with http_peer(answer_nonsense) as peer, http_client() as client:
        assert (await failure_of(client, peer.url)).code == CODE.CONNECTION_LOST


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/x", "example.com", "http://", "http://[::1", "http://127.0.0.1:99999/",
        "http://user:password@127.0.0.1/", "http://a..b/", f"http://{'a' * 64}.com/", "",
    ],
)  # fmt: skip
async def test_a_url_that_can_not_be_used_is_rejected(url: str) -> None:
    async with http_client() as client:
        error = await failure_of(client, url)
    assert (error.code, str(error)) == (CODE.REJECTED, "not a usable URL")


@pytest.mark.parametrize("value", ["key\n", "key\r\nX-Other: 1", "k\x00ey"])
async def test_a_header_that_would_be_more_than_one_is_rejected(value: str) -> None:
    async with http_peer(answer_ok) as peer, http_client() as client:
        with pytest.raises(ProviderError) as at:
            await client.fetch(
                "GET", peer.url, headers={"X-Key": value}, timeout_seconds=5, max_bytes=10
            )
    assert at.value.code == CODE.REJECTED
    assert str(at.value) == "a header holds a line end or another control character"
    assert peer.requests == []


async def test_a_cancelled_call_hangs_up() -> None:
    async def note_leaving(exchange: Exchange) -> None:
        await exchange.wait_until_left()
        peer.left.set()

    async with http_peer(note_leaving) as peer, http_client() as client:
        call = asyncio.create_task(post(client, peer.url))
        while not peer.requests:
            await asyncio.sleep(0.01)
        call.cancel()
        await asyncio.wait_for(peer.left.wait(), LONG_SECONDS)
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_large_bodies_arrive_whole() -> None:
    content = bytes(range(256)) * 4 * 4_096  # 4 MiB: more than any socket buffer
    async with http_peer(answer_ok) as peer, http_client() as client:
        await post(client, peer.url, content)
    assert peer.requests[0].body == content
