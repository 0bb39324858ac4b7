"""Which addresses are public, and that a name is connected to at the very address checked."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.addresses import (
    PublicResolver,
    RefusedAddressError,
    Resolver,
    check_literal,
    is_public,
)
from providers.base import ProviderError, ProviderErrorCode
from providers.http import HttpClient, HttpResponse

# Source: the IANA IPv4 Special-Purpose Address Registry, and RFC 1112 and 5771 for the last two.
SPECIAL_IPV4 = [
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/29", "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15",
        "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    )
]  # fmt: skip
# Source: the IANA IPv6 Special-Purpose Address Registry, and RFC 3879, 3849 and 4291.
SPECIAL_IPV6 = [
    ipaddress.ip_network(network)
    for network in (
        "::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/32", "2001:db8::/32",
        "2002::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8", "4000::/3",
    )
]  # fmt: skip
UNCLEAR_IPV4 = ipaddress.ip_network("192.0.0.0/24")


@given(st.sampled_from(SPECIAL_IPV4).flatmap(lambda network: st.ip_addresses(network=network)))
def test_no_special_ipv4_address_is_public(address: ipaddress.IPv4Address) -> None:
    assert not is_public(str(address))


@given(st.sampled_from(SPECIAL_IPV6).flatmap(lambda network: st.ip_addresses(network=network)))
def test_no_special_ipv6_address_is_public(address: ipaddress.IPv6Address) -> None:
    assert not is_public(str(address))


@given(st.ip_addresses(v=4))
def test_every_other_ipv4_address_is_public(address: ipaddress.IPv4Address) -> None:
    if address not in UNCLEAR_IPV4:
        assert is_public(str(address)) == (not any(address in one for one in SPECIAL_IPV4))


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_in_ipv6_clothes_is_no_more_public(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    assert is_public(f"::ffff:{address}") == is_public(str(address))
    assert not is_public(f"::{address}")
    assert not is_public(f"64:ff9b::{address}")
    assert not is_public(f"2002:{number >> 16:x}:{number & 0xFFFF:x}::1")


@given(st.ip_addresses(v=4), st.sampled_from(["{0}", "0x{0:x}", "0{0:o}", "0x{0:X}."]))
def test_an_ipv4_address_as_one_number_is_refused(
    address: ipaddress.IPv4Address, form: str
) -> None:
    with pytest.raises(RefusedAddressError):
        check_literal(f"https://{form.format(int(address))}/v1")


@pytest.mark.parametrize("host", ["example.com", "1e100.net", "0x.example", "4chan.org", "a.b1"])
def test_a_name_is_left_to_the_resolver(host: str) -> None:
    check_literal(f"https://{host}/v1")


class Answering:
    """A resolver that gives one answer after the other, and then the last one again."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)

    async def resolve(self, host: str, port: int) -> list[str]:  # noqa: ARG002 - the protocol's
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


@asynccontextmanager
async def counting_server() -> AsyncIterator[tuple[int, list[str]]]:
    """Listen on loopback; yield the port and the requests that come."""
    seen: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append((await reader.readline()).decode())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], seen


async def fetch(resolver: Resolver, url: str, *, public_only: bool) -> HttpResponse:
    client = HttpClient(max_connections=2, public_only=public_only, resolver=resolver)
    try:
        response, _ = await client.fetch("GET", url, headers={}, timeout_seconds=5, max_bytes=100)
    finally:
        await client.aclose()
    return response


async def test_a_name_that_is_rebound_after_the_check_is_refused_at_connect_time() -> None:
    rebinding = Answering(["93.184.215.14"], ["127.0.0.1"])
    await PublicResolver(rebinding).resolve("rebound.example", 80)
    async with counting_server() as (port, seen):
        url = f"http://rebound.example:{port}/v1"
        with pytest.raises(ProviderError, match=r"resolves to 127\.0\.0\.1") as at:
            await fetch(rebinding, url, public_only=True)
        assert at.value.code == ProviderErrorCode.REFUSED_ADDRESS
        assert not at.value.is_retryable
        assert seen == []
        # The same name is reached where the operator trusts it.
        assert (await fetch(rebinding, url, public_only=False)).status == 200
        assert seen == ["GET /v1 HTTP/1.1\r\n"]


async def test_a_name_with_one_private_address_among_public_ones_is_refused() -> None:
    mixed = PublicResolver(Answering(["93.184.215.14", "10.0.0.1"]))
    with pytest.raises(RefusedAddressError, match=r"mixed\.example resolves to 10\.0\.0\.1"):
        await mixed.resolve("mixed.example", 443)
