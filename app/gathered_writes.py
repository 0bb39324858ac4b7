"""Answers that leave as one piece: each write by itself is a call of the kernel."""

import asyncio
from typing import Any

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# More than this is not put together, but sent as it comes.
GATHERED_BYTES = 64 * 1024


class GatheringTransport:
    """A transport that sends what is written within one turn of the event loop together.

    uvicorn writes the head of an answer and then its body, which takes twice as long. All else is
    the transport's own.

    Args:
        transport: What sends.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._parts: list[bytes] = []
        self._size = 0
        self._call_soon = asyncio.get_running_loop().call_soon

    def __getattr__(self, name: str) -> Any:
        """Return what the transport has."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send *data*, with what else is written in this turn."""
        if not self._parts:
            self._call_soon(self._send)
        self._parts.append(data)
        self._size += len(data)
        if self._size > GATHERED_BYTES:
            self._send()

    def close(self) -> None:
        """Send what is written, and close."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        parts, self._parts, self._size = self._parts, [], 0
        if parts and not self._transport.is_closing():  # the client may have left since
            self._transport.write(b"".join(parts))


class GatheringProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, whose answers leave as one piece when they are small."""

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(GatheringTransport(transport))  # type: ignore[arg-type]
