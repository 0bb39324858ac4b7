"""Storing a snapshot: its files first, then its row; and the rows of it that a run uses."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import undefer

from db.base import new_id
from db.models import Dataset, DatasetRow, DatasetSnapshot, Leaderboard
from db.session import ReadSession
from engine.rows import read_line, row_hash
from resolvers.context import Context
from resolvers.errors import ConflictError
from resolvers.snapshot_files import SnapshotReader, WrittenSnapshot

# Made and inserted at a time.
INSERTED_ROWS = 500
INSERTED_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class SnapshotSource:
    """Where a snapshot's rows come from.

    Attributes:
        last_sequence: The newest pushed row that it covers.
        last_edit: The newest edit that it carries.
    """

    url: str | None = None
    revision: str | None = None
    last_sequence: int = 0
    last_edit: int = 0


async def latest_snapshot(session: ReadSession, leaderboard_id: UUID) -> DatasetSnapshot | None:
    """Return a leaderboard's newest snapshot."""
    return await session.scalar(
        select(DatasetSnapshot)
        .where(DatasetSnapshot.leaderboard_id == leaderboard_id)
        .order_by(DatasetSnapshot.number.desc())
        .limit(1)
    )


async def require_snapshot(session: ReadSession, leaderboard_id: UUID) -> DatasetSnapshot:
    """Return a pushed dataset's newest snapshot.

    Raises:
        ConflictError: There is none; one of a URL that the dataset was read from before is none.
    """
    snapshot = await latest_snapshot(session, leaderboard_id)
    if snapshot is None or snapshot.source_url is not None:
        raise ConflictError(
            f"leaderboard {leaderboard_id} has no snapshot yet: push rows and consolidate them"
        )
    return snapshot


async def store_snapshot(
    ctx: Context, board: Leaderboard, written: WrittenSnapshot, source: SnapshotSource
) -> DatasetSnapshot:
    """Store a snapshot, unless the newest one is of the same source and holds the same.

    Its files are put first: a crash leaves files that nobody refers to, and never a snapshot
    without its rows.

    Raises:
        UnavailableError: Object storage can't take it now.
    """
    snapshot_id = new_id()
    await written.put(ctx.services.objects, board.id, snapshot_id)
    async with ctx.database.write() as session:
        # The leaderboard's row is the lock that gives each snapshot its own number, and that who
        # deletes orphaned files holds too.
        await session.execute(
            select(Leaderboard.id).where(Leaderboard.id == board.id).with_for_update(key_share=True)
        )
        await written.check_lines(ctx.services.objects, board.id)
        latest = await latest_snapshot(session, board.id)
        if latest is not None and _is_same(latest, written, source):
            return latest
        snapshot = _snapshot_row(snapshot_id, board, written, source, latest)
        session.add(snapshot)
        dataset = await session.get(
            Dataset, board.id, with_for_update={"key_share": True}, populate_existing=True
        )
        if dataset is not None:
            dataset.consolidated_sequence = source.last_sequence
            dataset.consolidated_edit = source.last_edit
            dataset.consolidated_at = datetime.now(UTC)
        await session.flush()
        await session.refresh(snapshot)
        return snapshot


def _snapshot_row(
    snapshot_id: UUID,
    board: Leaderboard,
    written: WrittenSnapshot,
    source: SnapshotSource,
    latest: DatasetSnapshot | None,
) -> DatasetSnapshot:
    return DatasetSnapshot(
        id=snapshot_id,
        workspace_id=board.workspace_id,
        leaderboard_id=board.id,
        number=1 if latest is None else latest.number + 1,
        content_sha256=written.content_sha256,
        row_count=written.row_count,
        labelled_count=written.labelled_count,
        size_bytes=written.size_bytes,
        parent_id=None if latest is None else latest.id,
        source_url=source.url,
        source_revision=source.revision,
        last_sequence=source.last_sequence,
        last_edit=source.last_edit,
        dropped=dict(written.dropped),
        blocks=written.blocks,
        index_sha256=written.index_sha256,
    )


def _is_same(latest: DatasetSnapshot, written: WrittenSnapshot, source: SnapshotSource) -> bool:
    return (
        latest.content_sha256 == written.content_sha256
        and latest.index_sha256 == written.index_sha256
        and latest.source_url == source.url
        and latest.source_revision == source.revision
        and (latest.last_sequence, latest.last_edit) == (source.last_sequence, source.last_edit)
    )


async def read_snapshot(ctx: Context, snapshot_id: UUID) -> SnapshotReader:
    """Return what reads a snapshot."""
    async with ctx.database.read() as session:
        snapshot = await session.get_one(
            DatasetSnapshot, snapshot_id, options=[undefer(DatasetSnapshot.blocks)]
        )
    return SnapshotReader(ctx.services.objects, snapshot)


async def bring_rows(ctx: Context, snapshot: DatasetSnapshot, positions: Sequence[int]) -> None:
    """Have the rows at *positions* of a snapshot in the database, where runs use them.

    Raises:
        CorruptSnapshotError: The stored bytes were changed, or are gone.
        UnavailableError: Object storage can't be read now.
    """
    if snapshot.index_sha256 is None:
        return  # it is from before snapshots had files: all of its rows are there
    reader = await read_snapshot(ctx, snapshot.id)
    lines: list[tuple[int, bytes]] = []
    size_bytes = 0
    async for position, line in reader.lines(positions):
        lines.append((position, line))
        size_bytes += len(line)
        if len(lines) == INSERTED_ROWS or size_bytes >= INSERTED_BYTES:
            await _insert(ctx, snapshot, lines)
            lines, size_bytes = [], 0
    await _insert(ctx, snapshot, lines)


async def read_inputs(
    ctx: Context, snapshot: DatasetSnapshot, positions: Sequence[int]
) -> Sequence[str]:
    """Return the inputs of the rows at *positions*, in the snapshot's order.

    Raises:
        CorruptSnapshotError: The stored bytes were changed, or are gone.
        UnavailableError: Object storage can't be read now.
    """
    if snapshot.index_sha256 is not None:
        reader = await read_snapshot(ctx, snapshot.id)
        return [orjson.loads(line)["input"] async for _, line in reader.lines(positions)]
    async with ctx.database.read() as session:
        inputs = await session.scalars(
            select(DatasetRow.input)
            .where(DatasetRow.snapshot_id == snapshot.id, DatasetRow.position.in_(positions))
            .order_by(DatasetRow.position)
        )
        return inputs.all()


async def _insert(
    ctx: Context, snapshot: DatasetSnapshot, lines: Sequence[tuple[int, bytes]]
) -> None:
    if lines:
        # To fold a row of a megabyte may take a second.
        values = await asyncio.to_thread(_rows_values, snapshot, lines)
        async with ctx.database.write() as session:
            await session.execute(insert(DatasetRow).on_conflict_do_nothing(), values)


def _rows_values(
    snapshot: DatasetSnapshot, lines: Sequence[tuple[int, bytes]]
) -> list[dict[str, Any]]:
    return [_row_values(snapshot, position, line) for position, line in lines]


def _row_values(snapshot: DatasetSnapshot, position: int, line: bytes) -> dict[str, Any]:
    row = read_line(line)
    return {
        "snapshot_id": snapshot.id,
        "position": position,
        "workspace_id": snapshot.workspace_id,
        "content_hash": row_hash(row),
        "external_id": row.external_id,
        "input": row.input,
        "expected": row.expected,
        "messages": row.messages,
        "rubric": row.rubric,
        "tags": list(row.tags),
        "row_metadata": row.metadata,
    }
