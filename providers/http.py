"""The HTTP client that every provider uses: pooled, time-limited, size-limited."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Generator, Iterator, Mapping
from contextlib import asynccontextmanager
from types import coroutine

from typing_extensions import override

from providers.addresses import Resolver
from providers.base import ProviderError, ProviderErrorCode
from providers.crowd import Crowd
from providers.deadlines import CallDeadline
from providers.http_requests import Address, Origin, parse_url, write_head
from providers.inflating import PIECE_BYTES, BrokenCompressionError, Inflater, open_inflater
from providers.wire import Wire
from providers.wire_dial import Dialer
from providers.wire_pool import Usage, WirePool

CONNECT_TIMEOUT_SECONDS = 10.0
REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Headers(Mapping[str, str]):
    """Headers by name, in any case; each is decoded when somebody asks for it."""

    __slots__ = ("_by_name",)

    def __init__(self, by_name: dict[bytes, bytes]) -> None:
        self._by_name = by_name

    @override
    def __getitem__(self, name: str) -> str:
        try:
            value = self._by_name[name.lower().encode()]
        except KeyError:
            raise KeyError(name) from None
        return value.decode("utf-8", "replace").strip(" \t")

    @override
    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1") for name in self._by_name)

    @override
    def __len__(self) -> int:
        return len(self._by_name)


class HttpResponse:
    """An answer whose head has come.

    Attributes:
        status: The HTTP status.
    """

    __slots__ = (
        "_by_name", "_deadline", "_inflater", "_is_complete", "_is_encoded", "_is_open", "_origin",
        "_pool", "_wire", "status",
    )  # fmt: skip

    def __init__(self, wire: Wire, origin: Origin, pool: WirePool, deadline: CallDeadline) -> None:
        self._wire = wire
        self._origin = origin
        self._pool = pool
        self._deadline = deadline
        self._inflater: Inflater | None = None
        self._is_open = True
        self._is_complete = False
        self.status = wire.status
        self._by_name = wire.headers
        self._is_encoded = b"content-encoding" in wire.headers

    @property
    def headers(self) -> Mapping[str, str]:
        """By name, in any case; of those that were sent twice, the first."""
        return Headers(self._by_name)

    @property
    def is_success(self) -> bool:
        """Whether the status is one of 2xx."""
        return 200 <= self.status < 300  # noqa: PLR2004 - the successes

    @property
    def is_redirect(self) -> bool:
        """Whether the answer sends its reader elsewhere."""
        return self.status in REDIRECTS

    @property
    def is_complete(self) -> bool:
        """Whether all of the body has come."""
        return self._is_complete or (self._is_open and self._wire.is_complete)

    @property
    def is_read(self) -> bool:
        """Whether `read` would find nothing more; one that is compressed has to be asked."""
        return self._inflater is None and self._wire.is_taken

    async def read(self) -> bytes:
        """Return the next piece of the body as it comes, any compression undone; empty at its end.

        Raises:
            ProviderError: The connection is lost, the time is up, or the compression is broken.
        """
        if not self._is_open:  # the connection may be another call's
            raise RuntimeError("the answer was closed")
        wire = self._wire
        while True:
            try:
                piece = self._take()
            except BrokenCompressionError as error:
                raise ProviderError(
                    ProviderErrorCode.INVALID_RESPONSE, "the compression is broken"
                ) from error
            if piece or wire.is_complete:
                self._deadline.note_first_byte()
                if self._inflater is not None and len(piece) == PIECE_BYTES:
                    await asyncio.sleep(0)  # a little can become much; others have their turn
                return piece
            if wire.loss is not None:
                raise lost(wire.loss)
            await self._deadline.wait(wire.until_ready(1), wire.alarm)

    def _take(self) -> bytes:
        """Return what has come, at most 64 KiB of it."""
        if self._is_encoded:
            self._inflater = open_inflater(self.headers["content-encoding"])
            self._is_encoded = False
        wire, inflater = self._wire, self._inflater
        if inflater is None:
            return wire.take(PIECE_BYTES)
        piece = inflater.inflate(b"")
        while not piece and (compressed := wire.take(PIECE_BYTES)):
            piece = inflater.inflate(compressed)
        if not piece and wire.is_complete:
            inflater.check_end()
        return piece

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body's pieces; see `read`."""
        while piece := await self.read():
            yield piece

    def close(self) -> None:
        """Hang up at once, unless the body is complete: then the connection is used again."""
        if self._is_open:
            self._is_open = False
            self._is_complete = self._wire.is_complete
            self._pool.give_back(self._origin, self._wire)


class HttpClient:
    """Sends requests to operators' and users' endpoints; follows no redirect by itself.

    Cookies are not kept: they would be shared among workspaces. A request is sent once. Only one of
    which not a byte has been sent, since the pooled connection turned out to be closed, is sent
    over another one.

    Args:
        max_connections: Sockets in use at once; further calls wait for one.
        public_only: Connect to public addresses alone.
        resolver: Looks names up; the system's own resolver when left out.
        connect_timeout_seconds: For a connection to one address, its TLS handshake included.
        tls: How servers are verified; by the system's authorities when left out.

    Source: RFC 9110, section 9.2.2, on what may be repeated.
    """

    def __init__(
        self,
        *,
        max_connections: int,
        public_only: bool,
        resolver: Resolver | None = None,
        connect_timeout_seconds: float = CONNECT_TIMEOUT_SECONDS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._public_only = public_only
        dialer = Dialer(
            public_only=public_only,
            resolver=resolver,
            connect_timeout_seconds=connect_timeout_seconds,
            tls=tls,
        )
        self._pool = WirePool(dialer, max_connections)
        self._crowd = Crowd()

    @property
    def usage(self) -> Usage:
        """How many calls and connections there are just now."""
        return self._pool.usage

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        content: bytes | None = None,
        read_timeout_seconds: float | None = None,
        timeout_seconds: float | None = None,
        first_byte_timeout_seconds: float | None = None,
    ) -> AsyncIterator[HttpResponse]:
        """Send a request and yield its answer before the body is read.

        Leaving before the body is complete hangs up at once.

        Args:
            method: HTTP method.
            url: Absolute URL.
            headers: Sent as they are, but for those that say where a request ends.
            content: The body.
            read_timeout_seconds: The longest wait for any one read, or for a connection.
            timeout_seconds: For everything, while it waits for the other side.
            first_byte_timeout_seconds: From the request sent to the body's first byte.

        Raises:
            ProviderError: The address is refused, the connection fails or is
                lost, or the other side takes too long.
        """
        address = parse_url(url, public_only=self._public_only)
        deadline = CallDeadline(
            address.origin.host, timeout_seconds, first_byte_timeout_seconds, read_timeout_seconds
        )
        response = await self._send(method, address, headers, content, deadline, 0)
        try:
            yield response
        finally:
            response.close()

    async def fetch(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        content: bytes | None = None,
        timeout_seconds: float,
        first_byte_timeout_seconds: float | None = None,
        max_bytes: int,
    ) -> tuple[HttpResponse, bytes]:
        """Send a request and read its whole answer.

        Args:
            method: HTTP method.
            url: Absolute URL.
            headers: Sent as they are, but for those that say where a request ends.
            content: The body.
            timeout_seconds: For everything, from the first packet to the last byte.
            first_byte_timeout_seconds: From the request sent to the answer's head.
            max_bytes: The largest body that is read.

        Returns:
            The answer's head, and its body with any compression undone.

        Raises:
            ProviderError: It failed, took too long, or answered too much.
        """
        address = parse_url(url, public_only=self._public_only)
        deadline = CallDeadline(address.origin.host, timeout_seconds, first_byte_timeout_seconds)
        # One wait for a small answer as a whole, unless its head has a limit of its own.
        wanted_bytes = 0
        if first_byte_timeout_seconds is None:
            wanted_bytes = PIECE_BYTES if max_bytes > PIECE_BYTES else max_bytes + 1
        response = await self._send(method, address, headers, content, deadline, wanted_bytes)
        deadline.note_first_byte()
        try:
            return response, await read_bounded(response, max_bytes)
        finally:
            response.close()

    async def _send(
        self,
        method: str,
        address: Address,
        headers: Mapping[str, str],
        content: bytes | None,
        deadline: CallDeadline,
        wanted_bytes: int,
    ) -> HttpResponse:
        """Return the answer once its head, and so much of its body, has come.

        Raises:
            ProviderError: No head came.
        """
        head = write_head(method, address, headers, content)
        is_head = method == "HEAD"

        def send(wire: Wire) -> bool:
            return wire.send(head, content, is_head=is_head, on_sent=deadline.note_sent)

        if self._crowd.join():
            await _next_turn()
        wire = await self._pool.send(address.origin, send, deadline)
        deadline.note_connected()
        try:
            if not wire.is_ready(wanted_bytes):
                await deadline.wait(wire.until_ready(wanted_bytes), wire.alarm)
            if wire.loss is not None and not wire.has_head:
                raise lost(wire.loss)
        except BaseException:
            self._pool.give_back(address.origin, wire)
            raise
        return HttpResponse(wire, address.origin, self._pool, deadline)


@coroutine
def _next_turn() -> Generator[None, None, None]:
    """Let all others have their turn of the event loop; `asyncio.sleep(0)` does it in two steps."""
    yield


async def read_bounded(response: HttpResponse, max_bytes: int) -> bytes:
    """Return *response*'s body.

    Raises:
        ProviderError: It is over *max_bytes*, or `HttpResponse.read` fails.
    """
    pieces: list[bytes] = []
    size = 0
    while piece := await response.read():
        size += len(piece)
        if size > max_bytes:
            raise too_large(response.status, max_bytes)
        pieces.append(piece)
        if response.is_read:
            break
    return b"".join(pieces)


def lost(why: str) -> ProviderError:
    """Say that a connection was lost, and that nobody knows what came of the request."""
    return ProviderError(ProviderErrorCode.CONNECTION_LOST, f"the connection was lost ({why})")


def too_large(status: int, max_bytes: int) -> ProviderError:
    """Say that an answer is over *max_bytes*."""
    return ProviderError(
        ProviderErrorCode.RESPONSE_TOO_LARGE,
        f"the answer is over the limit of {max_bytes} bytes",
        status=status,
    )
