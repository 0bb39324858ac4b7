"""Runs the API and the worker of a process until a signal ends them."""

import asyncio
import gc
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from typing_extensions import override

from app.gathered_writes import GatheringProtocol
from app.settings import KEEP_ALIVE_SECONDS
from jobs.worker import Worker

DRAIN_SECONDS = 10
DRAIN_POLL_SECONDS = 0.005
# uvicorn counts on ten a second: with each tenth it renews the Date header.
TICK_SECONDS = 0.1
BACKLOG = 2_048
# Of a WebSocket's messages, which are GraphQL operations.
MAX_MESSAGE_BYTES = 1024 * 1024
# Measured on a query of 1,800 objects: it halves the processor's work, and the p95.
COLLECTOR_THRESHOLDS = (50_000, 20, 100)


class PortInUseError(Exception):
    """Another process listens there."""


class Server(uvicorn.Server):
    """Leaves signals to whoever runs it, and stops as soon as nothing is under way.

    uvicorn's own looks every tenth of a second whether it must stop, and then
    waits for another.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Take no more connections, and end once the requests under way are answered."""
        self.should_exit = True
        self._stopping.set()

    @override
    async def main_loop(self) -> None:
        """Tick until it must stop."""
        ticks = 0
        while not await self.on_tick(ticks):
            ticks += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), TICK_SECONDS)

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let what is under way finish, for a bounded time."""
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                # uvicorn tells nobody when the last of them ends.
                while self.server_state.connections or self.server_state.tasks:  # noqa: ASYNC110
                    await asyncio.sleep(DRAIN_POLL_SECONDS)
        for task in self.server_state.tasks:
            task.cancel("the server stops")
        await self.lifespan.shutdown()

    @override
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes a free one.

    Raises:
        PortInUseError: Another process listens there, or *host* is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends an answer's head and body without a wait between them (TCP_NODELAY) only on
    # sockets that say that they are TCP.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        why = error.strerror if isinstance(error, OSError) else "a port is 0 to 65535"
        raise PortInUseError(f"can't listen on {host}:{port}: {why}") from error
    listener.setblocking(False)  # noqa: FBT003 - positional only
    return listener


def url_of(listener: socket.socket) -> str:
    """Return the address of *listener*, as a client on this machine reaches it."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104 - compared, not bound
    return f"http://{host}:{port}"


def settle_memory() -> None:
    """Spare the collector what lives as long as the process, and let young objects die young.

    A large answer is tens of thousands of objects: at the usual threshold the
    collector visits them dozens of times while they are made, and finds nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)


@asynccontextmanager
async def serving(
    app: ASGIApp, listener: socket.socket, *, keep_alive_seconds: int = KEEP_ALIVE_SECONDS
) -> AsyncIterator[None]:
    """Serve *app* on *listener* while the block runs; requests under way may finish.

    Args:
        app: What answers.
        listener: Where connections come in.
        keep_alive_seconds: How long a connection is kept that nothing is asked over. Whoever asks
            should leave it first: a request that crosses its closing is lost.
    """
    settle_memory()
    config = uvicorn.Config(
        app,
        http=GatheringProtocol,
        log_config=None,
        access_log=False,
        interface="asgi3",
        proxy_headers=False,  # see `Site`
        lifespan="on",
        ws="websockets-sansio",
        ws_max_size=MAX_MESSAGE_BYTES,
        timeout_keep_alive=keep_alive_seconds,
        server_header=False,
    )
    server = Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:
            if task.done():
                await task
                raise RuntimeError("the server ended while it started")
            await asyncio.sleep(0.005)
        yield
    finally:
        server.stop()
        await task


@asynccontextmanager
async def working(worker: Worker) -> AsyncIterator[None]:
    """Run *worker* while the block runs; jobs under way get a bounded time to finish."""
    settle_memory()
    task = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        worker.stop()
        _, pending = await asyncio.wait({task}, timeout=DRAIN_SECONDS)
        for late in pending:
            late.cancel()
            with suppress(asyncio.CancelledError):
                await late


def stop_signal() -> asyncio.Event:
    """Return an event that SIGINT or SIGTERM sets."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    return stopping


async def run_until_stopped(*parts: Any) -> None:
    """Enter each of *parts*, and leave them in reverse when a signal comes."""
    stopping = stop_signal()
    async with AsyncExitStack() as stack:
        for part in parts:
            await stack.enter_async_context(part)
        await stopping.wait()
