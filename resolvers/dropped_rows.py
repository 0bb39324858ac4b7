"""The rows that a snapshot leaves out: which they are, and why."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from uuid import UUID

import orjson

from db.records import Row
from resolvers.auth import Scope, requires
from resolvers.context import Context
from resolvers.errors import AppError, CorruptSnapshotError, NotFoundError
from resolvers.loaders.datasets import SnapshotById
from resolvers.paging import CountedPage, PageRequest, by_place, cut_places, placed_page
from resolvers.snapshot_files import READER_COLUMNS, SnapshotReader
from resolvers.stored_rows import few_at_once

DROPPED_ORDER = by_place("line")


@dataclass(frozen=True, slots=True)
class DroppedRow:
    """A row that a snapshot leaves out; its place alone, when no more was asked for.

    Attributes:
        id: The snapshot's, which a cursor names beside the line.
        line: Its place in the list, from 0.
        key: Who it is, in hex.
        of: The key of the row that it is near to.
        similarity: How near, from the threshold to 1.
    """

    id: UUID
    line: int
    key: str | None = None
    external_id: str | None = None
    reason: str | None = None
    of: str | None = None
    similarity: float | None = None


@requires(Scope.LEADERBOARDS_READ)
async def list_dropped_rows(
    ctx: Context, snapshot_ids: Sequence[UUID], request: PageRequest, *, is_read: bool
) -> list[CountedPage[DroppedRow] | AppError]:
    """Return a slice of the rows that each snapshot leaves out, or why it can't be read.

    The list is read as a stream from its beginning up to the slice's end.

    Args:
        ctx: Who asks.
        snapshot_ids: Whose.
        request: In `DROPPED_ORDER`.
        is_read: Whether more than the rows' places is wanted.
    """
    found = await ctx.loaders.get(SnapshotById).load_many(snapshot_ids, READER_COLUMNS)
    snapshots = {snapshot.id: snapshot for snapshot in found if snapshot is not None}

    async def page_of(snapshot: Row) -> CountedPage[DroppedRow]:
        total = sum(snapshot.dropped.values())
        cut = cut_places(range(total), request)
        rows = [DroppedRow(snapshot.id, line) for line in cut]
        if is_read and rows:
            rows = await _read(ctx, snapshot, cut)
        return placed_page(rows, cut, total, request)

    read = await few_at_once(page_of, list(snapshots.values()))
    pages = dict(zip(snapshots, read, strict=True))
    return [
        pages[each] if each in pages else NotFoundError(f"snapshot {each} does not exist")
        for each in snapshot_ids
    ]


async def _read(ctx: Context, snapshot: Row, lines: range) -> list[DroppedRow]:
    reader = SnapshotReader(ctx.services.objects, snapshot)
    rows: list[DroppedRow] = []
    async with aclosing(reader.dropped(lines.start)) as named:
        async for content in named:
            rows.append(_row(snapshot, lines[len(rows)], content))
            if len(rows) == len(lines):
                return rows
    raise CorruptSnapshotError(f"the list of what snapshot {snapshot.id} leaves out was cut off")


def _row(snapshot: Row, line: int, content: bytes) -> DroppedRow:
    """Return the row that a line names.

    The list has no digest: what can't have been written is an error all the same.
    """
    try:
        said = orjson.loads(content)
        if said["reason"] in snapshot.dropped:
            return DroppedRow(
                snapshot.id,
                line,
                key=said["key"],
                external_id=said["id"],
                reason=said["reason"],
                of=said.get("of"),
                similarity=said.get("similarity"),
            )
    except (orjson.JSONDecodeError, KeyError, TypeError):
        pass
    raise CorruptSnapshotError(f"the list of what snapshot {snapshot.id} leaves out was changed")
