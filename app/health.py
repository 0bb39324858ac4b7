"""Whether the process is fit to serve: database, migrations and job engine."""

import asyncio
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from db.migrations.revisions import current_revision, head_revision
from db.session import Database

ENGINE_TABLE = "pgqueuer"
# Whoever asks for readiness gives up after a few seconds, and needs the reason before.
LONGEST_CHECK_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must be so.

    Attributes:
        problem: What is wrong and what to do, or None when nothing is.
    """

    name: str
    problem: str | None


async def check_database(database: Database) -> list[Check]:
    """Check what the API needs of the database; later checks are left out when one fails."""
    try:
        async with asyncio.timeout(LONGEST_CHECK_SECONDS):
            revision, has_engine = await _look(database)
    except TimeoutError:
        return [Check("database", "does not answer in time; is it overloaded?")]
    except (SQLAlchemyError, OSError) as error:
        return [Check("database", f"can't be used: {reason_of(error)}")]
    head = head_revision()
    at_head = revision == head
    return [
        Check("database", None),
        Check(
            "migrations",
            None if at_head else f"at {revision or 'none'}, not {head}: run `gero migrate`",
        ),
        Check("job_engine", None if has_engine else "its tables are missing: run `gero migrate`"),
    ]


async def _look(database: Database) -> tuple[str | None, bool]:
    """Return the revision the database is at, and whether it has the job engine's tables."""
    async with database.read() as session:
        engine = await session.scalar(text("SELECT to_regclass(:name)"), {"name": ENGINE_TABLE})
    return await current_revision(database.engine), engine is not None


def reason_of(error: Exception) -> str:
    """Return what PostgreSQL or the network said, on one line and without the statement."""
    said = error.orig if isinstance(error, DBAPIError) else error
    return str(said).partition("\n")[0].rpartition(">: ")[2] or type(error).__name__
