"""Answers that are written at once are, byte by byte, what uvicorn itself would have sent."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.gathered_writes import GatheringProtocol
from app.serving import listen

Headers = list[tuple[bytes, bytes]]
TEN: Headers = [(b"content-length", b"10")]
# Nothing more comes after it.
QUIET_SECONDS = 0.1
LONG = b"x" * 200_000
ASKED = "GET /0 HTTP/1.1\r\nHost: test\r\n\r\n"


def start(headers: Headers, status: int = 200) -> Message:
    return {"type": "http.response.start", "status": status, "headers": headers}


def body(content: bytes, *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": more}


async def app(scope: Scope, _: Receive, send: Send) -> None:
    """Send the answer whose number is the path."""
    for message in list(ANSWERS.values())[int(scope["path"][1:])]:
        if isinstance(message, Exception):
            raise message
        await send(dict(message))


ANSWERS: dict[str, list[Message | Exception]] = {
    "usual": [
        start([*TEN, (b"content-type", b"text/plain"), (b"x-a", b"1\t2")]),
        body(b"0123456789"),
    ],
    "names in any case": [start([(b"Content-Length", b"10"), (b"X-A", b"1")]), body(b"0123456789")],
    "empty": [start([(b"content-length", b"0")], 404), {"type": "http.response.body"}],
    "large": [start([(b"content-length", b"%d" % len(LONG))]), body(LONG)],
    "no content": [start([], 204), body(b"")],
    "not modified": [start([(b"content-length", b"10")], 304), body(b"")],
    "in parts": [start(TEN), body(b"01234", more=True), body(b"56789")],
    "in parts, the last one empty": [start(TEN), body(b"0123456789", more=True), body(b"")],
    "of no stated length": [start([]), body(b"0123456789")],
    "stated as chunked": [start([(b"transfer-encoding", b"chunked")]), body(b"0123456789")],
    "the last of its connection": [start([*TEN, (b"connection", b"close")]), body(b"0123456789")],
    "so in any case": [start([*TEN, (b"Connection", b"Close")]), body(b"0123456789")],
    "longer than stated": [start(TEN), body(b"0123456789+")],
    "shorter than stated": [start(TEN), body(b"012345678")],
    "a header of two lines": [start([*TEN, (b"x-a", b"1\r\nx-b: 2")]), body(b"0123456789")],
    "a header with a line end": [start([*TEN, (b"x-a", b"1\n")]), body(b"0123456789")],
    "a header with a zero": [start([*TEN, (b"x-a", b"\0")]), body(b"0123456789")],
    "a name of two lines": [start([*TEN, (b"x-a\r\nx-b", b"2")]), body(b"0123456789")],
    "a name with a colon": [start([*TEN, (b"x a:", b"1")]), body(b"0123456789")],
    "no headers at all": [{"type": "http.response.start", "status": 200}, body(b"0123456789")],
    "an error first": [ValueError("first")],
    "an error after the head": [start(TEN), ValueError("second")],
    "an error in the middle": [start(TEN), body(b"01234", more=True), ValueError("third")],
    "an error in the end": [start(TEN), body(b"0123456789"), ValueError("fourth")],
    "no body": [start(TEN)],
    "nothing": [],
    "a body without a head": [body(b"0123456789")],
    "two answers": [start(TEN), body(b"0123456789"), start(TEN), body(b"0123456789")],
}
REQUESTS = {
    "GET": ASKED,
    "two at once": ASKED * 2,
    "HEAD": "HEAD /0 HTTP/1.1\r\nHost: test\r\n\r\n",
    "the last": "GET /0 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n",
    "HTTP/1.0": "GET /0 HTTP/1.0\r\n\r\n",
    "an expectation": "POST /0 HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\n"
    "Content-Length: 2\r\n\r\n{}",
}
# What the head had led the client to expect can't be taken back, if it was sent by itself.
ERRORS_AFTER_HEADS = {"an error after the head", "no body"}


@asynccontextmanager
async def served(protocol: type[HttpToolsProtocol], app: ASGIApp) -> AsyncIterator[tuple[str, int]]:
    """Yield the address where *app* is served by *protocol*."""
    listener = listen("127.0.0.1", 0)
    config = uvicorn.Config(
        app, http=protocol, log_config=None, access_log=False, lifespan="off", date_header=False
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.005)
    try:
        yield listener.getsockname()[:2]
    finally:
        server.should_exit = True
        await task


async def received(address: tuple[str, int], request: str) -> bytes:
    """Return all that comes of a request, and of one more that is the last of its connection."""
    reader, writer = await asyncio.open_connection(*address)
    came = b""
    try:
        for sent in (request, REQUESTS["the last"]):
            writer.write(sent.encode())
            with suppress(TimeoutError):
                while piece := await asyncio.wait_for(reader.read(1 << 20), QUIET_SECONDS):
                    came += piece
    except ConnectionResetError:
        came += b"(reset)"
    finally:
        writer.close()
    return came


async def test_the_head_of_a_stream_does_not_wait_for_its_first_part() -> None:
    has_come = asyncio.Event()

    async def late(_: Scope, __: Receive, send: Send) -> None:
        await send(start([(b"content-type", b"text/event-stream")]))
        await has_come.wait()
        await send(body(b"part", more=True))
        await send(body(b""))

    async with served(GatheringProtocol, late) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(ASKED.encode())
        async with asyncio.timeout(5):
            head = await reader.readuntil(b"\r\n\r\n")
            has_come.set()
            assert (await reader.readexactly(4 + len("4\r\n"))) == b"4\r\npart"
        writer.close()
    assert b"content-type: text/event-stream" in head


async def test_answers_are_the_same() -> None:
    asked = {
        (answer, name): request.replace("/0", f"/{number}")
        for number, answer in enumerate(ANSWERS)
        for name, request in REQUESTS.items()
    }
    async with served(HttpToolsProtocol, app) as plain, served(GatheringProtocol, app) as gathering:
        theirs, ours = [
            await asyncio.gather(*(received(address, request) for request in asked.values()))
            for address in (plain, gathering)
        ]
    for (answer, name), their, our in zip(asked, theirs, ours, strict=True):
        if answer in ERRORS_AFTER_HEADS and name != "HEAD":
            assert our.startswith(b"HTTP/1.1 500 "), (answer, name)
        else:
            assert our == their, (answer, name)
