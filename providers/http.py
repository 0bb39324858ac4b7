"""The HTTP client that every provider uses: pooled, time-limited, size-limited."""

import asyncio
import select
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache

import aiohttp
from aiohttp.abc import AbstractResolver, AbstractStreamWriter
from aiohttp.http_exceptions import ContentEncodingError
from typing_extensions import override
from yarl import URL

from providers.addresses import PublicResolver, check_literal, refused_cause
from providers.base import ProviderError, ProviderErrorCode
from providers.deadlines import CallDeadline

CONNECT_TIMEOUT_SECONDS = 10.0
DEFAULT_HEADERS = {"User-Agent": "gero", "Accept": "*/*", "Accept-Encoding": "gzip, deflate"}
# Runs call the same few URLs thousands of times.
PARSED_URLS = 1_000
# Of a body, at once: others have their turn between two of them.
PIECE_BYTES = 64 * 1024
# Each finds a pooled connection closed before anything was sent; the loop then notices the others.
ATTEMPTS_TO_SEND = 3
REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Not everywhere; where it is missing, an error or a hang-up is told all the same.
PEER_CLOSED = getattr(select, "POLLRDHUP", 0)


class HttpResponse:
    """An answer whose head has come.

    Attributes:
        status: The HTTP status.
        headers: By name, in any case.
    """

    __slots__ = ("_deadline", "_inner", "headers", "status")

    def __init__(self, inner: aiohttp.ClientResponse, deadline: CallDeadline) -> None:
        self._inner = inner
        self._deadline = deadline
        self.status = inner.status
        self.headers: Mapping[str, str] = inner.headers

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
        return self._inner.closed

    async def read(self) -> bytes:
        """Return the next piece of the body as it comes, any compression undone; empty at its end.

        Raises:
            ProviderError: The connection is lost, the time is up, or the compression is broken.
        """
        content = self._inner.content
        try:
            piece = content.read_nowait(PIECE_BYTES)
            if not piece and not content.at_eof():
                async with self._deadline:
                    piece = await content.read(PIECE_BYTES)
        except (aiohttp.ClientError, OSError) as error:
            raise explain(error, self._inner.url) from error
        self._deadline.note_first_byte()
        return piece

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body's pieces; see `read`."""
        while piece := await self.read():
            yield piece

    def close(self) -> None:
        """Hang up at once, unless the body is complete: then the connection is used again."""
        connection = self._inner.connection
        if connection is not None and connection.transport is not None:
            connection.transport.abort()
        self._inner.close()


class HttpClient:
    """Sends requests to operators' and users' endpoints; follows no redirect by itself.

    Cookies are not kept: they would be shared among workspaces. A POST is sent once: what aiohttp
    sends again after a lost connection are the methods that may be repeated. Only a request of
    which not a byte has been sent, since the pooled connection turned out to be closed, is sent
    over another one.

    Args:
        max_connections: Sockets in use at once; further calls wait for one.
        public_only: Connect to public addresses alone.
        resolver: Looks names up; the system's own resolver when left out.
        connect_timeout_seconds: For a connection to one address, its TLS handshake included.

    Source: RFC 9110, section 9.2.2, on what may be repeated.
    """

    def __init__(
        self,
        *,
        max_connections: int,
        public_only: bool,
        resolver: AbstractResolver | None = None,
        connect_timeout_seconds: float = CONNECT_TIMEOUT_SECONDS,
    ) -> None:
        self._public_only = public_only
        self._resolver = resolver
        self._max_connections = max_connections
        self._connect_timeout_seconds = connect_timeout_seconds
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        # The session needs a running loop, so it is made at the first request.
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=self._max_connections,
                resolver=PublicResolver(self._resolver) if self._public_only else self._resolver,
                use_dns_cache=not self._public_only,
                family=socket.AF_UNSPEC,
            )
            self._session = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._session

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

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
            headers: Sent as they are.
            content: The body.
            read_timeout_seconds: The longest wait for any one read, or for a connection.
            timeout_seconds: For everything, while it waits for the other side.
            first_byte_timeout_seconds: From the request sent to the body's first byte.

        Raises:
            ProviderError: The address is refused, the connection fails or is
                lost, or the other side takes too long.
        """
        deadline = CallDeadline(timeout_seconds, first_byte_timeout_seconds)
        limits = aiohttp.ClientTimeout(
            connect=read_timeout_seconds,
            sock_connect=self._connect_timeout_seconds,
            sock_read=read_timeout_seconds,
        )
        async with deadline:
            response = await self._send(method, url, headers, content, limits, deadline)
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
            headers: Sent as they are.
            content: The body.
            timeout_seconds: For everything, from the first packet to the last byte.
            first_byte_timeout_seconds: From the request sent to the answer's head.
            max_bytes: The largest body that is read.

        Returns:
            The answer's head, and its body with any compression undone.

        Raises:
            ProviderError: It failed, took too long, or answered too much.
        """
        deadline = CallDeadline(timeout_seconds, first_byte_timeout_seconds)
        limits = aiohttp.ClientTimeout(sock_connect=self._connect_timeout_seconds)
        async with deadline:
            response = await self._send(method, url, headers, content, limits, deadline)
        deadline.note_first_byte()
        try:
            return response, await read_bounded(response, max_bytes)
        finally:
            response.close()

    async def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        content: bytes | None,
        limits: aiohttp.ClientTimeout,
        deadline: CallDeadline,
    ) -> HttpResponse:
        """Return the answer's head.

        Raises:
            ProviderError: None came.
        """
        address = _parse(url, public_only=self._public_only)
        session = self._open()
        if content is None:
            deadline.note_sent()
        for _ in range(ATTEMPTS_TO_SEND):
            body = None if content is None else _Content(content, deadline.note_sent)
            try:
                response = await session.request(
                    method,
                    address,
                    headers={**DEFAULT_HEADERS, **headers},
                    data=body,
                    allow_redirects=False,
                    timeout=limits,
                )
            except (aiohttp.ClientError, OSError, ValueError) as error:
                if body is None or not body.found_closed:
                    raise explain(error, address) from error
            else:
                return HttpResponse(response, deadline)
        raise ProviderError(
            ProviderErrorCode.CONNECTION_FAILED,
            f"{address.host} closes its connections before a request is sent",
            is_retryable=True,
        )


class _Content(aiohttp.Payload):
    """A request's body, which is not sent over a connection that its server has closed.

    Only the kernel knows of a connection that was closed while this process was busy. Asked in the
    same turn of the loop in which all is written, it makes sure that nothing has been sent: without
    that, a lost POST could not be told from one that was never read.
    """

    def __init__(self, content: bytes, on_sent: Callable[[], None]) -> None:
        super().__init__(content, content_type="application/octet-stream")
        self._content = content
        self._on_sent = on_sent
        self.found_closed = False

    @property
    @override
    def size(self) -> int:
        return len(self._content)

    @property
    @override
    def autoclose(self) -> bool:
        return True

    @override
    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self._content.decode(encoding, errors)

    @override
    async def write(self, writer: AbstractStreamWriter) -> None:
        transport = getattr(writer, "transport", None)
        if transport is None or _is_closed(transport):
            self.found_closed = True
            raise ConnectionResetError("the server has closed the connection")
        await writer.write(self._content)
        self._on_sent()


def _is_closed(transport: asyncio.Transport) -> bool:
    if transport.is_closing():
        return True
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), PEER_CLOSED)
    return bool(poll.poll(0))


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
    return b"".join(pieces)


def too_large(status: int, max_bytes: int) -> ProviderError:
    """Say that an answer is over *max_bytes*."""
    return ProviderError(
        ProviderErrorCode.RESPONSE_TOO_LARGE,
        f"the answer is over the limit of {max_bytes} bytes",
        status=status,
    )


@lru_cache(maxsize=PARSED_URLS)
def _parse(url: str, *, public_only: bool) -> URL:
    """Read *url*, and check what it says of an address.

    Raises:
        ProviderError: It can't be used, or its address is not public and must be.
    """
    try:
        if public_only:
            check_literal(url)
        parsed = URL(url)
        if public_only:  # the host that is connected to, should the two readings differ
            check_literal(str(parsed))
    except OSError as error:
        raise explain(error, None) from error
    except ValueError as error:
        raise _unusable() from error
    if parsed.scheme not in {"http", "https"} or not parsed.host or parsed.user is not None:
        raise _unusable()
    return parsed


def _unusable() -> ProviderError:
    return ProviderError(ProviderErrorCode.REJECTED, "not a usable URL")


def explain(error: Exception, url: URL | None) -> ProviderError:
    """Say what went wrong with a request to *url*, and whether a repeat is safe."""
    refused = refused_cause(error)
    if refused is not None:
        return ProviderError(ProviderErrorCode.REFUSED_ADDRESS, str(refused))
    host = url.host if url is not None else None
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return _no_connection(host, "no connection in time")
    if isinstance(error, aiohttp.ClientConnectorError):
        return _no_connection(host, error.os_error.strerror or error)
    if isinstance(error, TimeoutError):
        return ProviderError(ProviderErrorCode.TIMED_OUT, "no answer in time")
    if isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError | UnicodeError):
        return _unusable()
    if isinstance(error, ValueError):  # what aiohttp says of a header that would inject others
        return ProviderError(
            ProviderErrorCode.REJECTED, "a header holds a line end or another control character"
        )
    if _comes_from(error, ContentEncodingError):
        return ProviderError(ProviderErrorCode.INVALID_RESPONSE, "the compression is broken")
    return ProviderError(
        ProviderErrorCode.CONNECTION_LOST, f"the connection was lost ({type(error).__name__})"
    )


def _comes_from(error: BaseException | None, kind: type[Exception]) -> bool:
    while error is not None and not isinstance(error, kind):
        error = error.__cause__
    return error is not None


def _no_connection(host: str | None, why: object) -> ProviderError:
    return ProviderError(
        ProviderErrorCode.CONNECTION_FAILED, f"can't connect to {host}: {why}", is_retryable=True
    )
