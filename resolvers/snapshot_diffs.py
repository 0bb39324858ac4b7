"""Comparing two snapshots of a leaderboard's dataset: which rows came, went and changed."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from db.records import Row
from engine.snapshot_diff import Positions, SnapshotDifference, compare_indexes
from resolvers.auth import Scope, requires
from resolvers.context import Context
from resolvers.datasets import get_snapshot
from resolvers.errors import AppError, InvalidInputError
from resolvers.paging import CountedPage, PageRequest, cut_places, placed_page
from resolvers.snapshot_files import READER_COLUMNS
from resolvers.stored_rows import AskedRows, PlacedRow, find_index, read_rows


@dataclass(frozen=True, slots=True)
class ComparedSnapshots:
    """Two snapshots of a leaderboard, and how the second differs from the first."""

    a: Row
    b: Row
    difference: SnapshotDifference

    @property
    def added_count(self) -> int:
        """Rows that the second alone has."""
        return len(self.difference.added)

    @property
    def removed_count(self) -> int:
        """Rows that the first alone has."""
        return len(self.difference.removed)

    @property
    def changed_count(self) -> int:
        """Rows that both have, and that say something else in the second."""
        return len(self.difference.changed_after)

    @property
    def unchanged_count(self) -> int:
        """Rows that both have alike."""
        return self.difference.unchanged_count


@dataclass(frozen=True, slots=True)
class ChangedRow:
    """A row in both snapshots.

    Attributes:
        before: As it is in the first.
        after: As it is in the second.
    """

    before: PlacedRow
    after: PlacedRow

    @property
    def id(self) -> UUID:
        """What a cursor names beside the position."""
        return self.after.id

    @property
    def position(self) -> int:
        """Its place in the second."""
        return self.after.position


@requires(Scope.LEADERBOARDS_READ)
async def compare_snapshots(
    ctx: Context, a_id: UUID, b_id: UUID, columns: frozenset[str]
) -> ComparedSnapshots:
    """Find how snapshot *b* differs from snapshot *a*, by their indexes alone.

    Args:
        ctx: Who asks.
        a_id: The first.
        b_id: The second.
        columns: What is read of the two beside.

    Raises:
        NotFoundError: The workspace has no such snapshot.
        InvalidInputError: The snapshots are of different leaderboards.
        CorruptSnapshotError: The stored bytes were changed, or are gone.
        UnavailableError: Object storage can't be read now.
    """
    columns |= READER_COLUMNS
    a, b = await asyncio.gather(*(get_snapshot(ctx, each, columns) for each in (a_id, b_id)))
    if a.leaderboard_id != b.leaderboard_id:
        raise InvalidInputError(f"b: snapshot {b_id} is not of the leaderboard of snapshot {a_id}")
    async with ctx.services.snapshot_work.diff_slots:
        before, after = await find_index(ctx, a), await find_index(ctx, b)
        difference = await asyncio.to_thread(compare_indexes, before, after)
    return ComparedSnapshots(a, b, difference)


@requires(Scope.LEADERBOARDS_READ)
async def list_added_rows(
    ctx: Context, compared: ComparedSnapshots, request: PageRequest, columns: frozenset[str]
) -> CountedPage[PlacedRow]:
    """Return a slice of the rows that the second snapshot alone has, in its order.

    Raises:
        CorruptSnapshotError: The stored bytes were changed, or are gone.
        UnavailableError: Object storage can't be read now.
    """
    return await _page_of(ctx, compared.b, compared.difference.added, request, columns)


@requires(Scope.LEADERBOARDS_READ)
async def list_removed_rows(
    ctx: Context, compared: ComparedSnapshots, request: PageRequest, columns: frozenset[str]
) -> CountedPage[PlacedRow]:
    """Return a slice of the rows that the first snapshot alone has, in its order.

    Raises:
        CorruptSnapshotError: The stored bytes were changed, or are gone.
        UnavailableError: Object storage can't be read now.
    """
    return await _page_of(ctx, compared.a, compared.difference.removed, request, columns)


@requires(Scope.LEADERBOARDS_READ)
async def list_changed_rows(
    ctx: Context, compared: ComparedSnapshots, request: PageRequest, columns: frozenset[str]
) -> CountedPage[ChangedRow]:
    """Return a slice of the rows that have changed, in the second snapshot's order.

    Raises:
        CorruptSnapshotError: The stored bytes were changed, or are gone.
        UnavailableError: Object storage can't be read now.
    """
    in_a, in_b = compared.difference.changed_before, compared.difference.changed_after
    cut = cut_places(in_b, request)
    before = AskedRows(compared.a, in_a[cut.start : cut.stop].tolist())
    after = AskedRows(compared.b, in_b[cut.start : cut.stop].tolist())
    read = [_unless_failed(rows) for rows in await read_rows(ctx, [before, after], columns)]
    rows = [ChangedRow(*pair) for pair in zip(*read, strict=True)]
    return placed_page(rows, cut, len(in_b), request)


async def _page_of(
    ctx: Context,
    snapshot: Row,
    positions: Positions,
    request: PageRequest,
    columns: frozenset[str],
) -> CountedPage[PlacedRow]:
    cut = cut_places(positions, request)
    asked = AskedRows(snapshot, positions[cut.start : cut.stop].tolist())
    (rows,) = await read_rows(ctx, [asked], columns)
    return placed_page(_unless_failed(rows), cut, len(positions), request)


def _unless_failed(rows: Sequence[PlacedRow] | AppError) -> Sequence[PlacedRow]:
    if isinstance(rows, AppError):
        raise rows
    return rows
