"""An HTTP server that a test writes byte by byte, and that counts what it is sent."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import orjson

from providers.base import ChatTarget
from providers.chat import HttpChatProvider
from providers.http import HttpClient

Answer = Callable[["Exchange"], Awaitable[None]]
SHORT_SECONDS = 0.2
LONG_SECONDS = 20.0


@dataclass
class Exchange:
    """One request, and the means to answer it."""

    head: bytes
    body: bytes
    writer: asyncio.StreamWriter
    reader: asyncio.StreamReader

    async def send(self, *parts: bytes) -> None:
        """Send each of *parts* in a packet of its own."""
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()
            await asyncio.sleep(0)

    async def answer(self, body: bytes, *headers: str, status: str = "200 OK") -> None:
        lines = (f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", "")
        await self.send("\r\n".join(lines).encode() + body)

    async def begin_stream(self, content_type: str = "text/event-stream") -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n"
        await self.send(head.encode() + b"\r\n")

    async def send_chunks(self, *parts: bytes) -> None:
        await self.send(*(b"%x\r\n%b\r\n" % (len(part), part) for part in parts))

    async def end_stream(self) -> None:
        await self.send(b"0\r\n\r\n")

    async def wait_until_left(self) -> None:
        """Wait for the client to hang up."""
        with suppress(ConnectionError):
            while await self.reader.read(1024):
                pass

    def json(self) -> Any:
        return orjson.loads(self.body)


@dataclass
class HttpPeer:
    """What a server was sent.

    Attributes:
        connections: How many sockets it accepted.
        left: Set when a client has hung up while it was answered.
    """

    url: str = ""
    connections: int = 0
    requests: list[Exchange] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def base(self) -> str:
        return self.url.removesuffix("/v1")


async def read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Exchange:
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
    body = await reader.readexactly(int(fields.get(b"content-length", b"0")))
    return Exchange(head, body, writer, reader)


@asynccontextmanager
async def http_peer(answer: Answer) -> AsyncIterator[HttpPeer]:
    """Serve *answer* on loopback, on connections that are kept open."""
    peer = HttpPeer()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer.connections += 1
        try:
            while not writer.is_closing():
                exchange = await read_request(reader, writer)
                peer.requests.append(exchange)
                await answer(exchange)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    peer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield peer
    finally:
        server.close()


@asynccontextmanager
async def http_client(**options: Any) -> AsyncIterator[HttpClient]:
    client = HttpClient(**({"max_connections": 4, "public_only": False} | options))
    try:
        yield client
    finally:
        await client.aclose()


@asynccontextmanager
async def chat_provider(
    *, sandbox_url: str | None = None, openrouter_url: str = "", max_bytes: int = 100_000
) -> AsyncIterator[HttpChatProvider]:
    async with http_client() as client:
        yield HttpChatProvider(
            trusted=client,
            guarded=client,
            openrouter_url=openrouter_url,
            sandbox_url=sandbox_url,
            allow_private_endpoints=True,
            max_response_bytes=max_bytes,
        )


def target_at(url: str | None, **fields: Any) -> ChatTarget:
    values: dict[str, Any] = {
        "provider": "custom",
        "model_id": "m",
        "url": url,
        "headers": {"Authorization": "Bearer key-of-the-workspace"},
        "params": {},
        "timeout_seconds": LONG_SECONDS,
        "input_price_per_million_usd": None,
        "output_price_per_million_usd": None,
    }
    return ChatTarget(**(values | fields))
