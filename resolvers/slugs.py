"""Slugs: what clients call a leaderboard by, one of a kind in its workspace."""

from sqlalchemy import func, select

from db.models import Leaderboard
from db.session import WriteSession
from engine.slugs import reads_as_id, slug_of
from resolvers.errors import ConflictError

DEFAULT = "leaderboard"
ID_CHARACTERS = 8


async def name_leaderboard(session: WriteSession, board: Leaderboard, slug: str | None) -> None:
    """Give a leaderboard its slug, or one made of its name that is free.

    Args:
        session: The caller's; nobody of the workspace takes a slug until it ends.
        board: Whose slug.
        slug: The one that is wanted; None for any.

    Raises:
        ConflictError: Another leaderboard has the one that is wanted.
    """
    await session.execute(
        select(func.pg_advisory_xact_lock(func.hashtextextended(str(board.workspace_id), 0)))
    )
    wanted = slug or slug_of(board.name, default=DEFAULT)
    taken = await session.scalar(
        select(Leaderboard.id).where(
            Leaderboard.workspace_id == board.workspace_id,
            Leaderboard.slug == wanted,
            Leaderboard.deleted_at.is_(None),
            Leaderboard.id != board.id,
        )
    )
    if taken is not None and slug is not None:
        raise ConflictError(f"slug: {slug!r} is leaderboard {taken}'s")
    if taken is not None:
        wanted = f"{wanted}-{board.id.hex[-ID_CHARACTERS:]}"
        wanted = f"{DEFAULT}-{wanted}" if reads_as_id(wanted) else wanted
    board.slug = wanted
