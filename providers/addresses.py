"""Which network addresses users' endpoints may have, and the resolver that enforces it."""

import asyncio
import ipaddress
import re
import socket
import unicodedata
from typing import Any, Protocol
from urllib.parse import urlsplit

# 6to4, Teredo and NAT64 carry an IPv4 address that a gateway would unwrap.
TUNNELS = tuple(
    ipaddress.ip_network(network) for network in ("2002::/16", "2001::/32", "64:ff9b::/96")
)


# All that is allotted for unicast; site-local and other obsolete ranges lie outside.
GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
# What C libraries read as an IPv4 address in octal, hex, or with parts left out.
# Source: WHATWG URL, "ends in a number checker".
ENDS_IN_A_NUMBER = re.compile(r"(.*\.)?([0-9]+|0x[0-9a-f]*)\.?", re.IGNORECASE | re.DOTALL)


KEPT_NAMES = 1_000
KEPT_SECONDS = 10.0


class RefusedAddressError(OSError):
    """A URL or a name leads to an address that users may not reach."""


def is_public(address: str) -> bool:
    """Tell whether *address* is a globally routable unicast address.

    Source: the IANA special-purpose address registries, as Python's
    `ipaddress` carries them, and RFC 3056, 4380 and 6052 for the tunnels.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if ip not in GLOBAL_UNICAST or any(ip in tunnel for tunnel in TUNNELS):
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def check_literal(url: str) -> None:
    """Refuse *url* when its host is a literal address that is not public, or oddly written.

    Raises:
        RefusedAddressError: It is.
    """
    host = unicodedata.normalize("NFKC", urlsplit(url).hostname or "")
    try:
        public = is_public(host)
    except ValueError:
        if ENDS_IN_A_NUMBER.fullmatch(host):
            raise RefusedAddressError(f"{host} is not an address in its usual form") from None
        return  # a name: the resolver checks what it stands for
    if not public:
        raise RefusedAddressError(f"{host} is not a public address")


class Resolver(Protocol):
    """Looks names up."""

    async def resolve(self, host: str, port: int) -> list[str]:
        """Return *host*'s addresses, in the order in which they should be tried.

        Raises:
            OSError: There are none, or they can't be found.
        """
        ...


class SystemResolver:
    """Asks the system, which also orders the addresses (RFC 6724)."""

    async def resolve(self, host: str, port: int) -> list[str]:
        """Return *host*'s addresses; see `Resolver`."""
        loop = asyncio.get_running_loop()
        found: list[Any] = await loop.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
        return list(dict.fromkeys(_written(*entry[4]) for entry in found))


def _written(address: str, _port: int, _flow: int = 0, zone: int = 0) -> str:
    """Return an address with its zone, without which a link-local one leads nowhere."""
    return f"{address}%{zone}" if zone and "%" not in address else address


class KeepingResolver:
    """Keeps what it found for ten seconds, and asks once for what many want at once.

    Args:
        inner: Looks names up.
    """

    def __init__(self, inner: Resolver) -> None:
        self._inner = inner
        self._kept: dict[tuple[str, int], tuple[float, list[str]]] = {}
        self._asking: dict[tuple[str, int], asyncio.Lock] = {}

    async def resolve(self, host: str, port: int) -> list[str]:
        """Return *host*'s addresses; see `Resolver`."""
        key = host, port
        lock = self._asking.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                until, found = self._kept.get(key, (0.0, []))
                if until <= asyncio.get_running_loop().time():
                    found = await self._inner.resolve(host, port)
                    self._keep(key, found)
                return found
        finally:
            if not lock.locked() and self._asking.get(key) is lock:
                del self._asking[key]

    def _keep(self, key: tuple[str, int], found: list[str]) -> None:
        self._kept.pop(key, None)
        while len(self._kept) >= KEPT_NAMES:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = (asyncio.get_running_loop().time() + KEPT_SECONDS, found)


class PublicResolver:
    """Resolves a name for a connection, which is then made to the very address checked here.

    A name is refused when any of its addresses is not public: it is then
    either misconfigured or trying DNS rebinding.

    Args:
        inner: Looks names up; the system's own resolver when left out.
    """

    def __init__(self, inner: Resolver | None = None) -> None:
        self._inner = inner or SystemResolver()

    async def resolve(self, host: str, port: int) -> list[str]:
        """Return *host*'s addresses; see `Resolver`.

        Raises:
            RefusedAddressError: One of them is not public.
        """
        found = await self._inner.resolve(host, port)
        refused = [address for address in found if not is_public(address)]
        if refused:
            raise RefusedAddressError(f"{host} resolves to {refused[0]}, which is not public")
        return found


async def check_name(host: str, port: int) -> None:
    """Check that *host* resolves, to public addresses only.

    Raises:
        RefusedAddressError: It resolves to another, or not at all.
    """
    try:
        await asyncio.wait_for(PublicResolver().resolve(host, port), timeout=5)
    except RefusedAddressError:
        raise
    except (OSError, TimeoutError, UnicodeError) as error:
        raise RefusedAddressError(f"{host} does not resolve") from error
