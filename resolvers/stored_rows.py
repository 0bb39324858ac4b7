"""Rows of snapshots at known places, wherever a snapshot keeps them.

That is object storage. Snapshots from before there were files have their rows in the database; they
look the same from here.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

import numpy as np
from sqlalchemy import select

from db.models import DatasetRow
from db.records import Row
from engine.rows import DatasetRow as Example
from engine.rows import read_line, row_key, row_line
from engine.snapshot_format import HAS_EXPECTED, IS_VALIDATION, IndexArray, index_row, read_index
from engine.splits import is_validation
from resolvers.context import Context
from resolvers.errors import AppError, CorruptSnapshotError
from resolvers.loaders.datasets import RowByPlace
from resolvers.snapshot_files import SnapshotReader

A = TypeVar("A")
R = TypeVar("R")

# What the database keeps of a row that a run has used.
TABLE_COLUMNS = frozenset(
    {
        "snapshot_id",
        "position",
        "external_id",
        "input",
        "expected",
        "messages",
        "rubric",
        "tags",
        "row_metadata",
    }
)
# What the place tells by itself, and what the index alone tells; a row's line tells the rest.
PLACE_COLUMNS = frozenset({"snapshot_id", "position"})
INDEX_COLUMNS = frozenset({"key", "side"})
# One that is read has some blocks in memory.
SNAPSHOTS_AT_ONCE = 4
BATCH_ROWS = 500


@dataclass(frozen=True, slots=True)
class PlacedRow:
    """A row at its place in a snapshot; as of a light row, there is what was asked for.

    Attributes:
        example: What its line says.
        key: Who it is, in hex; see `engine.rows.row_key`.
        side: TRAIN or VALIDATION.
    """

    snapshot_id: UUID
    position: int
    example: Example | None = None
    key: str | None = None
    side: str | None = None

    @property
    def id(self) -> UUID:
        """What a cursor names beside the position."""
        return self.snapshot_id

    @property
    def row_metadata(self) -> Mapping[str, Any]:
        """What its source says of it besides, by the name of the database's column."""
        metadata: Mapping[str, Any] = self.metadata
        return metadata

    def __getattr__(self, name: str) -> Any:
        """Return what the line says.

        Raises:
            AttributeError: It was not read, or says nothing by that name.
        """
        if self.example is None:
            raise AttributeError(f"{name!r} of the row at {self.position} was not read")
        return getattr(self.example, name)


@dataclass(frozen=True, slots=True)
class AskedRows:
    """Rows of a snapshot that are to be read.

    Attributes:
        snapshot: Its row, with `snapshot_files.READER_COLUMNS`.
        records: Those of the index for the positions, when they are known already.
    """

    snapshot: Row
    positions: Sequence[int]
    records: IndexArray | None = None

    @property
    def is_in_table(self) -> bool:
        """Whether the snapshot has no files."""
        return self.snapshot.index_sha256 is None


async def few_at_once(call: Callable[[A], Awaitable[R]], items: Sequence[A]) -> list[R | AppError]:
    """Return what *call* answers for each item, or raises, with `SNAPSHOTS_AT_ONCE` under way."""
    slots = asyncio.Semaphore(SNAPSHOTS_AT_ONCE)

    async def answer(item: A) -> R | AppError:
        async with slots:
            try:
                return await call(item)
            except AppError as error:
                return error

    return await asyncio.gather(*map(answer, items))


async def read_rows(
    ctx: Context, asked: Sequence[AskedRows], columns: frozenset[str]
) -> list[Sequence[PlacedRow] | AppError]:
    """Return the rows of each snapshot in the order of their positions, or why they can't be read.

    Args:
        ctx: Whose object storage it is.
        asked: Which rows.
        columns: What is read of them: attributes of `PlacedRow`.
    """
    if columns <= PLACE_COLUMNS:
        return [[PlacedRow(each.snapshot.id, at) for at in each.positions] for each in asked]
    places = [(each.snapshot.id, at) for each in asked if each.is_in_table for at in each.positions]
    found = await ctx.loaders.get(RowByPlace).load_many(places, TABLE_COLUMNS) if places else []
    in_table = dict(zip(places, found, strict=True))

    async def read(each: AskedRows) -> Sequence[PlacedRow]:
        if not each.is_in_table:
            return await _from_files(ctx, each, columns)
        rows = [in_table[each.snapshot.id, at] for at in each.positions]
        return [_from_table(each.snapshot, row) for row in rows]

    return await few_at_once(read, asked)


async def _from_files(
    ctx: Context, asked: AskedRows, columns: frozenset[str]
) -> Sequence[PlacedRow]:
    reader = SnapshotReader(ctx.services.objects, asked.snapshot)
    positions, records = asked.positions, asked.records
    examples: Mapping[int, Example] = {}
    if not columns <= PLACE_COLUMNS | INDEX_COLUMNS:
        lines = [(at, line) async for at, line in reader.lines(positions)]
        examples = await asyncio.to_thread(_read_lines, lines)
    rows = [PlacedRow(asked.snapshot.id, at, examples.get(at)) for at in positions]
    if not columns & INDEX_COLUMNS or not rows:
        return rows
    if records is None:
        own: IndexArray = await ask_index(
            ctx, asked.snapshot, lambda index: index[np.asarray(positions)]
        )
        records = own
    return [_with_record(row, record) for row, record in zip(rows, records, strict=True)]


def _read_lines(lines: Sequence[tuple[int, bytes]]) -> dict[int, Example]:
    return {position: read_line(line) for position, line in lines}


def _with_record(row: PlacedRow, record: np.void) -> PlacedRow:
    return PlacedRow(
        row.snapshot_id,
        row.position,
        row.example,
        key=bytes(record["key"]).hex(),
        side=_side(is_validation=bool(record["flags"] & IS_VALIDATION)),
    )


def _from_table(snapshot: Row, row: Row | None) -> PlacedRow:
    if row is None:
        raise CorruptSnapshotError(f"a row of snapshot {snapshot.id} is gone")
    example = _example(row)
    return PlacedRow(
        row.snapshot_id,
        row.position,
        example,
        key=row_key(example).hex(),
        side=_side(is_validation=is_validation(example.input)),
    )


def _side(*, is_validation: bool) -> str:
    return "VALIDATION" if is_validation else "TRAIN"


def _example(row: Any) -> Example:
    """Return what a row of the database says."""
    return Example(
        input=row.input,
        expected=row.expected,
        messages=row.messages,
        rubric=row.rubric,
        external_id=row.external_id,
        metadata=row.row_metadata,
        tags=tuple(row.tags),
    )


async def table_indexes(
    ctx: Context, snapshot_ids: Sequence[UUID]
) -> AsyncIterator[tuple[UUID, IndexArray]]:
    """Yield the indexes that snapshots without files would have, read in one statement."""
    if not snapshot_ids:
        return
    statement = (
        select(DatasetRow)
        .where(
            DatasetRow.snapshot_id.in_(snapshot_ids), DatasetRow.workspace_id == ctx.workspace_id
        )
        .order_by(DatasetRow.snapshot_id, DatasetRow.position)
        .execution_options(yield_per=BATCH_ROWS)
    )
    begun: UUID | None = None
    records = bytearray()
    async with ctx.database.read() as session:
        found = await session.stream_scalars(statement)
        async for part in found.partitions():
            for snapshot_id, record in await asyncio.to_thread(_index_rows, part):
                if begun is not None and begun != snapshot_id:
                    yield begun, read_index(records)
                    records = bytearray()
                begun = snapshot_id
                records += record
    if begun is not None:
        yield begun, read_index(records)


def _index_rows(rows: Sequence[DatasetRow]) -> list[tuple[UUID, bytes]]:
    return [(row.snapshot_id, _index_row(row)) for row in rows]


def _index_row(row: DatasetRow) -> bytes:
    example = _example(row)
    flags = HAS_EXPECTED * (row.expected is not None) + IS_VALIDATION * is_validation(row.input)
    line = row_line(example) + b"\n"
    return index_row(row_key(example), line, arrival=row.position, flags=flags)


async def find_index(ctx: Context, snapshot: Row) -> IndexArray:
    """Return a snapshot's index.

    Args:
        ctx: Whose object storage it is.
        snapshot: Its row, with `snapshot_files.READER_COLUMNS`.

    Raises:
        CorruptSnapshotError: The stored bytes were changed, or are gone.
        UnavailableError: Object storage can't be read now.
    """
    if snapshot.index_sha256 is not None:
        return await SnapshotReader(ctx.services.objects, snapshot).index()
    async for _, index in table_indexes(ctx, [snapshot.id]):
        return index
    return read_index(b"")


async def ask_index(ctx: Context, snapshot: Row, ask: Callable[[IndexArray], R]) -> R:
    """Return what *ask* makes of a snapshot's index, which is forgotten again.

    Few are in memory at a time, whoever asks.

    Args:
        ctx: Whose object storage it is.
        snapshot: Its row, with `snapshot_files.READER_COLUMNS`.
        ask: Must keep nothing of the index.

    Raises:
        CorruptSnapshotError: The stored bytes were changed, or are gone.
        UnavailableError: Object storage can't be read now.
    """
    async with ctx.services.snapshot_work.index_slots:
        return ask(await find_index(ctx, snapshot))
