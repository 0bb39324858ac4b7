"""Consolidation: what was pushed and edited becomes a snapshot, once, however many ask for it."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import numpy as np
from sqlalchemy import Row as RowTuple
from sqlalchemy import func, select, text

from db.models import Dataset, DatasetSnapshot, Leaderboard, PushedRow
from db.session import ReadSession
from engine.band_chains import BAND_COUNT
from engine.edits import Edit
from engine.near_duplicates import NearDuplicate, band_keys, find_near_duplicates
from resolvers.auth import Scope, requires
from resolvers.context import Context
from resolvers.datasets import take_snapshot
from resolvers.edit_storage import edits_by_key
from resolvers.errors import InvalidDatasetError
from resolvers.leaderboards import fetch_leaderboard
from resolvers.snapshot_files import (
    EXCLUDED,
    SnapshotRow,
    SnapshotWriter,
    WrittenSnapshot,
    snapshot_directory,
    with_edits,
)
from resolvers.snapshot_storage import SnapshotSource, latest_snapshot, store_snapshot
from resolvers.text_files import TextFile

# Read, edited and written at a time: some hundreds of kilobytes, and a few milliseconds. Of rows of
# a megabyte each, so many as are fetched at once.
BATCH_ROWS = 1_000
BATCH_BYTES = 16 * 1024 * 1024
FETCHED_ROWS = 100
PushedLine = RowTuple[bytes, int, bytes]
LOCK_LOOK_SECONDS = 0.05
REPEATABLE_READ = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
# Columns, and not attributes of a class: a fifth faster where rows are streamed.
PUSHED = PushedRow.__table__.c
TOO_MANY = "over_limit"
NEAR_DUPLICATE = "near_duplicate"


@dataclass(frozen=True, slots=True)
class Consolidation:
    """What came of a consolidation.

    Attributes:
        snapshot: The newest snapshot; None before the first row.
        is_new: Whether it covers what was pending; else nothing was.
    """

    snapshot: DatasetSnapshot | None
    is_new: bool


@dataclass(frozen=True, slots=True)
class _Extent:
    """How much was pushed and edited."""

    sequence: int
    edit: int

    def covers(self, other: "_Extent") -> bool:
        return self.sequence >= other.sequence and self.edit >= other.edit


@requires(Scope.LEADERBOARDS_WRITE)
async def consolidate_dataset(ctx: Context, leaderboard_id: UUID) -> Consolidation:
    """Make a snapshot of a dataset, if anything is pending.

    Of a dataset that is read from a URL that is another commit of its file, or edits of its rows.
    Whoever asks while one is being made gets that one, or the next when it does not cover what
    was pushed before they asked.

    Raises:
        NotFoundError: The workspace has no such leaderboard.
        InvalidDatasetError: Every row is excluded, or the URL's file can't be used.
        UpstreamError: The hub failed; repeating this may help.
        UnavailableError: Object storage can't take the snapshot now.
    """
    async with ctx.database.read() as session:
        board = await fetch_leaderboard(session, ctx.workspace_id, leaderboard_id)
        latest = await latest_snapshot(session, leaderboard_id)
        pushed, covered = await _extents(session, leaderboard_id)
    if board.dataset_type != "PUSH":
        read = await take_snapshot(ctx, board, needs_expected=False)
        return Consolidation(read, is_new=latest is None or read.id != latest.id)
    if covered.covers(pushed):
        return Consolidation(latest, is_new=False)
    while True:
        made = await ctx.services.snapshot_work.consolidations.share(
            leaderboard_id, lambda: _consolidate(ctx, leaderboard_id)
        )
        if _Extent(made.last_sequence, made.last_edit).covers(pushed):
            return Consolidation(made, is_new=True)


async def _extents(session: ReadSession, leaderboard_id: UUID) -> tuple[_Extent, _Extent]:
    """Return how much there is, and how much of it the newest snapshot covers."""
    dataset = await session.get(Dataset, leaderboard_id)
    if dataset is None:
        return _Extent(0, 0), _Extent(0, 0)
    return (
        _Extent(dataset.last_sequence, dataset.last_edit),
        _Extent(dataset.consolidated_sequence, dataset.consolidated_edit),
    )


async def _consolidate(ctx: Context, leaderboard_id: UUID) -> DatasetSnapshot:
    """Make the snapshot, or find that another process has."""
    async with ctx.services.snapshot_work.consolidation_slots, _alone(ctx, leaderboard_id):
        with snapshot_directory() as directory:
            found = await _read(ctx, leaderboard_id, directory)
            if isinstance(found, DatasetSnapshot):
                return found
            if not found.written.row_count:
                raise InvalidDatasetError(
                    f"leaderboard {leaderboard_id}: every row of the dataset is left out"
                )
            return await store_snapshot(ctx, found.board, found.written, found.source)


@dataclass(frozen=True, slots=True)
class _Found:
    """What a snapshot is to hold."""

    board: Leaderboard
    written: WrittenSnapshot
    source: SnapshotSource


async def _read(ctx: Context, leaderboard_id: UUID, directory: Path) -> DatasetSnapshot | _Found:
    """Write what is pending into *directory*; or return the snapshot that covers it already.

    The transaction ends here: however long storing takes, it keeps no connection, nor old rows.
    """
    async with ctx.database.read() as session:
        # What is read must be one moment's, however long reading takes.
        await session.execute(REPEATABLE_READ)
        pushed, covered = await _extents(session, leaderboard_id)
        latest = await latest_snapshot(session, leaderboard_id)
        if latest is not None and covered.covers(pushed):
            return latest
        board = await session.get_one(Leaderboard, leaderboard_id)
        written = await _Reading(session, board, pushed).write(directory)
    source = SnapshotSource(last_sequence=pushed.sequence, last_edit=pushed.edit)
    return _Found(board, written, source)


@asynccontextmanager
async def _alone(ctx: Context, leaderboard_id: UUID) -> AsyncIterator[None]:
    """Hold the block back while another process consolidates the same dataset.

    The lock is the transaction's, so that it ends with whoever holds it. Who waits looks again
    and again, and holds no connection.
    """
    key = int.from_bytes(blake2b(leaderboard_id.bytes, digest_size=8).digest(), "big", signed=True)
    while True:
        async with ctx.database.read() as session:
            if await session.scalar(select(func.pg_try_advisory_xact_lock(key))):
                yield
                return
        await asyncio.sleep(LOCK_LOOK_SECONDS)


class _Reading:
    """Reads a dataset's rows as one moment has them, and writes those that stay.

    The file's order is that of the rows' keys, whatever the order in which they came, and so is
    the choice of rows where there are too many: the first keys are a fixed sample.
    """

    def __init__(self, session: ReadSession, board: Leaderboard, extent: _Extent) -> None:
        self._session = session
        self._board_id = board.id
        self._extent = extent
        settings: Mapping[str, Any] = board.push or {}
        limits = settings.get("auto_limit_size")
        self._most = settings.get("max_samples_to_gather") if limits else None
        self._threshold: float | None = settings.get("near_duplicate_threshold")

    async def write(self, directory: Path) -> WrittenSnapshot:
        """Write the snapshot's files into *directory*."""
        near = await self._near_duplicates(directory) if self._threshold else {}
        seen = 0
        keys: dict[int, bytes] = {}
        wanted = {found.of_index for found in near.values()}
        with SnapshotWriter(directory) as writer:
            async for batch in self._rows():
                for offset, row in enumerate(batch):
                    if seen + offset in wanted:
                        keys[seen + offset] = row.key
                await asyncio.to_thread(self._write_batch, writer, batch, seen, near, keys)
                seen += len(batch)
            return writer.finish()

    def _write_batch(
        self,
        writer: SnapshotWriter,
        batch: Sequence[SnapshotRow],
        first: int,
        near: Mapping[int, NearDuplicate],
        keys: Mapping[int, bytes],
    ) -> None:
        for index, row in enumerate(batch, start=first):
            twin = near.get(index)
            if row.is_excluded:
                writer.drop(row, EXCLUDED)
            elif twin is not None:
                of = keys[twin.of_index].hex()
                writer.drop(row, NEAR_DUPLICATE, of=of, similarity=round(twin.similarity, 6))
            elif self._most is not None and writer.row_count >= self._most:
                writer.drop(row, TOO_MANY)
            else:
                writer.add(row)

    async def _rows(self) -> AsyncIterator[list[SnapshotRow]]:
        """Yield the rows in batches, by their keys, with their edits."""
        statement = (
            select(PUSHED.row_key, PUSHED.sequence, PUSHED.line)
            .where(
                PUSHED.leaderboard_id == self._board_id,
                PUSHED.sequence <= self._extent.sequence,
            )
            .order_by(PUSHED.row_key)
            .execution_options(yield_per=FETCHED_ROWS)
        )
        found = await self._session.stream(statement)
        async for part in _in_batches(found.partitions()):
            edits = await edits_by_key(
                self._session,
                self._board_id,
                [key for key, _, _ in part],
                until=self._extent.edit,
            )
            yield await asyncio.to_thread(_edited, part, edits)

    async def _near_duplicates(self, directory: Path) -> dict[int, NearDuplicate]:
        """Return the rows that are near to an earlier one that stays, by their places."""
        with _Sketches(directory, self._extent.sequence) as sketches:
            seen = 0
            async for batch in self._rows():
                await asyncio.to_thread(sketches.add, batch, seen)
                seen += len(batch)
            return await asyncio.to_thread(sketches.find_near, self._threshold or 1.0)


async def _in_batches(
    parts: AsyncIterator[Sequence[PushedLine]],
) -> AsyncIterator[list[PushedLine]]:
    """Join parts to batches of `BATCH_ROWS` rows, or of fewer that have `BATCH_BYTES`."""
    batch: list[PushedLine] = []
    size_bytes = 0
    async for part in parts:
        batch.extend(part)
        size_bytes += sum(len(line) for _, _, line in part)
        if len(batch) >= BATCH_ROWS or size_bytes >= BATCH_BYTES:
            yield batch
            batch, size_bytes = [], 0
    if batch:
        yield batch


def _edited(part: Sequence[PushedLine], edits: Mapping[bytes, Sequence[Edit]]) -> list[SnapshotRow]:
    return [with_edits(key, sequence, line, edits.get(key, ())) for key, sequence, line in part]


class _Sketches:
    """The inputs of rows and their sketches, in files.

    These are written as files are, and only read as memory: a full disk is an error to whoever
    writes to a file, and the end of the process to whoever writes to memory that is one.
    """

    def __init__(self, directory: Path, capacity: int) -> None:
        self._files = ExitStack()
        self._bands_path = directory / "bands"
        self._bands = self._files.enter_context(self._bands_path.open("wb"))
        self._inputs = self._files.enter_context(TextFile(directory / "inputs", capacity))
        self._places = np.zeros(capacity, np.int64)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def add(self, rows: Sequence[SnapshotRow], first: int) -> None:
        """Take those of *rows* that are not excluded, of which the first has the place *first*."""
        kept = [(place, row) for place, row in enumerate(rows, first) if not row.is_excluded]
        inputs = [row.input for _, row in kept]
        count = self._inputs.count
        self._bands.write(band_keys(inputs).tobytes())
        self._places[count : count + len(kept)] = [place for place, _ in kept]
        self._inputs.add(inputs)

    def find_near(self, threshold: float) -> dict[int, NearDuplicate]:
        """Return the rows that are near to an earlier one that stays, by their places."""
        if not self._inputs.count:
            return {}
        self._bands.flush()
        shape = (self._inputs.count, BAND_COUNT)
        bands = np.memmap(self._bands_path, dtype=np.uint64, mode="r", shape=shape)
        found: dict[int, NearDuplicate] = {}
        for each in find_near_duplicates(bands, self._inputs.read, threshold=threshold):
            place, of_place = int(self._places[each.index]), int(self._places[each.of_index])
            found[place] = NearDuplicate(place, of_place, each.similarity)
        return found
