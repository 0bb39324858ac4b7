"""The rows of snapshots as readers ask for them: slices of a snapshot's rows, and single rows."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

import numpy as np

from db.records import Row
from engine.snapshot_format import HAS_EXPECTED, IS_VALIDATION, IndexArray
from resolvers.auth import Scope, requires
from resolvers.context import Context
from resolvers.errors import AppError, InvalidInputError, NotFoundError
from resolvers.loaders.datasets import Place, SnapshotById
from resolvers.paging import CountedPage, PageRequest, Places, by_place, cut_places, placed_page
from resolvers.row_selection import SPLITS
from resolvers.snapshot_files import READER_COLUMNS
from resolvers.stored_rows import (
    PLACE_COLUMNS,
    AskedRows,
    PlacedRow,
    ask_index,
    few_at_once,
    read_rows,
    table_indexes,
)

ROW_ORDER = by_place("position")


@dataclass(frozen=True, slots=True)
class RowFilter:
    """Which rows are asked for; what is None does not matter.

    Attributes:
        side: Of the split.
        is_labelled: With an expected output, or without.
    """

    side: Literal["TRAIN", "VALIDATION"] | None = None
    is_labelled: bool | None = None

    @property
    def is_given(self) -> bool:
        """Whether it can leave rows out."""
        return self.side is not None or self.is_labelled is not None

    def places_in(self, index: IndexArray) -> Places:
        """Return the positions of the rows that fit, ascending."""
        flags = index["flags"]
        fits = np.ones(len(flags), bool)
        if self.side is not None:
            fits &= (flags & IS_VALIDATION) == SPLITS[self.side]
        if self.is_labelled is not None:
            fits &= ((flags & HAS_EXPECTED) != 0) == self.is_labelled
        return np.flatnonzero(fits).astype(np.int32)


@dataclass(frozen=True, slots=True)
class _Cut:
    """The part of a snapshot's rows that a slice asks for."""

    asked: AskedRows
    indexes: range
    total: int


def read_row_id(field: str, value: str) -> tuple[UUID, int]:
    """Return the snapshot's id and the position that a row's id, `snapshot:position`, names.

    Raises:
        InvalidInputError: It names none.
    """
    snapshot_id, _, position = value.partition(":")
    try:
        # int() reads white space, underscores and other digits too.
        if position.isascii() and position.isdecimal():
            return UUID(snapshot_id), int(position)
    except ValueError:
        pass
    raise InvalidInputError(f"{field}: {value!r} is not a snapshot's id, a colon and a position")


@requires(Scope.LEADERBOARDS_READ)
async def list_snapshot_rows(
    ctx: Context,
    snapshot_ids: Sequence[UUID],
    request: PageRequest,
    where: RowFilter,
    columns: frozenset[str],
) -> list[CountedPage[PlacedRow] | AppError]:
    """Return a slice of each snapshot's rows, or why it can't be read.

    Object storage is not asked while *columns* want no more than places, and *where* is not given.

    Args:
        ctx: Who asks.
        snapshot_ids: Whose rows.
        request: In `ROW_ORDER`.
        where: Which of them.
        columns: What is read of them: attributes of `PlacedRow`.
    """
    known = await _load_snapshots(
        ctx, snapshot_ids, is_read=where.is_given or not columns <= PLACE_COLUMNS
    )
    snapshots = list(known.values())
    cuts = await _cut_each(ctx, snapshots, request, where)
    made = [cut for cut in cuts if isinstance(cut, _Cut)]
    rows = await read_rows(ctx, [cut.asked for cut in made], columns)
    pages: dict[UUID, CountedPage[PlacedRow] | AppError] = {
        cut.asked.snapshot.id: found
        if isinstance(found, AppError)
        else placed_page(found, cut.indexes, cut.total, request)
        for cut, found in zip(made, rows, strict=True)
    }
    for snapshot, cut in zip(snapshots, cuts, strict=True):
        if isinstance(cut, AppError):
            pages[snapshot.id] = cut
    return [pages[each] if each in pages else _no_snapshot(each) for each in snapshot_ids]


async def _load_snapshots(
    ctx: Context, snapshot_ids: Sequence[UUID], *, is_read: bool
) -> dict[UUID, Row]:
    """Return those of the snapshots that the workspace has."""
    columns = READER_COLUMNS if is_read else frozenset({"row_count", "index_sha256"})
    found = await ctx.loaders.get(SnapshotById).load_many(snapshot_ids, columns)
    return {snapshot.id: snapshot for snapshot in found if snapshot is not None}


def _no_snapshot(snapshot_id: UUID) -> NotFoundError:
    return NotFoundError(f"snapshot {snapshot_id} does not exist")


async def _cut_each(
    ctx: Context, snapshots: Sequence[Row], request: PageRequest, where: RowFilter
) -> list[_Cut | AppError]:
    if not where.is_given:
        return [_cut(each, range(each.row_count), request) for each in snapshots]
    old = [each.id for each in snapshots if each.index_sha256 is None]
    in_table = {each: where.places_in(index) async for each, index in table_indexes(ctx, old)}

    async def cut(snapshot: Row) -> _Cut:
        if snapshot.index_sha256 is None:
            return _cut(snapshot, in_table.get(snapshot.id, ()), request)
        return await ask_index(
            ctx, snapshot, lambda index: _cut(snapshot, where.places_in(index), request, index)
        )

    return await few_at_once(cut, snapshots)


def _cut(
    snapshot: Row, places: Places, request: PageRequest, index: IndexArray | None = None
) -> _Cut:
    indexes = cut_places(places, request)
    positions = [int(places[at]) for at in indexes]
    records = None if index is None else index[np.asarray(positions, dtype=np.int32)]
    return _Cut(AskedRows(snapshot, positions, records), indexes, len(places))


@requires(Scope.LEADERBOARDS_READ)
async def find_snapshot_rows(
    ctx: Context, places: Sequence[Place | None], columns: frozenset[str]
) -> list[PlacedRow | AppError | None]:
    """Return the rows at places of snapshots, or why they can't be read; None where there is none.

    Args:
        ctx: Who asks.
        places: (snapshot id, position in it).
        columns: What is read of them: attributes of `PlacedRow`.
    """
    asked: dict[UUID, set[int]] = defaultdict(set)
    for snapshot_id, position in filter(None, places):
        asked[snapshot_id].add(position)
    snapshots = await _load_snapshots(ctx, list(asked), is_read=True)
    rows = [
        AskedRows(snapshot, sorted(at for at in asked[key] if 0 <= at < snapshot.row_count))
        for key, snapshot in snapshots.items()
    ]
    found: dict[Place, PlacedRow | AppError] = {}
    for each, read in zip(rows, await read_rows(ctx, rows, columns), strict=True):
        for number, at in enumerate(each.positions):
            found[each.snapshot.id, at] = read if isinstance(read, AppError) else read[number]
    return [None if place is None else found.get(place) for place in places]


@requires(Scope.LEADERBOARDS_READ)
async def get_snapshot_row(
    ctx: Context, snapshot_id: UUID, position: int, columns: frozenset[str]
) -> PlacedRow:
    """Return one row of a snapshot.

    Raises:
        NotFoundError: The workspace has no such snapshot, or it no such row.
        CorruptSnapshotError: The stored bytes were changed, or are gone.
        UnavailableError: Object storage can't be read now.
    """
    (row,) = await find_snapshot_rows(ctx, [(snapshot_id, position)], columns)
    if isinstance(row, AppError):
        raise row
    if row is None:
        raise NotFoundError(f"dataset row {snapshot_id}:{position} does not exist")
    return row
