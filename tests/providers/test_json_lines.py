"""Lines of a dataset file: split as they come, within bounds, and others have their turn."""

import asyncio
import gzip
import tracemalloc
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.base import DatasetError, DatasetErrorCode
from providers.json_lines import MAX_LINE_BYTES, PIECE_BYTES, gunzip, split_lines
from tests.turns import other_turns

MEBIBYTE = 1024 * 1024
URL = "https://huggingface.co/datasets/o/n/resolve/main/f.jsonl.gz"


async def chunks_of(content: bytes, size: int = 64 * 1024) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def lines_of(chunks: AsyncIterator[bytes], max_bytes: int) -> list[tuple[int, bytes]]:
    return [each async for each in split_lines(chunks, URL, max_bytes)]


@given(
    lines=st.lists(st.sampled_from([b"", b" ", b"a", b"{}", b"x" * 20, b"\xef\xbb\xbfb"])),
    size=st.integers(1, 50),
    members=st.integers(1, 3),
)
async def test_however_a_file_is_cut_and_compressed_its_lines_are_the_same(
    lines: list[bytes], size: int, members: int
) -> None:
    content = b"\n".join(lines)
    expected = [
        (number, line.removeprefix(b"\xef\xbb\xbf"))
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    assert await lines_of(chunks_of(content, size), 10_000) == expected
    part = len(content) // members + 1
    starts = range(0, len(content), part)
    compressed = b"".join(gzip.compress(content[start : start + part]) for start in starts)
    assert await lines_of(gunzip(chunks_of(compressed, size), URL), 10_000) == expected


@pytest.mark.parametrize(
    ("byte", "max_bytes", "said"),
    [
        (b"x", 10**12, f"line 1 is over {MAX_LINE_BYTES} bytes"),
        (b"\n", MEBIBYTE, f"is over the limit of {MEBIBYTE} bytes"),
    ],
)
async def test_a_gzip_bomb_is_stopped_in_little_memory(
    byte: bytes, max_bytes: int, said: str
) -> None:
    bomb = gzip.compress(byte * (200 * MEBIBYTE))
    assert len(bomb) < MEBIBYTE
    tracemalloc.start()
    try:
        with pytest.raises(DatasetError, match=said) as at:
            await lines_of(gunzip(chunks_of(bomb), URL), max_bytes)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert at.value.code == DatasetErrorCode.TOO_LARGE
    assert peak_bytes < 4 * MAX_LINE_BYTES


async def test_a_gzip_bomb_is_stopped_by_a_limit_of_time() -> None:
    bomb = gzip.compress(b"\n" * (200 * MEBIBYTE))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await lines_of(gunzip(chunks_of(bomb), URL), 10**12)


async def test_others_have_their_turn_while_a_file_is_uncompressed() -> None:
    pieces = 40
    content = gzip.compress(b"\n" * (pieces * PIECE_BYTES))
    async with other_turns() as turns:
        assert await lines_of(gunzip(chunks_of(content), URL), 10**12) == []
    assert turns.count >= pieces
