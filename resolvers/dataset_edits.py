"""Labels and corrections of rows: who said what, and what of it a snapshot carries."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select

from db.models import DatasetSnapshot, PushedRow
from db.records import Row
from engine.edits import EditOrigin
from engine.instants import rfc3339
from engine.rows import id_key
from resolvers.auth import Scope, requires
from resolvers.columns import Columns
from resolvers.context import Context
from resolvers.edit_storage import NewEdit, store_edits
from resolvers.errors import InvalidInputError
from resolvers.inputs import RowEdit, RowEdits
from resolvers.leaderboards import fetch_leaderboard
from resolvers.loaders.datasets import EditCountByLeaderboard, EditsByLeaderboard
from resolvers.paging import Page, PageRequest
from resolvers.snapshot_rows import read_row_id
from resolvers.snapshot_storage import latest_snapshot, read_snapshot
from resolvers.where import NOTHING


@requires(Scope.LEADERBOARDS_WRITE)
async def edit_rows(ctx: Context, leaderboard_id: UUID, edits: RowEdits) -> int:
    """Label, correct or exclude rows by hand; the next snapshot carries it.

    Returns:
        How many fields of rows were edited.

    Raises:
        NotFoundError: The workspace has no such leaderboard.
        InvalidInputError: One of the rows is not of its dataset; nothing is edited.
    """
    async with ctx.database.read() as session:
        await fetch_leaderboard(session, ctx.workspace_id, leaderboard_id)
    keys = await _keys_of(ctx, leaderboard_id, edits.rows)
    made = [
        NewEdit(key, field, value, _said_by(ctx, edit))
        for key, edit in zip(keys, edits.rows, strict=True)
        for field, value in edit.values().items()
    ]
    async with ctx.database.write() as session:
        await fetch_leaderboard(session, ctx.workspace_id, leaderboard_id)
        await store_edits(session, ctx, leaderboard_id, made, EditOrigin.HUMAN)
    return len(made)


def _said_by(ctx: Context, edit: RowEdit) -> dict[str, Any]:
    said: dict[str, Any] = {"at": rfc3339(datetime.now(UTC))}
    if ctx.principal.user_id is not None:
        said["user_id"] = str(ctx.principal.user_id)
    if ctx.principal.token_id is not None:
        said["token_id"] = str(ctx.principal.token_id)
    if edit.reason is not None:
        said["reason"] = edit.reason
    return said


async def _keys_of(ctx: Context, leaderboard_id: UUID, edits: Sequence[RowEdit]) -> list[bytes]:
    """Return the keys of the rows that *edits* name."""
    places: dict[UUID, dict[int, int]] = defaultdict(dict)
    keys: dict[int, bytes] = {}
    for index, edit in enumerate(edits):
        if edit.row_id is not None:
            snapshot_id, position = read_row_id(f"rows.{index}.row_id", edit.row_id)
            places[snapshot_id][index] = position
        else:
            keys[index] = id_key(edit.external_id or "")
    await _check_external_ids(ctx, leaderboard_id, edits, keys)
    for snapshot_id, positions in places.items():
        found = await _keys_at(ctx, leaderboard_id, snapshot_id, positions)
        keys.update(found)
    return [keys[index] for index in range(len(edits))]


async def _keys_at(
    ctx: Context, leaderboard_id: UUID, snapshot_id: UUID, positions: Mapping[int, int]
) -> dict[int, bytes]:
    async with ctx.database.read() as session:
        snapshot = await session.scalar(
            select(DatasetSnapshot).where(
                DatasetSnapshot.id == snapshot_id,
                DatasetSnapshot.leaderboard_id == leaderboard_id,
                DatasetSnapshot.workspace_id == ctx.workspace_id,
            )
        )
    for index, position in positions.items():
        if snapshot is None or not 0 <= position < snapshot.row_count:
            raise InvalidInputError(
                f"rows.{index}.row_id: {snapshot_id}:{position} is not a row of this dataset"
            )
    if snapshot is None or snapshot.index_sha256 is None:
        raise InvalidInputError(
            f"row_id: snapshot {snapshot_id} is of an older version: name a row of a newer one"
        )
    index_array = await (await read_snapshot(ctx, snapshot_id)).index()
    return {index: index_array[position]["key"].tobytes() for index, position in positions.items()}


async def _check_external_ids(
    ctx: Context, leaderboard_id: UUID, edits: Sequence[RowEdit], keys: Mapping[int, bytes]
) -> None:
    """Check that the rows named by their own ids were pushed, or are in the newest snapshot."""
    if not keys:
        return
    async with ctx.database.read() as session:
        pushed = await session.scalars(
            select(PushedRow.row_key).where(
                PushedRow.leaderboard_id == leaderboard_id, PushedRow.row_key.in_(keys.values())
            )
        )
        known = set(pushed)
        latest = await latest_snapshot(session, leaderboard_id)
    if known < set(keys.values()) and latest is not None and latest.index_sha256 is not None:
        index = await (await read_snapshot(ctx, latest.id)).index()
        known |= {key.tobytes() for key in index["key"]} & set(keys.values())
    for index_, key in keys.items():
        if key not in known:
            raise InvalidInputError(
                f"rows.{index_}.external_id: {edits[index_].external_id!r} is not a row of this "
                "dataset"
            )


@requires(Scope.LEADERBOARDS_READ)
async def list_edits(
    ctx: Context, leaderboard_ids: Sequence[UUID], request: PageRequest, columns: Columns = None
) -> list[Page[Row]]:
    """Return a slice of the edits of each leaderboard's rows."""
    loader = ctx.loaders.get(EditsByLeaderboard)
    return await loader.load_pages(leaderboard_ids, request, NOTHING, columns)


@requires(Scope.LEADERBOARDS_READ)
async def count_edits(ctx: Context, leaderboard_id: UUID) -> int:
    """Return how many edits a leaderboard's rows have had, batched."""
    return await ctx.loaders.get(EditCountByLeaderboard).load((leaderboard_id, NOTHING))
