"""Small answers leave as one piece, and whatever is written arrives whole and in order."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from app.gathered_writes import GatheringTransport
from app.serving import listen, serving, url_of

PARTS = [bytes([65 + number % 26]) * (1 + 7919 * number % 50_000) for number in range(200)]


async def small(request: Request) -> Response:
    return PlainTextResponse("hello " + request.query_params.get("name", ""))


async def large(_: Request) -> Response:
    async def parts() -> AsyncIterator[bytes]:
        for part in PARTS:
            yield part

    return StreamingResponse(parts(), headers={"Content-Length": str(sum(map(len, PARTS)))})


@pytest.fixture
async def address() -> AsyncIterator[tuple[str, int]]:
    app = Starlette(routes=[Route("/small", small), Route("/large", large)])
    listener = listen("127.0.0.1", 0)
    parts = urlsplit(url_of(listener))
    assert parts.hostname is not None
    assert parts.port is not None
    async with serving(app, listener):
        yield parts.hostname, parts.port


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join((f"GET {path} HTTP/1.1", "Host: test", *headers, "", "")).encode()


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[asyncio.Transport, asyncio.StreamReader]]:
    """Yield the transport of one end of a connection, and a reader of the other."""
    one, other = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=one)
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=other)
    yield transport, reader
    transport.abort()
    writer.close()


async def test_what_is_written_in_one_turn_is_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected() as (transport, reader):
        written: list[int] = []
        send = transport.write

        def write(data: bytes) -> None:
            written.append(len(data))
            send(data)

        monkeypatch.setattr(transport, "write", write)
        gathering = GatheringTransport(transport)
        for turn in range(10):
            gathering.write(b"head")
            gathering.write(b"body")
            assert len(written) == turn
            assert await reader.readexactly(8) == b"headbody"
        assert written == [8] * 10


async def problems_of_a_reader_that_leaves() -> list[object]:
    """Return what the loop is told when a reader leaves before what is written has been sent."""
    async with connected() as (transport, _):
        problems: list[object] = []
        loop = asyncio.get_running_loop()
        before = loop.get_exception_handler()
        loop.set_exception_handler(lambda _, context: problems.append(context))
        try:
            gathering = GatheringTransport(transport)
            gathering.write(b"head")
            transport.abort()
            await asyncio.sleep(0.01)
            gathering.write(b"more")
            gathering.close()
            await asyncio.sleep(0.01)
        finally:
            loop.set_exception_handler(before)
        return problems


async def test_what_is_written_before_its_reader_leaves_is_dropped() -> None:
    assert await problems_of_a_reader_that_leaves() == []


def test_it_is_dropped_on_uvloop_too() -> None:
    """Which, unlike asyncio's own loop, takes nothing for a connection that is gone."""
    assert uvloop.run(problems_of_a_reader_that_leaves()) == []


async def test_requests_that_come_together_are_answered_in_order(address: tuple[str, int]) -> None:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"".join(get(f"/small?name={number}") for number in range(20)))
    for number in range(20):
        await reader.readuntil(b"\r\n\r\n")
        text = f"hello {number}".encode()
        assert await reader.readexactly(len(text)) == text
    writer.close()


async def test_what_is_large_arrives_whole(address: tuple[str, int]) -> None:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(get("/large", "Connection: close"))
    await reader.readuntil(b"\r\n\r\n")
    assert await reader.read() == b"".join(PARTS)
    writer.close()


async def test_the_last_answer_of_a_connection_is_sent_before_it_is_closed(
    address: tuple[str, int],
) -> None:
    for number in range(50):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(get(f"/small?name={number}", "Connection: close"))
        assert (await reader.read()).endswith(f"\r\n\r\nhello {number}".encode())
        writer.close()


async def test_a_client_that_leaves_in_the_middle_is_no_error(
    address: tuple[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(20):
        _, writer = await asyncio.open_connection(*address)
        writer.write(get("/large"))
        await writer.drain()
        writer.transport.abort()
    await asyncio.sleep(0.2)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
