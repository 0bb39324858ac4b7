"""The load client: HTTP/1.1 keep-alive over asyncio transports, parsed by httptools.

It sends one request again and again, and checks that each answer is a 200 of
the length that is expected.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import httptools
from typing_extensions import override

from bench.graphql.scene import Scene

SUCCESSES = range(200, 300)
LONGEST_ANSWER_SECONDS = 30


class LoadError(Exception):
    """A server answered something else than what was checked beforehand."""


@dataclass(frozen=True, slots=True)
class Window:
    """How long to send: until *seconds* have passed, within these numbers of requests."""

    seconds: float
    least: int = 5
    most: int = 20_000

    def is_over(self, sent: int, began: float) -> bool:
        """Tell whether no further request begins."""
        if sent < self.least:
            return False
        return sent >= self.most or time.perf_counter() - began >= self.seconds


@dataclass(frozen=True, slots=True)
class Burst:
    """What was answered in a window, and how long it took."""

    answers: int
    seconds: float


class Connection(asyncio.Protocol):
    """One keep-alive connection, with one request under way at most."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []
        self._answer: asyncio.Future[bytes] | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one without saying so

    @override
    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("the server hung up"))

    def on_body(self, body: bytes) -> None:
        """Take a part of the answer from the parser."""
        self._parts.append(body)

    def on_message_complete(self) -> None:
        """Hand the answer over."""
        body = b"".join(self._parts)
        self._parts.clear()
        if self._answer is None or self._answer.done():
            return
        status = self._parser.get_status_code()
        if status in SUCCESSES:
            self._answer.set_result(body)
        else:
            self._answer.set_exception(LoadError(f"answered {status}: {body[:500]!r}"))

    async def ask(self, request: bytes) -> bytes:
        """Send a whole request and return its answer's body."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()


async def connect(url: str) -> Connection:
    """Open a connection to the server at *url*."""
    host, _, port = urlsplit(url).netloc.rpartition(":")
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(Connection, host, int(port))
    return connection


def request_of(scene: Scene, body: bytes) -> bytes:
    """Return the bytes of a POST to /graphql, with the scene's token."""
    head = (
        "POST /graphql HTTP/1.1\r\n"
        "Host: bench\r\n"
        "Accept: application/json\r\n"
        "Content-Type: application/json\r\n"
        f"Authorization: Bearer {scene.token}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def ask_in_turn(
    connection: Connection, request: bytes, length: int, window: Window
) -> list[float]:
    """Send *request* whenever the last one was answered; return each latency in seconds."""
    latencies: list[float] = []
    began = time.perf_counter()
    async with asyncio.timeout(window.seconds + LONGEST_ANSWER_SECONDS):
        while not window.is_over(len(latencies), began):
            sent = time.perf_counter()
            _check(await connection.ask(request), length)
            latencies.append(time.perf_counter() - sent)
    return latencies


async def ask_at_once(
    connections: Sequence[Connection], request: bytes, length: int, window: Window
) -> Burst:
    """Keep a request under way on every connection; return how many were answered."""
    sent = 0
    began = time.perf_counter()

    async def keep_asking(connection: Connection) -> None:
        nonlocal sent
        while not window.is_over(sent, began):
            sent += 1
            _check(await connection.ask(request), length)

    async with (
        asyncio.timeout(window.seconds + LONGEST_ANSWER_SECONDS),
        asyncio.TaskGroup() as all_,
    ):
        for connection in connections:
            all_.create_task(keep_asking(connection))
    return Burst(sent, time.perf_counter() - began)


def _check(answer: bytes, length: int) -> None:
    if len(answer) != length:
        raise LoadError(f"answered {len(answer)} bytes, not {length}: {answer[:500]!r}")
