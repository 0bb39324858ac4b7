"""Rows of the job aggregate: background work, whichever engine runs it."""

from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, CreatedAt, Id, Instant, Json


class Job(Base):
    """A piece of background work and how often it has been tried.

    Attributes:
        subject_id: What the work is for, such as a run.
        arguments: The handler's other arguments: ids and numbers, never content.
        attempts: Times a worker has begun it; a job that kills its worker is
            given up by this count.
    """

    __tablename__ = "job"
    __table_args__ = (
        CheckConstraint("status IN ('queued', 'running', 'succeeded', 'failed')", name="status"),
    )

    id: Mapped[Id]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspace.id"))
    kind: Mapped[str]
    subject_id: Mapped[UUID] = mapped_column(index=True)
    arguments: Mapped[Json]
    status: Mapped[str]
    attempts: Mapped[int]
    error: Mapped[str | None]
    created_at: Mapped[CreatedAt]
    finished_at: Mapped[Instant | None]
