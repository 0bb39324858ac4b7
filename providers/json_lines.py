"""A dataset file's bytes as lines: uncompressed, split and bounded, a piece at a time."""

import asyncio
import zlib
from collections.abc import AsyncIterator

from providers.base import DatasetError, DatasetErrorCode

MAX_LINE_BYTES = 8 * 1024 * 1024
# A few compressed bytes can stand for gigabytes: uncompressed so many at a time, splitting a piece
# into lines keeps the event loop for 10 ms, and 30 at worst: nothing but blank lines.
PIECE_BYTES = 256 * 1024
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


async def gunzip(chunks: AsyncIterator[bytes], url: str) -> AsyncIterator[bytes]:
    """Undo gzip, whose members may follow one another, a bounded piece at a time.

    Raises:
        DatasetError: It is not gzip, or ends too early.
    """
    wbits = zlib.MAX_WBITS | 16
    inflate = zlib.decompressobj(wbits)
    begun = False
    async for chunk in chunks:
        rest = chunk
        while rest:
            if inflate.eof:
                inflate = zlib.decompressobj(wbits)
            try:
                piece = inflate.decompress(rest, PIECE_BYTES)
            except zlib.error as error:
                raise DatasetError(
                    f"{url!r} is not a valid gzip file ({error})", code=DatasetErrorCode.NOT_JSONL
                ) from error
            begun = True
            rest = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
            yield piece
            # Others have their turn, and a limit of time its effect, between any two pieces.
            await asyncio.sleep(0)
    if begun and not inflate.eof:
        raise DatasetError(f"{url!r} is a truncated gzip file", code=DatasetErrorCode.TRUNCATED)


async def split_lines(
    chunks: AsyncIterator[bytes], url: str, max_bytes: int
) -> AsyncIterator[tuple[int, bytes]]:
    """Split into lines with their 1-based numbers, skipping blank ones and a byte order mark.

    Raises:
        DatasetError: A line is over `MAX_LINE_BYTES`, or all of them are over *max_bytes*.
    """
    # The line that is still to end, in its pieces: put together with each one that comes, a long
    # line would be copied once for every piece of it.
    begun: list[bytes] = []
    begun_bytes = number = size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > max_bytes:
            raise DatasetError(
                f"{url!r} is over the limit of {max_bytes} bytes", code=DatasetErrorCode.TOO_LARGE
            )
        begun.append(chunk)
        begun_bytes += len(chunk)
        if b"\n" in chunk:
            *complete, rest = b"".join(begun).split(b"\n")
            for line in complete:
                number += 1
                if line.strip():
                    yield number, line.removeprefix(BYTE_ORDER_MARK)
            begun, begun_bytes = [rest], len(rest)
        if begun_bytes > MAX_LINE_BYTES:
            raise DatasetError(
                f"{url!r}: line {number + 1} is over {MAX_LINE_BYTES} bytes",
                code=DatasetErrorCode.TOO_LARGE,
                line=number + 1,
            )
    rest = b"".join(begun)
    if rest.strip():
        yield number + 1, rest.removeprefix(BYTE_ORDER_MARK)
