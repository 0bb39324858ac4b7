"""The HTTP client of `providers/`, as a ratio to a bare aiohttp session that does the same.

    python -m bench.http_client [--rounds 5] [--calls 4000] [--concurrency 1]

A server in a process of its own answers each POST with one chat completion, as fast as it can.
What is compared is the processor time that a call costs the caller, the system's share included;
rounds take turns, so that both have the same machine.
"""

import argparse
import asyncio
import multiprocessing
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import cast

import aiohttp
import uvloop
from typing_extensions import override

from bench.run_overhead import start_peer
from providers.http import HttpClient

BODY = b'{"model":"m","messages":[{"role":"user","content":"%b"}]}' % (b"Add 2 and 3. " * 40)
ANSWER = b'{"choices":[{"message":{"content":"%b"}}],"usage":{}}' % (b"Five. " * 100)
HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json",
    "Authorization": "Bearer sk-a-key-of-some-length-0123456789",
}
# As many headers as hosted models send.
ANSWERED = (
    b"HTTP/1.1 200 OK\r\nDate: Mon, 02 Nov 2026 10:00:00 GMT\r\nContent-Type: application/json\r\n"
    b"Server: upstream\r\nX-Request-Id: 0123456789abcdef\r\nX-Ratelimit-Remaining: 99\r\n"
    b"Cache-Control: no-store\r\nVary: Origin\r\nContent-Length: %d\r\n\r\n%b"
) % (len(ANSWER), ANSWER)
TIMEOUT_SECONDS = 30.0

Call = Callable[[], Awaitable[bytes]]


class Answering(asyncio.Protocol):
    """Answers once the end of a request's body has come."""

    def __init__(self) -> None:
        self._received = 0

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    @override
    def data_received(self, data: bytes) -> None:
        if data.endswith(b"}]}"):
            self._transport.write(ANSWERED)


def serve(pipe: "multiprocessing.connection.Connection") -> None:
    """Serve until the process is ended."""

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0)
        pipe.send(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/chat/completions")
        await asyncio.Event().wait()

    uvloop.run(run())


@asynccontextmanager
async def ours(url: str, concurrency: int) -> AsyncIterator[Call]:
    """Yield a call with the product's client."""
    client = HttpClient(max_connections=concurrency, public_only=False)

    async def call() -> bytes:
        _, body = await client.fetch(
            "POST",
            url,
            headers=HEADERS,
            content=BODY,
            timeout_seconds=TIMEOUT_SECONDS,
            max_bytes=1_000_000,
        )
        return body

    yield call
    await client.aclose()


@asynccontextmanager
async def theirs(url: str, concurrency: int) -> AsyncIterator[Call]:
    """Yield a call with a bare aiohttp session."""
    connector = aiohttp.TCPConnector(limit=concurrency)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

        async def call() -> bytes:
            async with session.post(url, data=BODY, headers=HEADERS) as response:
                return await response.read()

        yield call


async def cost_of(call: Call, calls: int, concurrency: int) -> float:
    """Return the microseconds of processor time that a call takes."""

    async def some() -> None:
        for _ in range(calls // concurrency):
            assert await call() == ANSWER

    began = time.process_time()
    await asyncio.gather(*(some() for _ in range(concurrency)))
    return (time.process_time() - began) / calls * 1e6


async def measure(arguments: argparse.Namespace, url: str) -> None:
    """Print each round and the median ratio."""
    ratios = []
    clients: list[AbstractAsyncContextManager[Call]] = [
        client(url, arguments.concurrency) for client in (theirs, ours)
    ]
    async with clients[0] as their_call, clients[1] as our_call:
        for call in (their_call, our_call):
            await cost_of(call, arguments.calls // 4, arguments.concurrency)  # warms both sides
        for _ in range(arguments.rounds):
            bare = await cost_of(their_call, arguments.calls, arguments.concurrency)
            mine = await cost_of(our_call, arguments.calls, arguments.concurrency)
            ratios.append(mine / bare)
            print(f"a call takes {mine:.1f} us, with aiohttp {bare:.1f} us ({mine / bare:.2f})")
    print(f"median ratio to aiohttp: {statistics.median(ratios):.2f}")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=4_000)
    parser.add_argument("--concurrency", type=int, default=1)
    arguments = parser.parse_args()
    with start_peer(serve) as url:
        uvloop.run(measure(arguments, url))


if __name__ == "__main__":
    main()
