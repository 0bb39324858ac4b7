"""Which revision the code needs, and which one a database is at; told without Alembic."""

from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

VERSIONS_DIR = Path(__file__).parent / "versions"


def head_revision() -> str:
    """Return the revision this code needs: files are named by their revisions, in order."""
    return max(path.name.partition("_")[0] for path in VERSIONS_DIR.glob("[0-9]*_*.py"))


async def current_revision(engine: AsyncEngine) -> str | None:
    """Return the revision the database is at, or None before the first."""
    async with engine.connect() as connection:
        if await connection.scalar(text("SELECT to_regclass('alembic_version')")) is None:
            return None
        found: str | None = await connection.scalar(text("SELECT version_num FROM alembic_version"))
        return found
