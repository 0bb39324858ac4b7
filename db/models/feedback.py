"""Rows of the feedback aggregate: what people say of traces."""

from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, CreatedAt, Id


class TraceFeedback(Base):
    """What somebody says of a model call; never changed, and the latest counts.

    Attributes:
        trace_id: The call; no foreign key, since traces are dropped when they are old.
        score: How good the answer was, 0 to 1.
        correction: What the answer should have been.
        user_id: The person, when a session said it.
        token_id: The token that said it.
    """

    __tablename__ = "trace_feedback"
    __table_args__ = (
        CheckConstraint("score BETWEEN 0 AND 1", name="score"),
        Index("ix_trace_feedback_trace_id_id", "trace_id", "id"),
    )

    id: Mapped[Id]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspace.id"))
    trace_id: Mapped[UUID]
    score: Mapped[float | None]
    correction: Mapped[str | None]
    comment: Mapped[str | None]
    user_id: Mapped[UUID | None]
    token_id: Mapped[UUID | None] = mapped_column(ForeignKey("api_token.id"))
    created_at: Mapped[CreatedAt]
