"""Downloading a snapshot: its lines as they are stored, whole or in part."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import undefer

from db.models import DatasetSnapshot
from resolvers.auth import Scope, requires
from resolvers.context import Context
from resolvers.errors import ConflictError, NotFoundError
from resolvers.leaderboards import fetch_leaderboard
from resolvers.snapshot_files import SnapshotReader

# What is handed to a thread at a time: some tens of milliseconds of work.
BATCH_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Download:
    """A snapshot, ready to be read.

    Attributes:
        system_prompt: The leaderboard's, as it is now.
    """

    snapshot: DatasetSnapshot
    reader: SnapshotReader
    system_prompt: str

    async def stream(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Yield the bytes from *start* up to *end*; see `SnapshotReader.stream`.

        A block of long rows comes in pieces, since who sends it copies each of them.
        """
        async for block in self.reader.stream(start, end):
            for first in range(0, len(block), BATCH_BYTES):
                yield block[first : first + BATCH_BYTES]


async def line_batches(reader: SnapshotReader) -> AsyncIterator[tuple[int, bytes]]:
    """Yield all lines of a snapshot in batches, each with the position of its first row.

    Raises:
        CorruptSnapshotError: The stored bytes were changed, or are gone.
        UnavailableError: The store can't be read now.
    """
    blocks: list[bytes] = []
    first = size_bytes = 0
    async for block in reader.stream():
        blocks.append(block)
        size_bytes += len(block)
        if size_bytes >= BATCH_BYTES:
            lines = b"".join(blocks)
            yield first, lines
            first += lines.count(b"\n")
            blocks, size_bytes = [], 0
    if blocks:
        yield first, b"".join(blocks)


@requires(Scope.LEADERBOARDS_READ)
async def open_download(ctx: Context, leaderboard_id: UUID, number: int | None = None) -> Download:
    """Return a leaderboard's newest snapshot, or the one with that number, to be read.

    Raises:
        NotFoundError: The workspace has no such leaderboard, or it no such snapshot.
        ConflictError: There is no snapshot yet.
    """
    async with ctx.database.read() as session:
        board = await fetch_leaderboard(session, ctx.workspace_id, leaderboard_id)
        statement = (
            select(DatasetSnapshot)
            .where(
                DatasetSnapshot.leaderboard_id == leaderboard_id,
                DatasetSnapshot.index_sha256.is_not(None),
            )
            .order_by(DatasetSnapshot.number.desc())
            .limit(1)
            .options(undefer(DatasetSnapshot.blocks))
        )
        if number is not None:
            statement = statement.where(DatasetSnapshot.number == number)
        snapshot = await session.scalar(statement)
    if snapshot is None and number is not None:
        raise NotFoundError(f"leaderboard {leaderboard_id} has no snapshot {number}")
    if snapshot is None:
        raise ConflictError(
            f"leaderboard {leaderboard_id} has no snapshot yet: consolidate its rows, or run it"
        )
    reader = SnapshotReader(ctx.services.objects, snapshot)
    return Download(snapshot, reader, board.system_prompt)
