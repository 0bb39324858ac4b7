"""Dataset use cases: reading a source into an immutable snapshot, and a snapshot's rows."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

import orjson

from db.models import Dataset, DatasetSnapshot, Leaderboard
from db.records import Row
from engine.edits import Edit
from engine.rows import DatasetRow as Example
from engine.rows import RowError, normalize_row, row_key, row_line
from providers.base import DatasetError
from resolvers.auth import Scope, requires
from resolvers.columns import Columns
from resolvers.context import Context
from resolvers.edit_storage import edits_by_key
from resolvers.errors import (
    AppError,
    InvalidDatasetError,
    NotFoundError,
    UpstreamError,
)
from resolvers.integrations import find_integration_key
from resolvers.loaders.datasets import (
    LatestSnapshotByLeaderboard,
    RowByPlace,
    SnapshotById,
    SnapshotCountByLeaderboard,
    SnapshotsByLeaderboard,
)
from resolvers.loaders.runs import RunById
from resolvers.paging import Page, PageRequest
from resolvers.snapshot_files import (
    EXCLUDED,
    SnapshotWriter,
    snapshot_directory,
    with_edits,
)
from resolvers.snapshot_rows import find_snapshot_rows
from resolvers.snapshot_storage import (
    SnapshotSource,
    latest_snapshot,
    require_snapshot,
    store_snapshot,
)
from resolvers.stored_rows import TABLE_COLUMNS, PlacedRow
from resolvers.where import NOTHING

CHECKED_ROWS = 20
# Edited and written at a time.
BATCH_ROWS = 500
BATCH_BYTES = 4 * 1024 * 1024


@requires(Scope.LEADERBOARDS_READ)
async def get_snapshot(ctx: Context, snapshot_id: UUID, columns: Columns = None) -> Row:
    """Return one snapshot, batched.

    Raises:
        NotFoundError: The workspace has no such snapshot.
    """
    snapshot = await ctx.loaders.get(SnapshotById).load(snapshot_id, columns)
    if snapshot is None:
        raise NotFoundError(f"dataset snapshot {snapshot_id} does not exist")
    return snapshot


@requires(Scope.LEADERBOARDS_READ)
async def list_snapshots(
    ctx: Context, leaderboard_ids: Sequence[UUID], request: PageRequest, columns: Columns = None
) -> list[Page[Row]]:
    """Return a slice of each leaderboard's snapshots."""
    loader = ctx.loaders.get(SnapshotsByLeaderboard)
    return await loader.load_pages(leaderboard_ids, request, NOTHING, columns)


@requires(Scope.LEADERBOARDS_READ)
async def count_snapshots(ctx: Context, leaderboard_id: UUID) -> int:
    """Return how many snapshots a leaderboard has, batched."""
    return await ctx.loaders.get(SnapshotCountByLeaderboard).load((leaderboard_id, NOTHING))


@requires(Scope.LEADERBOARDS_READ)
async def find_snapshots(
    ctx: Context, snapshot_ids: Sequence[UUID | None], columns: Columns = None
) -> list[Row | None]:
    """Return snapshots by their ids; None where there is none."""
    return await ctx.loaders.get(SnapshotById).load_many(snapshot_ids, columns)


@requires(Scope.LEADERBOARDS_READ)
async def find_result_rows(
    ctx: Context, places: Sequence[tuple[UUID, int]], columns: frozenset[str]
) -> Sequence[Row | PlacedRow | AppError | None]:
    """Return the rows at places of runs' snapshots; None where there is none.

    They are in the database. What is not kept there is read where the snapshot is.

    Args:
        ctx: Who asks.
        places: (run id, position in the run's snapshot).
        columns: What is read of the rows.
    """
    runs = await ctx.loaders.get(RunById).load_many(
        [run_id for run_id, _ in places], frozenset({"snapshot_id"})
    )
    keys = [
        None if run is None or run.snapshot_id is None else (run.snapshot_id, position)
        for run, (_, position) in zip(runs, places, strict=True)
    ]
    if not columns <= TABLE_COLUMNS:
        return await find_snapshot_rows(ctx, keys, columns)
    return await ctx.loaders.get(RowByPlace).load_many(keys, columns)


async def check_dataset(ctx: Context, url: str, *, needs_expected: bool) -> None:
    """Check that *url* is a dataset file whose first rows can be used.

    Raises:
        InvalidDatasetError: It is not.
        UpstreamError: The hub can't be asked just now.
    """
    details = {"field": "dataset_url"}
    try:
        ctx.services.hub.check_url(url)
        seen = 0
        async for batch in _read_lines(ctx, url, url, rows_at_once=CHECKED_ROWS):
            for each in await asyncio.to_thread(_parse, batch, url):
                if needs_expected and each.row.expected is None:
                    raise _unlabelled(url, each.number)
                seen += 1
            if seen >= CHECKED_ROWS:
                break
        if not seen:
            raise DatasetError(f"{url!r} has no rows")
    except DatasetError as error:
        if error.is_retryable:
            raise UpstreamError(f"dataset_url: {error}", details=details) from error
        raise InvalidDatasetError(f"dataset_url: {error}", details=details) from error


async def _read_lines(
    ctx: Context, url: str, shown_url: str, *, rows_at_once: int = BATCH_ROWS
) -> AsyncIterator[list[tuple[int, bytes]]]:
    """Stream the lines of a file with their numbers, in batches that memory has room for.

    Args:
        ctx: Whose credential is sent.
        url: What is read.
        shown_url: What its owner calls it.
        rows_at_once: Lines of a batch at most.

    Raises:
        DatasetError: The file can't be read, or has too many rows.
    """
    limits = ctx.services.limits
    token = await find_integration_key(ctx, "huggingface")
    hub = ctx.services.hub
    batch: list[tuple[int, bytes]] = []
    count = size_bytes = 0
    async with hub.open_lines(url, token=token, max_bytes=limits.dataset_max_bytes) as lines:
        async for number, line in lines:
            count += 1
            if count > limits.dataset_max_rows:
                raise DatasetError(f"{shown_url!r} has more than {limits.dataset_max_rows} rows")
            batch.append((number, line))
            size_bytes += len(line)
            if len(batch) == rows_at_once or size_bytes >= BATCH_BYTES:
                yield batch
                batch, size_bytes = [], 0
        if batch:
            yield batch


class _SourceRow(NamedTuple):
    """A row of a file.

    Attributes:
        number: Of its line, from 1.
    """

    number: int
    key: bytes
    row: Example


def _parse(batch: Sequence[tuple[int, bytes]], url: str) -> list[_SourceRow]:
    """Return the rows of lines; a long one takes a while, which is not for the event loop.

    Raises:
        DatasetError: One of them is no row; it is named by its number.
    """
    rows = []
    for number, line in batch:
        try:
            row = normalize_row(orjson.loads(line))
        except orjson.JSONDecodeError as error:
            raise DatasetError(f"{url!r}: line {number} is not JSON ({error})") from error
        except RowError as error:
            raise DatasetError(f"{url!r}: line {number}: {error.message}") from error
        rows.append(_SourceRow(number, row_key(row), row))
    return rows


def _unlabelled(url: str, number: int) -> DatasetError:
    return DatasetError(
        f"{url!r}: line {number} has no expected output, which exact evaluation compares with"
    )


async def take_snapshot(
    ctx: Context, leaderboard: Leaderboard, *, needs_expected: bool
) -> DatasetSnapshot:
    """Return the snapshot that a run of *leaderboard* now is to use.

    Of a pushed dataset that is the newest. A URL is read at the commit that its branch stands for,
    with the edits of its rows; the same commit with the same edits is the same snapshot. A file is
    read whole before anything is stored, so that no transaction waits for the network and one
    that breaks off leaves nothing behind.

    Raises:
        ConflictError: The dataset is pushed, and no snapshot was made yet.
        InvalidDatasetError: The file, or one of its lines, can't be used.
        UpstreamError: The hub failed; repeating this may help.
    """
    async with ctx.database.read() as session:
        if leaderboard.dataset_type == "PUSH":
            pushed = await require_snapshot(session, leaderboard.id)
            return _usable(pushed, needs_expected=needs_expected)
        latest = await latest_snapshot(session, leaderboard.id)
        dataset = await session.get(Dataset, leaderboard.id)
    last_edit = 0 if dataset is None else dataset.last_edit
    try:
        return await _read_source(
            ctx, leaderboard, latest, last_edit=last_edit, needs_expected=needs_expected
        )
    except DatasetError as error:
        if error.is_retryable:
            raise UpstreamError(str(error)) from error
        raise InvalidDatasetError(str(error)) from error


def _usable(snapshot: DatasetSnapshot, *, needs_expected: bool) -> DatasetSnapshot:
    """Return *snapshot*, if a run can use a row of it."""
    if needs_expected and snapshot.labelled_count == 0:
        raise InvalidDatasetError(
            f"no row of snapshot {snapshot.number} has an expected output, which exact evaluation "
            "compares with: label rows, or have them judged"
        )
    return snapshot


async def _read_source(
    ctx: Context,
    leaderboard: Leaderboard,
    latest: DatasetSnapshot | None,
    *,
    last_edit: int,
    needs_expected: bool,
) -> DatasetSnapshot:
    url = leaderboard.dataset_url or ""
    token = await find_integration_key(ctx, "huggingface")
    pinned = await ctx.services.hub.pin(url, token=token)
    source = SnapshotSource(url=url, revision=pinned.commit, last_edit=last_edit)
    if latest is not None and _is_of(latest, source):
        if needs_expected and latest.labelled_count != latest.row_count:
            missing = latest.row_count - (latest.labelled_count or 0)
            raise DatasetError(
                f"{url!r}: {missing} of {latest.row_count} rows have no expected output, which "
                "exact evaluation compares with"
            )
        return latest
    with snapshot_directory() as directory, SnapshotWriter(directory) as writer:
        async for batch in _read_lines(ctx, pinned.url, url):
            rows = await asyncio.to_thread(_parse, batch, url)
            edits = await _edits_of(ctx, leaderboard, rows, last_edit)
            needed_by = url if needs_expected else None
            await asyncio.to_thread(_write, writer, rows, edits, needed_by)
        written = writer.finish()
        if not written.row_count:
            raise DatasetError(f"{url!r} has no rows")
        return await store_snapshot(ctx, leaderboard, written, source)


def _is_of(snapshot: DatasetSnapshot, source: SnapshotSource) -> bool:
    """Tell whether reading *source* again would give *snapshot* again."""
    is_read_whole = snapshot.index_sha256 is not None and source.revision is not None
    return is_read_whole and (
        snapshot.source_url,
        snapshot.source_revision,
        snapshot.last_edit,
    ) == (source.url, source.revision, source.last_edit)


async def _edits_of(
    ctx: Context, leaderboard: Leaderboard, rows: Sequence[_SourceRow], last_edit: int
) -> Mapping[bytes, Sequence[Edit]]:
    if not last_edit:
        return {}
    keys = [each.key for each in rows]
    async with ctx.database.read() as session:
        return await edits_by_key(session, leaderboard.id, keys, until=last_edit)


def _write(
    writer: SnapshotWriter,
    rows: Sequence[_SourceRow],
    edits: Mapping[bytes, Sequence[Edit]],
    needed_by: str | None,
) -> None:
    """Write rows with their edits.

    Args:
        writer: Of the snapshot.
        rows: In the file's order.
        edits: By key.
        needed_by: The file's URL, if each row must have an expected output.

    Raises:
        DatasetError: One of them has none.
    """
    for number, key, source in rows:
        row = with_edits(key, number, row_line(source), edits.get(key, ()))
        if row.is_excluded:
            writer.drop(row, EXCLUDED)
        elif needed_by is not None and not row.has_expected:
            raise _unlabelled(needed_by, number)
        else:
            writer.add(row)


@requires(Scope.LEADERBOARDS_READ)
async def find_latest_snapshots(
    ctx: Context, leaderboard_ids: Sequence[UUID], columns: Columns = None
) -> list[Row | None]:
    """Return each leaderboard's newest snapshot, or None before its first run."""
    return await ctx.loaders.get(LatestSnapshotByLeaderboard).load_many(leaderboard_ids, columns)
