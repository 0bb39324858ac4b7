"""What every server of the benchmark is told: the database and what is in it."""

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Scene:
    """A filled database.

    Attributes:
        database_url: A SQLAlchemy URL with the asyncpg driver.
        workspace_id: The workspace that owns every row.
        leaderboard_id: The newest leaderboard, which Q4 asks for.
        token: An API token of the workspace with every scope.
    """

    database_url: str
    workspace_id: UUID
    leaderboard_id: UUID
    token: str

    @property
    def asyncpg_dsn(self) -> str:
        """The same database, as asyncpg itself names it."""
        return self.database_url.replace("+asyncpg", "", 1)
