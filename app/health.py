"""Whether the process is fit to serve: database, migrations and job engine."""

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from db.migrations.runner import current_revision, head_revision
from db.session import Database

ENGINE_TABLE = "pgqueuer"


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
        async with database.read() as session:
            await session.execute(text("SELECT 1"))
            revision = await current_revision(database.engine)
            engine = await session.scalar(text("SELECT to_regclass(:name)"), {"name": ENGINE_TABLE})
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        return [Check("database", f"can't be reached: {type(error).__name__}; is it running?")]
    head = head_revision()
    at_head = revision == head
    return [
        Check("database", None),
        Check(
            "migrations",
            None if at_head else f"at {revision or 'none'}, not {head}: run `gero migrate`",
        ),
        Check("job_engine", None if engine else "its tables are missing: run `gero migrate`"),
    ]
