"""The HTTP client that every provider uses: pooled, time-limited, size-limited."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache

import aiohttp
import httpx2
from aiohttp.abc import AbstractResolver
from httpx_aiohttp.httpx2 import AiohttpTransport

from providers.addresses import PublicResolver, check_literal, refused_cause
from providers.base import ProviderError, ProviderErrorCode

CONNECT_TIMEOUT_SECONDS = 10.0
DEFAULT_HEADERS = {"User-Agent": "gero", "Accept": "*/*", "Accept-Encoding": "gzip, deflate"}
# Runs call the same few URLs thousands of times.
PARSED_URLS = 1_000


@lru_cache(maxsize=PARSED_URLS)
def _parse(url: str) -> httpx2.URL:
    parsed = httpx2.URL(url)
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise httpx2.UnsupportedProtocol(f"{parsed.scheme!r} is not http or https")
    return parsed


class HttpClient:
    """Sends requests to operators' and users' endpoints; follows no redirect by itself.

    It uses httpx's transport without a client around it, which would add redirects, cookies and
    authentication: nothing here wants them, and they are a third of a short call's time. Cookies
    are not kept: they would be shared among workspaces.

    Args:
        max_connections: Sockets in use at once; further calls wait for one.
        public_only: Connect to public addresses alone.
        resolver: Looks names up; the system's own resolver when left out.
    """

    def __init__(
        self, *, max_connections: int, public_only: bool, resolver: AbstractResolver | None = None
    ) -> None:
        self._public_only = public_only
        self._resolver = resolver
        self._max_connections = max_connections
        self._transport: AiohttpTransport | None = None

    def _open(self) -> AiohttpTransport:
        # The session needs a running loop, so it is made at the first request.
        if self._transport is None:
            connector = aiohttp.TCPConnector(
                limit=self._max_connections,
                resolver=PublicResolver(self._resolver) if self._public_only else self._resolver,
                use_dns_cache=not self._public_only,
                family=socket.AF_UNSPEC,
            )
            session = aiohttp.ClientSession(
                connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
            )
            self._transport = AiohttpTransport(client=session)
        return self._transport

    async def aclose(self) -> None:
        """Close every connection."""
        if self._transport is not None:
            await self._transport.aclose()
            self._transport = None

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        content: bytes | None = None,
        timeout_seconds: float,
    ) -> AsyncIterator[httpx2.Response]:
        """Send a request and yield its answer before the body is read.

        Args:
            method: HTTP method.
            url: Absolute URL.
            headers: Sent as they are.
            content: The body.
            timeout_seconds: The longest wait for any one read; bound the whole
                with `asyncio.timeout`.

        Raises:
            ProviderError: The address is refused, the connection fails or is
                lost, or a read takes too long.
        """
        try:
            if self._public_only:
                check_literal(url)
            wait = {"connect": CONNECT_TIMEOUT_SECONDS, "read": timeout_seconds}
            request = httpx2.Request(
                method,
                _parse(url),
                headers={**DEFAULT_HEADERS, **headers},
                content=content,
                extensions={"timeout": {**wait, "pool": timeout_seconds}},
            )
            response = await self._open().handle_async_request(request)
        except (httpx2.HTTPError, httpx2.InvalidURL, aiohttp.ClientError, OSError) as error:
            raise explain(error, url) from error
        try:
            yield response
        except (httpx2.HTTPError, aiohttp.ClientError) as error:
            raise explain(error, url) from error
        finally:
            if not response.is_closed:  # as it is once its body has been read
                await asyncio.shield(response.aclose())

    async def fetch(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        content: bytes | None = None,
        timeout_seconds: float,
        max_bytes: int,
    ) -> tuple[httpx2.Response, bytes]:
        """Send a request and read its whole answer.

        Args:
            method: HTTP method.
            url: Absolute URL.
            headers: Sent as they are.
            content: The body.
            timeout_seconds: For everything, from the first packet to the last byte.
            max_bytes: The largest body that is read.

        Returns:
            The answer's head, and its body with any compression undone.

        Raises:
            ProviderError: It failed, took too long, or answered too much.
        """
        try:
            async with (
                asyncio.timeout(timeout_seconds),
                self.stream(
                    method, url, headers=headers, content=content, timeout_seconds=timeout_seconds
                ) as response,
            ):
                return response, await read_bounded(response, max_bytes)
        except TimeoutError as error:
            raise ProviderError(
                ProviderErrorCode.TIMED_OUT,
                f"no complete answer within {timeout_seconds:g} s",
            ) from error


async def read_bounded(response: httpx2.Response, max_bytes: int) -> bytes:
    """Return *response*'s body.

    Raises:
        ProviderError: It is over *max_bytes*.
    """
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.aiter_bytes():
        size += len(chunk)
        if size > max_bytes:
            raise ProviderError(
                ProviderErrorCode.RESPONSE_TOO_LARGE,
                f"the answer is over the limit of {max_bytes} bytes",
                status=response.status_code,
            )
        chunks.append(chunk)
    return b"".join(chunks)


def explain(error: Exception, url: str) -> ProviderError:
    """Say what went wrong with a request to *url*, and whether a repeat is safe."""
    refused = refused_cause(error)
    if refused is not None:
        return ProviderError(ProviderErrorCode.REFUSED_ADDRESS, str(refused))
    cause = error.__cause__ or error
    if isinstance(cause, aiohttp.ClientConnectorError):
        return ProviderError(
            ProviderErrorCode.CONNECTION_FAILED,
            f"can't connect to {httpx2.URL(url).host}: {cause.os_error.strerror or cause}",
            is_retryable=True,
        )
    if isinstance(cause, TimeoutError | aiohttp.ServerTimeoutError) or isinstance(
        error, httpx2.ReadTimeout
    ):
        return ProviderError(ProviderErrorCode.TIMED_OUT, "no answer in time")
    if isinstance(error, httpx2.DecodingError):
        return ProviderError(ProviderErrorCode.INVALID_RESPONSE, "the compression is broken")
    if isinstance(error, httpx2.InvalidURL | httpx2.UnsupportedProtocol):
        return ProviderError(ProviderErrorCode.REJECTED, "not a usable URL")
    return ProviderError(
        ProviderErrorCode.CONNECTION_LOST, f"the connection was lost ({type(cause).__name__})"
    )
