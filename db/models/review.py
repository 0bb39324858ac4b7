"""Rows of the review aggregate: what people say of a run's answers."""

from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, CreatedAt, Id, Instant


class Review(Base):
    """One answer, or two answers to one row, in the hands of a reviewer.

    Attributes:
        other_candidate_id: Whose answer it is compared with; the same candidate when one answer
            is scored by itself.
        is_swapped: Whether the other candidate's answer is shown first, of two that are compared.
        is_sampled: Drawn by chance; not, when a reviewer chose it.
        status: `assigned`, `done`, `skipped`, or `expired` when nobody came back in time.
        score: 0 to 1; None of a comparison.
        preferred: `first`, `second` or `tie`, as they were shown; None of a score.
        user_id: Who reviews, as a session's user; else `token_id` tells.
        expires_at: When somebody else may have it, unless it is done.
    """

    __tablename__ = "review"
    __table_args__ = (
        CheckConstraint("status IN ('assigned', 'done', 'skipped', 'expired')", name="status"),
        CheckConstraint("preferred IN ('first', 'second', 'tie')", name="preferred"),
        Index("ix_review_run_id_id", "run_id", "id"),
        Index(
            "uq_review_open",
            "run_id",
            "position",
            "candidate_id",
            "other_candidate_id",
            unique=True,
            postgresql_where=text("status IN ('assigned', 'done')"),
        ),
    )

    id: Mapped[Id]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspace.id"))
    run_id: Mapped[UUID] = mapped_column(ForeignKey("run.id"))
    position: Mapped[int]
    candidate_id: Mapped[UUID] = mapped_column(ForeignKey("candidate.id"))
    other_candidate_id: Mapped[UUID] = mapped_column(ForeignKey("candidate.id"))
    is_swapped: Mapped[bool]
    is_sampled: Mapped[bool]
    status: Mapped[str]
    score: Mapped[float | None]
    preferred: Mapped[str | None]
    comment: Mapped[str | None]
    token_id: Mapped[UUID | None] = mapped_column(ForeignKey("api_token.id"))
    user_id: Mapped[UUID | None]
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[Instant]
    reviewed_at: Mapped[Instant | None]
