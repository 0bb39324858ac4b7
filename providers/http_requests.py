"""What is sent over HTTP: where to, and the bytes of a request's head."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple

from yarl import URL

from providers.addresses import RefusedAddressError, check_literal
from providers.base import ProviderError, ProviderErrorCode

DEFAULT_HEADERS = {"User-Agent": "gero", "Accept": "*/*", "Accept-Encoding": "gzip, deflate"}
# Runs call the same few URLs, with the same few headers, thousands of times.
PARSED_URLS = 1_000
WRITTEN_HEADS = 500
# Where an answer ends, and what its connection is used for next, is decided here alone.
OURS = frozenset(
    {
        "connection", "content-length", "expect", "host", "keep-alive", "proxy-connection", "te",
        "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# Of a path with its query, once everything else is quoted.
VISIBLE = re.compile(r"[\x21-\x7e]+")
HOST = re.compile(r"[A-Za-z0-9\-._~%:]+")
LONGEST_LABEL = 63
# A request without a body says so, where its method would have led one to expect one.
# Source: RFC 9110, section 8.6.
BODY_METHODS = frozenset({"PATCH", "POST", "PUT"})


class Origin(NamedTuple):
    """Whom a connection leads to; all of its requests go to the same."""

    scheme: str
    host: str
    port: int


@dataclass(frozen=True, slots=True, eq=False)
class Address:
    """A URL that can be used, taken apart; compared by identity, since each is parsed once.

    Attributes:
        authority: The value of the Host header.
        target: The path and the query, quoted.
    """

    origin: Origin
    authority: str
    target: str


@lru_cache(maxsize=PARSED_URLS)
def parse_url(url: str, *, public_only: bool) -> Address:
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
    except RefusedAddressError as error:
        raise ProviderError(ProviderErrorCode.REFUSED_ADDRESS, str(error)) from error
    except ValueError as error:
        raise unusable_url() from error
    host, port, target = parsed.raw_host, parsed.port, parsed.raw_path_qs
    if (
        parsed.scheme not in {"http", "https"}
        or not host
        or port is None
        or parsed.user is not None
        or not HOST.fullmatch(host)
        or not (is_literal(host) or _is_name(host))
        or not VISIBLE.fullmatch(target)
    ):
        raise unusable_url()
    origin = Origin(parsed.scheme, host, port)
    return Address(origin, parsed.host_port_subcomponent or host, target)


def is_literal(host: str) -> bool:
    """Tell whether *host* is an address, which no resolver is asked for."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _is_name(host: str) -> bool:
    labels = host.removesuffix(".").split(".")
    return all(0 < len(label) <= LONGEST_LABEL for label in labels)


def write_head(
    method: str, address: Address, headers: Mapping[str, str], content: bytes | None
) -> bytes:
    """Return a request's head, with its last blank line.

    Raises:
        ProviderError: A header would be more than one, or is not the caller's to set.
    """
    head = _write_head(method, address, tuple(headers.items()))
    if content is not None:
        return b"%bContent-Length: %d\r\n\r\n" % (head, len(content))
    if method in BODY_METHODS:
        return head + b"Content-Length: 0\r\n\r\n"
    return head + b"\r\n"


@lru_cache(maxsize=WRITTEN_HEADS)
def _write_head(method: str, address: Address, headers: tuple[tuple[str, str], ...]) -> bytes:
    """Return a request's head, without the length of its body and the last blank line."""
    if not NAME.fullmatch(method):
        raise ValueError(f"{method!r} is no method")
    given = {name.lower() for name, _ in headers}
    defaults = (
        (name, value) for name, value in DEFAULT_HEADERS.items() if name.lower() not in given
    )
    lines = [f"{method} {address.target} HTTP/1.1", f"Host: {address.authority}"]
    for name, value in (*defaults, *headers):
        _check_header(name, value)
        lines.append(f"{name}: {value}")
    try:
        return "\r\n".join((*lines, "")).encode()
    except UnicodeEncodeError as error:
        raise _rejected("a header holds half a character") from error


def _check_header(name: str, value: str) -> None:
    if CONTROLS.search(name) or CONTROLS.search(value):
        raise _rejected("a header holds a line end or another control character")
    if not NAME.fullmatch(name):
        raise _rejected(f"{name!r} can't be the name of a header")
    if name.lower() in OURS:
        raise _rejected(f"the header {name} is set by the connection, and by nothing else")


def unusable_url() -> ProviderError:
    """Say that nothing can be sent to a URL."""
    return _rejected("not a usable URL")


def _rejected(message: str) -> ProviderError:
    return ProviderError(ProviderErrorCode.REJECTED, message)
