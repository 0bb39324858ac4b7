"""Edits of rows as they are stored: numbered in the order of their commits, and never changed."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import insert, select
from sqlalchemy.dialects.postgresql import insert as upsert

from db.base import new_id
from db.models import Dataset, DatasetEdit
from db.session import ReadSession, WriteSession
from engine.edits import Edit, EditField, EditOrigin
from resolvers.context import Context


@dataclass(frozen=True, slots=True)
class NewEdit:
    """What one field of a row is to be; see `engine.edits.Edit`."""

    key: bytes
    field: EditField
    value: Any
    provenance: Mapping[str, Any]


async def store_edits(
    session: WriteSession,
    ctx: Context,
    leaderboard_id: UUID,
    edits: Sequence[NewEdit],
    origin: EditOrigin,
) -> None:
    """Number and store edits, in the caller's transaction."""
    dataset = await lock_dataset(session, ctx, leaderboard_id)
    values = [
        {
            "id": new_id(),
            "workspace_id": ctx.workspace_id,
            "leaderboard_id": leaderboard_id,
            "number": number,
            "row_key": edit.key,
            "field": edit.field.value,
            "value": edit.value,
            "origin": origin.value,
            "provenance": dict(edit.provenance),
            "user_id": ctx.principal.user_id,
            "token_id": ctx.principal.token_id,
        }
        for number, edit in enumerate(edits, start=dataset.last_edit + 1)
    ]
    if values:
        await session.execute(insert(DatasetEdit), values)
        dataset.last_edit += len(values)


async def lock_dataset(session: WriteSession, ctx: Context, leaderboard_id: UUID) -> Dataset:
    """Return a leaderboard's dataset, which nobody else pushes to or edits until *session* ends."""
    statement = (
        select(Dataset)
        .where(Dataset.leaderboard_id == leaderboard_id)
        .with_for_update(key_share=True)
    )
    found = await session.scalar(statement)
    if found is None:
        made = upsert(Dataset).values(leaderboard_id=leaderboard_id, workspace_id=ctx.workspace_id)
        await session.execute(made.on_conflict_do_nothing())
        found = (await session.scalars(statement)).one()
    return found


async def edits_by_key(
    session: ReadSession, leaderboard_id: UUID, keys: Sequence[bytes], *, until: int
) -> Mapping[bytes, Sequence[Edit]]:
    """Return the edits of rows, up to edit number *until*; a key without any is not in it."""
    found: dict[bytes, list[Edit]] = defaultdict(list)
    if not until:
        return found
    statement = select(DatasetEdit).where(
        DatasetEdit.leaderboard_id == leaderboard_id,
        DatasetEdit.row_key.in_(keys),
        DatasetEdit.number <= until,
    )
    for edit in await session.scalars(statement):
        found[edit.row_key].append(
            Edit(
                number=edit.number,
                field=EditField(edit.field),
                value=edit.value,
                origin=EditOrigin(edit.origin),
                provenance=edit.provenance,
            )
        )
    return found
