"""New connections: to whichever address of a name answers first, under TLS for https."""

import asyncio
import os
import socket
import ssl
from collections.abc import Callable, Coroutine
from functools import cache, partial
from itertools import chain, zip_longest
from typing import Any

from providers.addresses import (
    KeepingResolver,
    PublicResolver,
    RefusedAddressError,
    Resolver,
    SystemResolver,
)
from providers.base import ProviderError, ProviderErrorCode
from providers.http_requests import Origin, is_literal, unusable_url
from providers.wire import Wire

# How long one address has before the next is tried beside it.
# Source: RFC 8305, section 8.
STAGGER_SECONDS = 0.25
# Of one name; a name can have hundreds.
MAX_ADDRESSES = 8


class Dialer:
    """Opens connections.

    Args:
        public_only: Connect to public addresses alone.
        resolver: Looks names up; the system's own when left out.
        connect_timeout_seconds: For a connection to one address, its TLS handshake included.
        tls: How servers are verified; by the system's authorities when left out.
    """

    def __init__(
        self,
        *,
        public_only: bool,
        resolver: Resolver | None,
        connect_timeout_seconds: float,
        tls: ssl.SSLContext | None,
    ) -> None:
        inner = resolver or SystemResolver()
        self._resolver = PublicResolver(inner) if public_only else KeepingResolver(inner)
        self._connect_timeout_seconds = connect_timeout_seconds
        self._tls = tls

    async def dial(self, origin: Origin, on_lost: Callable[[Wire], None]) -> Wire:
        """Return a new connection to *origin*, at the very address that was checked.

        Raises:
            ProviderError: There is none.
        """
        try:
            if is_literal(origin.host):
                addresses = [origin.host]
            else:
                addresses = await self._resolver.resolve(origin.host, origin.port)
            return await _first_of(
                [
                    partial(self._connect, origin, address, on_lost)
                    for address in _interleave(addresses)[:MAX_ADDRESSES]
                ]
            )
        except RefusedAddressError as error:
            raise ProviderError(ProviderErrorCode.REFUSED_ADDRESS, str(error)) from error
        except UnicodeError as error:
            raise unusable_url() from error
        except OSError as error:
            raise ProviderError(
                ProviderErrorCode.CONNECTION_FAILED,
                f"can't connect to {origin.host}: {_reason(error)}",
                is_retryable=True,
            ) from error

    async def _connect(self, origin: Origin, address: str, on_lost: Callable[[Wire], None]) -> Wire:
        is_secure = origin.scheme == "https"
        wire = Wire(on_lost)
        try:
            async with asyncio.timeout(self._connect_timeout_seconds):
                await asyncio.get_running_loop().create_connection(
                    lambda: wire,
                    address,
                    origin.port,
                    ssl=(self._tls or _system_tls()) if is_secure else None,
                    server_hostname=origin.host.removesuffix(".") if is_secure else None,
                )
        except TimeoutError as error:
            wire.abort()
            raise ConnectionError("no connection in time") from error
        except BaseException:
            wire.abort()
            raise
        return wire


def _reason(error: OSError) -> str:
    """Say what an error of the system means, in its own words rather than those of a loop."""
    has_words = isinstance(error, socket.gaierror | ssl.SSLError)
    if error.errno and not has_words:
        return os.strerror(error.errno)
    return error.strerror or str(error) or type(error).__name__


@cache
def _system_tls() -> ssl.SSLContext:
    """Read the system's authorities, which takes a while, once."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _interleave(addresses: list[str]) -> list[str]:
    """Let the two families take turns, beginning with the first address's.

    Source: RFC 8305, section 4.
    """
    is_first_v6 = bool(addresses) and ":" in addresses[0]
    first = [each for each in addresses if (":" in each) == is_first_v6]
    second = [each for each in addresses if (":" in each) != is_first_v6]
    pairs = zip_longest(first, second)
    return [each for each in chain.from_iterable(pairs) if each is not None]


async def _first_of(attempts: list[Callable[[], Coroutine[Any, Any, Wire]]]) -> Wire:
    """Return the first connection that is made; each attempt has a start on the next.

    Raises:
        OSError: None is made; it is the last attempt's.
    """
    if not attempts:
        raise OSError("the name has no address")
    if len(attempts) == 1:
        return await attempts[0]()
    tasks: list[asyncio.Task[Wire]] = []
    winner: asyncio.Task[Wire] | None = None
    try:
        while winner is None:
            if len(tasks) < len(attempts):
                tasks.append(asyncio.create_task(attempts[len(tasks)]()))
            pending = [task for task in tasks if not task.done()]
            if not pending and len(tasks) == len(attempts):
                break
            wait = STAGGER_SECONDS if len(tasks) < len(attempts) else None
            if pending:
                await asyncio.wait(pending, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
            winner = next((each for each in tasks if _is_made(each)), None)
    finally:
        for task in tasks:
            if task is not winner:
                task.cancel()
                task.add_done_callback(_hang_up)
    return (winner or tasks[-1]).result()


def _is_made(attempt: asyncio.Task[Wire]) -> bool:
    return attempt.done() and not attempt.cancelled() and attempt.exception() is None


def _hang_up(attempt: asyncio.Task[Wire]) -> None:
    """Leave a connection that was made although another one was before it."""
    if _is_made(attempt):
        attempt.result().abort()
