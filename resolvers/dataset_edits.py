"""The edits of rows: which ones there are."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import select

from db.models import DatasetEdit
from db.session import ReadSession
from engine.edits import Edit, EditField, EditOrigin


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
