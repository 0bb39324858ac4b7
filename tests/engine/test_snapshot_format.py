"""Blocks of a snapshot: every row and every byte is found, and a changed byte is noticed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.snapshot_format import (
    BLOCK_BYTES,
    BLOCK_ROWS,
    INDEX_ROW,
    BlockTable,
    BlockTableWriter,
    ChangedBytesError,
    index_row,
    lines_at,
    read_index,
)


def write(lines: list[bytes]) -> tuple[BlockTable, bytes]:
    writer = BlockTableWriter()
    for line in lines:
        writer.add(line)
    content = b"".join(lines)
    assert writer.size_bytes == len(content)
    return BlockTable(writer.finish(), len(content)), content


def block(table: BlockTable, content: bytes, number: int) -> bytes:
    start, length = table.range_of(number)
    return content[start : start + length]


LINES = st.lists(
    st.sampled_from([b"{}\n", b"x" * 100 + b"\n", b"y" * (BLOCK_BYTES // 3) + b"\n"]), max_size=700
)


@given(LINES)
def test_every_row_is_found_in_its_block(lines: list[bytes]) -> None:
    table, content = write(lines)
    assert b"".join(block(table, content, number) for number in range(len(table))) == content
    for position, line in enumerate(lines):
        number = table.holding_row(position)
        found = lines_at(block(table, content, number), table.first_row_of(number), [position])
        assert list(found) == [(position, line.rstrip(b"\n"))]


@given(LINES, st.data())
def test_the_bytes_of_a_range_lie_in_the_blocks_that_hold_it(
    lines: list[bytes], data: st.DataObject
) -> None:
    table, content = write(lines)
    if not content:
        return
    start = data.draw(st.integers(0, len(content) - 1))
    end = data.draw(st.integers(start + 1, len(content)))
    numbers = table.holding(start, end)
    first, _ = table.range_of(numbers[0])
    held = b"".join(block(table, content, number) for number in numbers)
    assert held[start - first : end - first] == content[start:end]
    last_start, _ = table.range_of(numbers[-1])
    assert first <= start
    assert last_start < end


def test_a_block_ends_by_its_rows_or_by_its_bytes() -> None:
    table, _ = write([b"{}\n"] * (BLOCK_ROWS + 1))
    assert [table.first_row_of(number) for number in range(len(table))] == [0, BLOCK_ROWS]
    long = b"x" * BLOCK_BYTES + b"\n"
    table, _ = write([b"{}\n", long, long, b"{}\n"])
    assert [table.first_row_of(number) for number in range(len(table))] == [0, 2, 3]


def test_a_changed_byte_is_noticed_in_its_block_and_no_other() -> None:
    table, content = write([b'{"n":%d}\n' % n for n in range(600)])
    changed = content[:-3] + b"7" + content[-2:]
    table.check(0, block(table, changed, 0))
    with pytest.raises(ChangedBytesError, match="block 2"):
        table.check(2, block(table, changed, 2))


def test_the_index_says_of_each_row_what_was_written() -> None:
    records = b"".join(
        index_row(bytes([n]) * 16, b"line\n", arrival=n, weight=n / 2, flags=n) for n in range(3)
    )
    index = read_index(records)
    assert index["arrival"].tolist() == index["flags"].tolist() == [0, 1, 2]
    assert index["weight"].tolist() == [0.0, 0.5, 1.0]
    assert index["length"].tolist() == [5, 5, 5]
    assert index[2]["key"].tobytes() == b"\x02" * 16
    with pytest.raises(ChangedBytesError):
        read_index(records[: INDEX_ROW.itemsize + 1])
