"""Which network addresses users' endpoints may have, and the resolver that enforces it."""

import asyncio
import ipaddress
import re
import socket
import unicodedata
from typing import Any
from urllib.parse import urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from typing_extensions import override

# 6to4, Teredo and NAT64 carry an IPv4 address that a gateway would unwrap.
TUNNELS = tuple(
    ipaddress.ip_network(network) for network in ("2002::/16", "2001::/32", "64:ff9b::/96")
)


# All that is allotted for unicast; site-local and other obsolete ranges lie outside.
GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
# What C libraries read as an IPv4 address in octal, hex, or with parts left out.
# Source: WHATWG URL, "ends in a number checker".
ENDS_IN_A_NUMBER = re.compile(r"(.*\.)?([0-9]+|0x[0-9a-f]*)\.?", re.IGNORECASE | re.DOTALL)


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


class PublicResolver(AbstractResolver):
    """Resolves a name for a connection, which is then made to the very address checked here.

    A name is refused when any of its addresses is not public: it is then
    either misconfigured or trying DNS rebinding.

    Args:
        inner: Looks names up; the system's own resolver when left out.
    """

    def __init__(self, inner: AbstractResolver | None = None) -> None:
        self._inner = inner or ThreadedResolver()

    @override
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return *host*'s addresses.

        Raises:
            RefusedAddressError: One of them is not public.
        """
        found = await self._inner.resolve(host, port, family)
        refused = [entry["host"] for entry in found if not is_public(entry["host"])]
        if refused:
            raise RefusedAddressError(f"{host} resolves to {refused[0]}, which is not public")
        return found

    @override
    async def close(self) -> None:
        await self._inner.close()


async def check_name(host: str, port: int) -> None:
    """Check that *host* resolves, to public addresses only.

    Raises:
        RefusedAddressError: It resolves to another, or not at all.
    """
    resolver = PublicResolver()
    try:
        await asyncio.wait_for(resolver.resolve(host, port, socket.AF_UNSPEC), timeout=5)
    except RefusedAddressError:
        raise
    except (OSError, TimeoutError, UnicodeError) as error:
        raise RefusedAddressError(f"{host} does not resolve") from error
    finally:
        await resolver.close()


def refused_cause(error: BaseException) -> RefusedAddressError | None:
    """Return the refusal that *error* was raised from, if one was."""
    seen: Any = error
    while seen is not None:
        if isinstance(seen, RefusedAddressError):
            return seen
        inner = getattr(seen, "os_error", None)
        if isinstance(inner, RefusedAddressError):
            return inner
        seen = seen.__cause__ or seen.__context__
    return None
