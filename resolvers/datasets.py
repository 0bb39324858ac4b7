"""Dataset use cases: reading a source into an immutable snapshot, and a snapshot's rows."""

import hashlib
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any
from uuid import UUID

import orjson
from sqlalchemy import func, insert, select

from db.base import new_id
from db.models import DatasetRow, DatasetSnapshot, Leaderboard
from db.records import Row
from db.session import WriteSession
from engine.rows import DatasetRow as Example
from engine.rows import RowError, normalize_row, row_hash, row_line
from providers.base import DatasetError
from resolvers.auth import Scope, requires
from resolvers.columns import Columns
from resolvers.context import Context
from resolvers.errors import InvalidDatasetError, UpstreamError
from resolvers.integrations import find_integration_key
from resolvers.loaders.datasets import LatestSnapshotByLeaderboard, RowByPlace, SnapshotById
from resolvers.loaders.runs import RunById

CHECKED_ROWS = 20
INSERTED_ROWS = 500
# A file this large stays in memory; a larger one is spooled to disk.
SPOOLED_BYTES = 4 * 1024 * 1024


@requires(Scope.LEADERBOARDS_READ)
async def find_snapshots(
    ctx: Context, snapshot_ids: Sequence[UUID | None], columns: Columns = None
) -> list[Row | None]:
    """Return snapshots by their ids; None where there is none."""
    return await ctx.loaders.get(SnapshotById).load_many(snapshot_ids, columns)


@requires(Scope.LEADERBOARDS_READ)
async def find_result_rows(
    ctx: Context, places: Sequence[tuple[UUID, int]], columns: Columns = None
) -> list[Row | None]:
    """Return the rows at places of runs' snapshots; None where there is none.

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
        async for _ in _read_rows(ctx, url, needs_expected=needs_expected):
            seen += 1
            if seen == CHECKED_ROWS:
                break
        if not seen:
            raise DatasetError(f"{url!r} has no rows")
    except DatasetError as error:
        if error.is_retryable:
            raise UpstreamError(f"dataset_url: {error}", details=details) from error
        raise InvalidDatasetError(f"dataset_url: {error}", details=details) from error


async def _read_rows(ctx: Context, url: str, *, needs_expected: bool) -> AsyncIterator[Example]:
    """Stream the checked rows of a file.

    Raises:
        DatasetError: The file or one of its lines can't be used; a line is named by number.
    """
    limits = ctx.services.limits
    token = await find_integration_key(ctx, "huggingface")
    hub = ctx.services.hub
    count = 0
    async with hub.open_lines(url, token=token, max_bytes=limits.dataset_max_bytes) as lines:
        async for number, line in lines:
            count += 1
            if count > limits.dataset_max_rows:
                raise DatasetError(f"{url!r} has more than {limits.dataset_max_rows} rows")
            yield _read_row(line, number, url, needs_expected=needs_expected)


def _read_row(line: bytes, number: int, url: str, *, needs_expected: bool) -> Example:
    try:
        row = normalize_row(orjson.loads(line))
    except orjson.JSONDecodeError as error:
        raise DatasetError(f"{url!r}: line {number} is not JSON ({error})") from error
    except RowError as error:
        raise DatasetError(f"{url!r}: line {number}: {error.message}") from error
    if row.expected is None and needs_expected:
        raise DatasetError(
            f"{url!r}: line {number} has no expected output, which exact evaluation compares with"
        )
    return row


@dataclass(frozen=True, slots=True)
class _Spool:
    """A dataset as canonical lines in a temporary file."""

    file: IO[bytes]
    content_sha256: str
    row_count: int
    size_bytes: int

    def rows(self) -> Iterator[Example]:
        """Read the rows back, in order."""
        self.file.seek(0)
        for line in self.file:
            yield normalize_row(orjson.loads(line))


async def take_snapshot(
    ctx: Context, leaderboard: Leaderboard, url: str, *, needs_expected: bool
) -> DatasetSnapshot:
    """Read *url* into a snapshot; the same content as an earlier one is that snapshot.

    The source is first read whole into a temporary file, so that no transaction
    waits for the network and a file that breaks off leaves nothing behind.

    Raises:
        InvalidDatasetError: The file, or one of its lines, can't be used.
        UpstreamError: The hub failed; repeating this may help.
    """
    with tempfile.SpooledTemporaryFile(max_size=SPOOLED_BYTES) as file:
        try:
            spool = await _spool(ctx, url, file, needs_expected=needs_expected)
            if spool.row_count == 0:
                raise DatasetError(f"{url!r} has no rows")
        except DatasetError as error:
            if error.is_retryable:
                raise UpstreamError(str(error)) from error
            raise InvalidDatasetError(str(error)) from error
        async with ctx.database.write() as session:
            return await _store(session, leaderboard, url, spool)


async def _spool(ctx: Context, url: str, file: IO[bytes], *, needs_expected: bool) -> _Spool:
    digest = hashlib.sha256()
    row_count = size_bytes = 0
    async for row in _read_rows(ctx, url, needs_expected=needs_expected):
        line = row_line(row) + b"\n"
        digest.update(line)
        file.write(line)
        row_count += 1
        size_bytes += len(line)
    return _Spool(file, digest.hexdigest(), row_count, size_bytes)


async def _store(
    session: WriteSession, leaderboard: Leaderboard, url: str, spool: _Spool
) -> DatasetSnapshot:
    """Number the snapshot and store its rows, unless the same content is stored already."""
    # The leaderboard's row is the lock that gives each snapshot its own number.
    await session.execute(
        select(Leaderboard.id)
        .where(Leaderboard.id == leaderboard.id)
        .with_for_update(key_share=True)
    )
    own = DatasetSnapshot.leaderboard_id == leaderboard.id
    same = await session.scalar(
        select(DatasetSnapshot).where(own, DatasetSnapshot.content_sha256 == spool.content_sha256)
    )
    if same is not None:
        return same
    last = await session.scalar(select(func.max(DatasetSnapshot.number)).where(own))
    snapshot = DatasetSnapshot(
        id=new_id(),
        workspace_id=leaderboard.workspace_id,
        leaderboard_id=leaderboard.id,
        number=(last or 0) + 1,
        content_sha256=spool.content_sha256,
        row_count=spool.row_count,
        size_bytes=spool.size_bytes,
        source_url=url,
    )
    session.add(snapshot)
    await session.flush()
    for batch in _batches(enumerate(spool.rows())):
        values = [_row_values(snapshot, position, row) for position, row in batch]
        await session.execute(insert(DatasetRow), values)
    return snapshot


def _batches(rows: Iterator[tuple[int, Example]]) -> Iterator[Sequence[tuple[int, Example]]]:
    while batch := list(islice(rows, INSERTED_ROWS)):
        yield batch


def _row_values(snapshot: DatasetSnapshot, position: int, row: Example) -> dict[str, Any]:
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


@requires(Scope.LEADERBOARDS_READ)
async def find_latest_snapshots(
    ctx: Context, leaderboard_ids: Sequence[UUID], columns: Columns = None
) -> list[Row | None]:
    """Return each leaderboard's newest snapshot, or None before its first run."""
    return await ctx.loaders.get(LatestSnapshotByLeaderboard).load_many(leaderboard_ids, columns)
