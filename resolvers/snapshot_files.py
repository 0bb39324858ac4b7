"""A snapshot's files: written to a directory, put into object storage, and read back checked."""

import asyncio
import errno
import hashlib
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, Self
from uuid import UUID

import orjson

from db.models import DatasetSnapshot
from db.records import Row
from engine.canonical import canonical_json
from engine.edits import Edit, apply_edits
from engine.rows import read_line, row_line
from engine.snapshot_format import (
    HAS_EXPECTED,
    INDEX_ROW,
    IS_VALIDATION,
    BlockTable,
    BlockTableWriter,
    ChangedBytesError,
    IndexArray,
    index_row,
    lines_at,
    read_index,
)
from engine.splits import is_validation
from providers.objects import ObjectError, ObjectMissingError, ObjectStore
from resolvers.errors import CorruptSnapshotError, UnavailableError

# Blocks fetched together: some megabytes, whatever the snapshot's size, and always one.
BLOCKS_AT_ONCE = 32
BYTES_AT_ONCE = 16 * 1024 * 1024
# Where all of this is in object storage.
FOLDER = "snapshots"
# What of a snapshot's row a reader needs.
READER_COLUMNS = frozenset(
    {
        "id",
        "leaderboard_id",
        "content_sha256",
        "index_sha256",
        "row_count",
        "size_bytes",
        "dropped",
        "blocks",
    }
)
DIRECTORY_PREFIX = "gero-snapshot-"
# Longer than anything is made in such a directory, whose time is that of its first files.
ABANDONED_SECONDS = 24 * 3600.0
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# Why rows are left out of snapshots of every kind.
EXCLUDED = "excluded"


@contextmanager
def snapshot_directory() -> Iterator[Path]:
    """Make a directory for a snapshot's files, which is gone after the block.

    Those that killed processes left are deleted.

    Raises:
        UnavailableError: There is no room for the files.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{DIRECTORY_PREFIX}*"):
        with suppress(OSError):  # another process clears up as well
            if left.stat().st_mtime < time.time() - ABANDONED_SECONDS:
                shutil.rmtree(left, ignore_errors=True)  # it may be somebody else's
    try:
        with tempfile.TemporaryDirectory(prefix=DIRECTORY_PREFIX) as directory:
            yield Path(directory)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise UnavailableError(f"the snapshot can't be written: {error.strerror}") from error


def lines_key(leaderboard_id: UUID, content_sha256: str) -> str:
    """Return where a snapshot's lines are; two of one leaderboard with the same rows share them."""
    return f"{FOLDER}/{leaderboard_id}/{content_sha256}.jsonl"


def index_key(leaderboard_id: UUID, snapshot_id: UUID) -> str:
    """Return where a snapshot's index is."""
    return f"{FOLDER}/{leaderboard_id}/{snapshot_id}.index"


def dropped_key(leaderboard_id: UUID, snapshot_id: UUID) -> str:
    """Return where the names of the rows are that a snapshot leaves out."""
    return f"{FOLDER}/{leaderboard_id}/{snapshot_id}.dropped.jsonl"


@dataclass(frozen=True, slots=True)
class WrittenSnapshot:
    """A snapshot's files in a directory, and what is stored of them in its row.

    Attributes:
        labelled_count: Rows that have an expected output.
        dropped: How many rows are left out, by reason.
    """

    lines: Path
    index: Path
    dropped_names: Path
    content_sha256: str
    index_sha256: str
    row_count: int
    labelled_count: int
    size_bytes: int
    blocks: bytes
    dropped: Mapping[str, int]

    async def put(self, objects: ObjectStore, leaderboard_id: UUID, snapshot_id: UUID) -> None:
        """Put the files where the snapshot's readers look for them.

        Raises:
            UnavailableError: The store can't take them now.
        """
        files = [
            (lines_key(leaderboard_id, self.content_sha256), self.lines),
            (index_key(leaderboard_id, snapshot_id), self.index),
        ]
        if self.dropped:
            files.append((dropped_key(leaderboard_id, snapshot_id), self.dropped_names))
        try:
            for key, path in files:
                await objects.put_file(key, path)
        except ObjectError as error:
            raise UnavailableError(f"the snapshot can't be stored: {error}") from error

    async def check_lines(self, objects: ObjectStore, leaderboard_id: UUID) -> None:
        """Check that the lines are there, which an earlier snapshot's failure may have left.

        Raises:
            UnavailableError: They were just deleted as nobody's; putting them again helps.
        """
        try:
            size = await objects.size_of(lines_key(leaderboard_id, self.content_sha256))
        except ObjectError as error:
            raise UnavailableError(
                f"the snapshot can't be stored: {error}", retry_after_seconds=1
            ) from error
        if size != self.size_bytes:
            raise CorruptSnapshotError(
                f"{size} bytes are stored of the {self.size_bytes} of snapshot content "
                f"{self.content_sha256}"
            )


class SnapshotRow(NamedTuple):
    """A row on its way into a snapshot, with its edits.

    Attributes:
        key: Who it is; see `engine.rows.row_key`.
        arrival: Orders the rows by when they came.
        line: As it is stored, without a newline.
        source_input: Its input before any edit, which decides its side for ever.
        is_excluded: Whether an edit takes it out.
    """

    key: bytes
    arrival: int
    line: bytes
    external_id: str | None
    input: str
    source_input: str
    has_expected: bool
    weight: float = 1.0
    is_excluded: bool = False


def with_edits(key: bytes, arrival: int, line: bytes, edits: Sequence[Edit]) -> SnapshotRow:
    """Return the row of *line* with *edits*."""
    if not edits:
        value = orjson.loads(line)
        return SnapshotRow(
            key=key,
            arrival=arrival,
            line=line,
            external_id=value.get("id"),
            input=value["input"],
            source_input=value["input"],
            has_expected="expected" in value,
        )
    source = read_line(line)
    row = apply_edits(source, edits)
    shown = row or source
    return SnapshotRow(
        key=key,
        arrival=arrival,
        line=row_line(shown),
        external_id=source.external_id,
        input=shown.input,
        source_input=source.input,
        has_expected=shown.expected is not None,
        weight=shown.weight,
        is_excluded=row is None,
    )


class SnapshotWriter:
    """Writes a snapshot's rows, in order, with memory that does not grow with their number."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lines = (directory / "lines").open("wb")
        self._index = (directory / "index").open("wb")
        self._dropped = (directory / "dropped").open("wb")
        self._content = hashlib.sha256()
        self._index_hash = hashlib.sha256()
        self._blocks = BlockTableWriter()
        self._dropped_counts: Counter[str] = Counter()
        self.row_count = 0
        self._labelled_count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        with ExitStack() as files:  # of which the others are closed also when one can't be
            for file in (self._lines, self._index, self._dropped):
                files.callback(file.close)

    def add(self, row: SnapshotRow) -> None:
        """Write the next row."""
        line = row.line + b"\n"
        flags = HAS_EXPECTED * row.has_expected + IS_VALIDATION * is_validation(row.source_input)
        record = index_row(row.key, line, arrival=row.arrival, weight=row.weight, flags=flags)
        self._lines.write(line)
        self._content.update(line)
        self._blocks.add(line)
        self._index.write(record)
        self._index_hash.update(record)
        self.row_count += 1
        self._labelled_count += row.has_expected

    def drop(self, row: SnapshotRow, reason: str, **why: object) -> None:
        """Name a row that the snapshot leaves out."""
        named = {"key": row.key.hex(), "id": row.external_id, "reason": reason, **why}
        self._dropped.write(canonical_json(named) + b"\n")
        self._dropped_counts[reason] += 1

    def finish(self) -> WrittenSnapshot:
        """Close the files and tell what they hold."""
        self._close()
        return WrittenSnapshot(
            lines=self._directory / "lines",
            index=self._directory / "index",
            dropped_names=self._directory / "dropped",
            content_sha256=self._content.hexdigest(),
            index_sha256=self._index_hash.hexdigest(),
            row_count=self.row_count,
            labelled_count=self._labelled_count,
            size_bytes=self._blocks.size_bytes,
            blocks=self._blocks.finish(),
            dropped=dict(self._dropped_counts),
        )


class SnapshotReader:
    """Reads a stored snapshot; bytes that are not those that were stored are an error.

    Args:
        objects: Where it is.
        snapshot: Its row, with `blocks`; of a light row the columns of `READER_COLUMNS`.
    """

    def __init__(self, objects: ObjectStore, snapshot: DatasetSnapshot | Row) -> None:
        self._objects = objects
        self._snapshot = snapshot
        self._key = lines_key(snapshot.leaderboard_id, snapshot.content_sha256)
        self._table = BlockTable(snapshot.blocks or b"", snapshot.size_bytes)

    async def lines(self, positions: Iterable[int]) -> AsyncIterator[tuple[int, bytes]]:
        """Yield the lines at *positions*, in the snapshot's order, without their newlines.

        Raises:
            CorruptSnapshotError: The stored bytes were changed, or are gone.
            UnavailableError: The store can't be read now.
        """
        by_block = {
            number: list(places)
            for number, places in groupby(sorted(set(positions)), key=self._table.holding_row)
        }
        for numbers in self._few_at_once(by_block):
            for number, content in zip(numbers, await self._blocks(numbers), strict=True):
                first_row = self._table.first_row_of(number)
                for position, line in lines_at(content, first_row, by_block[number]):
                    yield position, line

    async def stream(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Yield the bytes of the lines from *start* up to *end*, a block at a time.

        Raises:
            CorruptSnapshotError: The stored bytes were changed, or are gone; none of the block
                that was changed is yielded.
            UnavailableError: The store can't be read now.
        """
        until = self._snapshot.size_bytes if end is None else end
        numbers = self._table.holding(start, until)
        for batch in self._few_at_once(numbers):
            for number, content in zip(batch, await self._blocks(batch), strict=True):
                begins, _ = self._table.range_of(number)
                yield content[max(start - begins, 0) : until - begins]

    async def index(self) -> IndexArray:
        """Return the index, a record a row.

        Raises:
            CorruptSnapshotError: The stored bytes were changed, or are gone.
            UnavailableError: The store can't be read now.
        """
        snapshot = self._snapshot
        content = bytearray(snapshot.row_count * INDEX_ROW.itemsize)
        size, digest = 0, hashlib.sha256()
        try:
            async for chunk in self._objects.stream(
                index_key(snapshot.leaderboard_id, snapshot.id)
            ):
                size += len(chunk)
                if size > len(content):
                    break
                content[size - len(chunk) : size] = chunk
                await asyncio.to_thread(digest.update, chunk)
        except ObjectError as error:
            raise _translated(error) from error
        if size != len(content) or digest.hexdigest() != snapshot.index_sha256:
            raise CorruptSnapshotError(f"the index of snapshot {snapshot.id} was changed")
        return read_index(content)

    async def dropped(self, first: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield the lines that name the rows which the snapshot leaves out, from line *first* on.

        Raises:
            CorruptSnapshotError: They are gone.
            UnavailableError: The store can't be read now.
        """
        if not self._snapshot.dropped:
            return
        key = dropped_key(self._snapshot.leaderboard_id, self._snapshot.id)
        rest, passed = b"", 0
        try:
            async for chunk in self._objects.stream(key):
                content = rest + chunk
                ends = content.count(b"\n")
                if passed + ends <= first:
                    rest = content[content.rfind(b"\n") + 1 :]
                else:
                    *lines, rest = content.split(b"\n")
                    for line in lines[max(first - passed, 0) :]:
                        yield line
                passed += ends
        except ObjectError as error:
            raise _translated(error) from error

    def _few_at_once(self, numbers: Iterable[int]) -> Iterator[list[int]]:
        """Yield the blocks of *numbers* in batches that memory has room for."""
        batch: list[int] = []
        size_bytes = 0
        for number in numbers:
            _, length = self._table.range_of(number)
            is_full = len(batch) == BLOCKS_AT_ONCE or size_bytes + length > BYTES_AT_ONCE
            if batch and is_full:
                yield batch
                batch, size_bytes = [], 0
            batch.append(number)
            size_bytes += length
        if batch:
            yield batch

    async def _blocks(self, numbers: Sequence[int]) -> list[bytes]:
        ranges = [self._table.range_of(number) for number in numbers]
        try:
            contents = await self._objects.read_ranges(self._key, ranges)
            await asyncio.to_thread(self._check, numbers, contents)
        except ObjectError as error:
            raise _translated(error) from error
        except ChangedBytesError as error:
            raise CorruptSnapshotError(f"snapshot {self._snapshot.id}: {error}") from error
        return contents

    def _check(self, numbers: Sequence[int], contents: Sequence[bytes]) -> None:
        for number, content in zip(numbers, contents, strict=True):
            self._table.check(number, content)


def _translated(error: ObjectError) -> CorruptSnapshotError | UnavailableError:
    """Return what a reader is told: what is gone was lost, and what can't be reached may return."""
    if isinstance(error, ObjectMissingError) or not error.is_retryable:
        return CorruptSnapshotError(f"the snapshot can't be read: {error}")
    return UnavailableError(f"the snapshot can't be read now: {error}", retry_after_seconds=1)
