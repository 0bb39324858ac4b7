"""Answers that leave as one piece: each write by itself is a call of the kernel."""

import asyncio
import re
from collections.abc import Awaitable
from functools import lru_cache
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from providers.crowd import Crowd

# Of a transport, what is not changed.
PASSED_ON = tuple(
    name for name in dir(asyncio.Transport) if name[0] != "_" and name not in {"write", "close"}
)
# More than this is not put together, but sent as it comes.
GATHERED_BYTES = 64 * 1024
# Of headers: those of an answer are some of a few dozen.
NAMES = re.compile(rb"[a-z0-9!#$%&'*+.^_`|~-]+")
KNOWN_NAMES = 256
# What no value of a header holds, which becomes a question mark here, and what it holds itself.
CONTROLS = {*range(32), 127} - {ord("\t")}
SOUND = bytes(ord("?") if byte in CONTROLS else byte for byte in range(256))
# They decide how an answer is framed, or what becomes of its connection.
FRAMING = frozenset({b"connection", b"transfer-encoding"})
BODYLESS = frozenset({204, 304})


class GatheringTransport:
    """A transport that sends what is written within one turn of the event loop together.

    uvicorn writes the head of an answer and then its body, which takes twice as long. All else is
    the transport's own.

    Args:
        transport: What sends.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._parts: list[bytes] = []
        self._size = 0
        self._call_soon = asyncio.get_running_loop().call_soon
        for name in PASSED_ON:
            setattr(self, name, getattr(transport, name))

    def write(self, data: bytes) -> None:
        """Send *data*, with what else is written in this turn."""
        if not self._parts:
            self._call_soon(self._send)
        self._parts.append(data)
        self._size += len(data)
        if self._size > GATHERED_BYTES:
            self._send()

    def send(self, data: bytes, crowd: Crowd) -> None:
        """Send *data* at once, unless something is written already or many want to leave."""
        if crowd.join() or self._parts or self._transport.is_closing():
            self.write(data)
        else:
            self._transport.write(data)

    def close(self) -> None:
        """Send what is written, and close."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        parts, self._parts, self._size = self._parts, [], 0
        if parts and not self._transport.is_closing():  # the client may have left since
            self._transport.write(b"".join(parts))


@lru_cache(maxsize=KNOWN_NAMES)
def _are_names(joined: bytes) -> bool:
    """Tell whether the names of headers, one after the other, are in small letters and sound."""
    return NAMES.fullmatch(joined) is not None


class WholeAnswer:
    """Serves a request whose answer, when it is sent whole and is like most, is written at once.

    uvicorn takes each header by itself, which is a good part of the time that a short answer takes.
    Whatever is out of the ordinary is left to it.

    Args:
        cycle: uvicorn's, of this request.
        app: What serves it.
        crowd: Of all answers.
    """

    __slots__ = ("_app", "_crowd", "_cycle", "_fields", "_headers", "_send", "_start")

    def __init__(self, cycle: RequestResponseCycle, app: ASGIApp, crowd: Crowd) -> None:
        self._cycle = cycle
        self._app = app
        self._crowd = crowd
        self._send: Send
        self._start: Message | None = None
        self._headers: list[tuple[bytes, bytes]]
        self._fields: dict[bytes, bytes]

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve the request."""
        self._send = send
        return self._app(scope, receive, self.send)

    async def send(self, message: Message) -> None:
        """Send a part of the answer: a head that states a length, once the body has come too."""
        start = self._start
        if start is None and message["type"] == "http.response.start":
            cycle = self._cycle
            message["headers"] = given = list(message.get("headers", ()))
            self._headers = headers = [*cycle.default_headers, *given]
            self._fields = fields = dict(headers)
            if b"content-length" in fields:
                self._start = message
                cycle.waiting_for_100_continue = False
                return
        if start is not None:
            self._start = None
            is_whole = not message.get("more_body")
            if is_whole and self._write(start["status"], message.get("body", b"")):
                return
            await self._send(start)
        await self._send(message)

    def _write(self, status: int, body: bytes) -> bool:
        """Write an answer, unless uvicorn has to look at it; tell whether it is written."""
        cycle, headers, fields = self._cycle, self._headers, self._fields
        is_usual = cycle.keep_alive and not (cycle.response_started or cycle.disconnected)
        if not is_usual or cycle.flow.write_paused or status in BODYLESS:
            return False
        is_plain = len(fields) == len(headers) and _are_names(b"".join(fields))
        if not is_plain or not FRAMING.isdisjoint(fields):
            return False
        values = b"".join(fields.values())
        has_length = fields[b"content-length"] == b"%d" % len(body)
        if not has_length or values.translate(SOUND) != values:
            return False
        lines = [*map(b": ".join, headers), b"", body]
        transport: Any = cycle.transport
        transport.send(STATUS_LINE[status] + b"\r\n".join(lines), self._crowd)
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        cycle.on_response()
        return True


class GatheringProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, whose answers leave as one piece when they are small."""

    _crowd = Crowd()

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(GatheringTransport(transport))  # type: ignore[arg-type]

    @override
    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if cycle.scope["method"] != "HEAD":
            app = WholeAnswer(cycle, app, self._crowd)
        super()._start_asgi_task(cycle, app)
