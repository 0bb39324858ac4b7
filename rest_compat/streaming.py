"""What answers that are made while they are sent have in common."""

import asyncio
import re
import zlib
from collections.abc import AsyncIterator
from typing import Final

from fastapi import Request

# A coding that its client refuses. Source: RFC 9110, section 12.4.2.
NO_WEIGHT: Final = re.compile(r"q=0(\.0{0,3})?")
GZIP_LEVEL: Final = 5


async def begun(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Return *chunks* with the first one read: what is wrong with it is an answer of its own.

    Whatever is wrong further on breaks the answer off.
    """
    first = await anext(chunks, b"")

    async def whole() -> AsyncIterator[bytes]:
        yield first
        async for chunk in chunks:
            yield chunk

    return whole()


def takes_gzip(request: Request) -> bool:
    """Tell whether Accept-Encoding names gzip, and not to refuse it."""
    named = request.headers.get("accept-encoding", "").replace(" ", "").lower().split(",")
    weights = [
        weight for name, _, weight in (each.partition(";") for each in named) if name == "gzip"
    ]
    return bool(weights) and NO_WEIGHT.fullmatch(weights[0]) is None


async def gzipped(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Return *chunks* compressed."""
    compress = zlib.compressobj(GZIP_LEVEL, wbits=zlib.MAX_WBITS | 16)
    async for chunk in chunks:
        if piece := await asyncio.to_thread(compress.compress, chunk):
            yield piece
    yield compress.flush()
