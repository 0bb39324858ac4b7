"""Deleting what is left in object storage of snapshots that were never made."""

import logging
from datetime import UTC, datetime, timedelta
from itertools import groupby
from uuid import UUID

from sqlalchemy import select

from db.models import DatasetSnapshot, Leaderboard
from providers.objects import ObjectError, StoredObject
from resolvers.auth import SYSTEM, requires
from resolvers.context import Context
from resolvers.snapshot_files import FOLDER

log = logging.getLogger("gero")

# Far longer than a snapshot takes from its first file to its row.
LEFT_FOR = timedelta(days=1)


@requires(SYSTEM)
async def delete_orphaned_objects(ctx: Context) -> int:
    """Delete the files of consolidations that died before their snapshot was stored.

    A file that is a day old and that no snapshot refers to is such a one. Each is looked at under
    the lock of its leaderboard, which whoever stores a snapshot holds too.

    Returns:
        How many were deleted.
    """
    before = datetime.now(UTC) - LEFT_FOR
    try:
        found = [
            each
            async for each in ctx.services.objects.list_keys(FOLDER)
            if each.modified_at < before
        ]
        deleted = 0
        for board, objects in groupby(sorted(found, key=_board_of), key=_board_of):
            deleted += await _delete_orphans(ctx, board, list(objects))
    except ObjectError as error:
        log.warning("object storage could not be cleared of what nobody refers to: %s", error)
        return 0
    if deleted:
        log.info("%s files of snapshots that were never made are deleted", deleted)
    return deleted


def _board_of(stored: StoredObject) -> str:
    return stored.key.split("/")[1]


def _name_of(stored: StoredObject) -> str:
    """Return the digest, or the snapshot's id, that a file is named after."""
    return stored.key.rpartition("/")[2].partition(".")[0]


async def _delete_orphans(ctx: Context, board: str, objects: list[StoredObject]) -> int:
    try:
        leaderboard_id = UUID(board)
    except ValueError:
        return 0  # none of ours
    async with ctx.database.write() as session:
        await session.execute(
            select(Leaderboard.id)
            .where(Leaderboard.id == leaderboard_id)
            .with_for_update(key_share=True)
        )
        snapshots = await session.execute(
            select(DatasetSnapshot.id, DatasetSnapshot.content_sha256).where(
                DatasetSnapshot.leaderboard_id == leaderboard_id
            )
        )
        known = {name for row in snapshots for name in (str(row.id), row.content_sha256)}
        orphans = [each for each in objects if _name_of(each) not in known]
        for orphan in orphans:
            await ctx.services.objects.delete(orphan.key)
    return len(orphans)
