"""Reading a snapshot's files."""

import tracemalloc
from pathlib import Path

import pytest

from db.base import new_id
from db.models import DatasetSnapshot
from engine.snapshot_format import BLOCK_ROWS
from providers.object_store import CHUNK_BYTES, open_object_store
from resolvers.snapshot_files import SnapshotReader, SnapshotWriter, dropped_key, with_edits


@pytest.fixture
def lines() -> list[bytes]:
    """Return the lines of a list that is read in three chunks, whose ends cut lines in two."""
    named = [f"line {n} {'x' * (n % 500)}".encode() for n in range(40_000)]
    assert 2 * CHUNK_BYTES < sum(map(len, named)) < 3 * CHUNK_BYTES
    return named


async def test_dropped_rows_are_read_from_any_line_on(tmp_path: Path, lines: list[bytes]) -> None:
    snapshot = DatasetSnapshot(
        id=new_id(), leaderboard_id=new_id(), content_sha256="0" * 64, size_bytes=0, blocks=b"",
        dropped={"excluded": len(lines)},
    )  # fmt: skip
    source = tmp_path / "named"
    source.write_bytes(b"".join(line + b"\n" for line in lines))
    objects = open_object_store(str(tmp_path / "objects"))
    await objects.put_file(dropped_key(snapshot.leaderboard_id, snapshot.id), source)
    reader = SnapshotReader(objects, snapshot)
    ends, size = [], 0
    for number, line in enumerate(lines):
        if (size + len(line)) // CHUNK_BYTES > size // CHUNK_BYTES:
            ends.append(number)
        size += len(line) + 1
    near = [end + shift for end in ends for shift in (-1, 0, 1, 2)]
    for first in (0, 1, *near, len(lines) - 1, len(lines)):
        assert [line async for line in reader.dropped(first)] == lines[first:]


async def test_few_bytes_are_held_at_once_however_long_rows_are(tmp_path: Path) -> None:
    given = [b'{"input":"%d %s"}' % (n, b"x" * 40_000) for n in range(6 * BLOCK_ROWS)]
    with SnapshotWriter(tmp_path) as writer:
        for number, line in enumerate(given):
            writer.add(with_edits(number.to_bytes(16, "big"), number, line, ()))
        written = writer.finish()
    snapshot = DatasetSnapshot(
        id=new_id(), leaderboard_id=new_id(), content_sha256=written.content_sha256,
        size_bytes=written.size_bytes, blocks=written.blocks, dropped={},
    )  # fmt: skip
    objects = open_object_store(str(tmp_path / "objects"))
    await written.put(objects, snapshot.leaderboard_id, snapshot.id)
    reader = SnapshotReader(objects, snapshot)
    places = [0, 1, BLOCK_ROWS - 1, BLOCK_ROWS, 3 * BLOCK_ROWS + 7, len(given) - 1]
    tracemalloc.start()
    found = [each async for each in reader.lines(places)]
    streamed = sum([len(content) async for content in reader.stream()])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == [(place, given[place]) for place in places]
    assert streamed == written.size_bytes
    assert peak < written.size_bytes / 2
