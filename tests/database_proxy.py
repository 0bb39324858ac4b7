"""A proxy before PostgreSQL, whose connections a test freezes or cuts by the names they give."""

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import parse_qs, urlsplit

SOCKET = ".s.PGSQL.5432"
PIECE_BYTES = 64 * 1024
NAMED = re.compile(rb"application_name\x00([^\x00]*)\x00")
# Every connection, whatever it is called.
ALL = "*"
# Before a name: only what the server answers there.
ANSWERS = "answers of "


class DatabaseProxy:
    """Stands for the server at *target*, and passes on what is said.

    A frozen connection stays open and silent, as when a cable is pulled: what is sent meanwhile
    arrives when it is thawed.

    Args:
        target: The server's socket.
        url: Where this one is reached.
    """

    def __init__(self, target: str, url: str) -> None:
        self.url = url
        self._target = target
        self._moving: defaultdict[str, asyncio.Event] = defaultdict(self._set_event)
        self._links: defaultdict[str, set[asyncio.StreamWriter]] = defaultdict(set)

    @staticmethod
    def _set_event() -> asyncio.Event:
        event = asyncio.Event()
        event.set()
        return event

    def freeze(self, name: str = ALL) -> None:
        """Let nothing through on the connections of that name, nor on new ones.

        With `ANSWERS` before the name, what is asked is let through, and what is answered is not.
        """
        self._moving[name].clear()

    def thaw(self, name: str = ALL) -> None:
        """Let through what was held up."""
        self._moving[name].set()

    @contextmanager
    def silence(self) -> Iterator[None]:
        """Let nothing through at all while the block runs."""
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    def cut(self, name: str) -> None:
        """Close the connections of that name."""
        for writer in [*self._links[name]]:
            writer.transport.abort()

    def say(self, name: str, message: bytes) -> None:
        """Have the server say something on the connections of that name."""
        for writer in self._links[name]:
            writer.write(message)

    def close(self) -> None:
        """Let go of everybody."""
        for event in self._moving.values():
            event.set()
        for name in [*self._links]:
            self.cut(name)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what one client and the server say, until either hangs up."""
        hello = await reader.read(PIECE_BYTES)
        found = NAMED.search(hello)
        name = found[1].decode() if found else ""
        self._links[name].add(writer)
        there: asyncio.StreamWriter | None = None
        try:
            with suppress(OSError):
                from_server, there = await asyncio.open_unix_connection(self._target)
                await self._pass((name,))
                there.write(hello)
                pumps = [
                    asyncio.create_task(self._pump((name,), reader, there)),
                    asyncio.create_task(
                        self._pump((name, f"{ANSWERS}{name}"), from_server, writer)
                    ),
                ]
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            self._links[name].discard(writer)
            for each in (writer, there):
                if each is not None:
                    each.transport.abort()

    async def _pass(self, names: Sequence[str]) -> None:
        for name in (*names, ALL):
            await self._moving[name].wait()

    async def _pump(
        self, names: Sequence[str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError):
            while piece := await reader.read(PIECE_BYTES):
                await self._pass(names)
                writer.write(piece)
                await writer.drain()


@asynccontextmanager
async def database_proxy(url: str) -> AsyncIterator[DatabaseProxy]:
    """Stand before the server of *url*, a SQLAlchemy URL that names its socket's directory."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    target = f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}"
    with TemporaryDirectory(prefix="gero-proxy-") as folder:
        own = parts._replace(query=f"host={folder}&port=5432").geturl()
        proxy = DatabaseProxy(target, own)
        server = await asyncio.start_unix_server(proxy.serve, str(Path(folder) / SOCKET))
        try:
            yield proxy
        finally:
            server.close()
            proxy.close()
            await server.wait_closed()
