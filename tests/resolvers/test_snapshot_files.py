"""Reading a snapshot's files."""

from pathlib import Path

import pytest

from db.base import new_id
from db.models import DatasetSnapshot
from providers.object_store import CHUNK_BYTES, open_object_store
from resolvers.snapshot_files import SnapshotReader, dropped_key


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
