"""Rows of the improvement aggregate: what a run proposes to change about a dataset."""

from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, CreatedAt, Id, Instant, Json


class Improvement(Base):
    """What a run proposes: a snapshot that is made when somebody accepts it.

    Attributes:
        id: Its run's.
        snapshot_id: The snapshot that the run used.
        status: `pending` until every change is decided; then `accepted`, if one was, or `rejected`.
        user_id: The person who decided the last change, when a session did.
        token_id: The token that decided the last change.
    """

    __tablename__ = "improvement"
    __table_args__ = (
        CheckConstraint("status IN ('pending', 'accepted', 'rejected')", name="status"),
        Index("ix_improvement_leaderboard_id_id", "leaderboard_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(ForeignKey("run.id"), primary_key=True)
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspace.id"))
    leaderboard_id: Mapped[UUID] = mapped_column(ForeignKey("leaderboard.id"))
    snapshot_id: Mapped[UUID] = mapped_column(ForeignKey("dataset_snapshot.id"))
    status: Mapped[str]
    user_id: Mapped[UUID | None]
    token_id: Mapped[UUID | None] = mapped_column(ForeignKey("api_token.id"))
    created_at: Mapped[CreatedAt]
    decided_at: Mapped[Instant | None]


class ProposedChange(Base):
    """What one field of a row is proposed to be, and why.

    Attributes:
        id: Of the edit, too, that it becomes.
        position: The row's place in the run's snapshot.
        row_key: See `engine.rows.row_key`.
        kind: See `engine.improvement.ChangeKind`.
        evidence: What the answers were; see `engine.improvement`.
    """

    __tablename__ = "proposed_change"
    __table_args__ = (
        CheckConstraint("kind IN ('fill', 'flag', 'easy', 'separates', 'neutral')", name="kind"),
        CheckConstraint("decision IN ('pending', 'accepted', 'rejected')", name="decision"),
        Index("uq_proposed_change_place", "improvement_id", "position", "field", unique=True),
        Index("ix_proposed_change_improvement_id_id", "improvement_id", "id"),
    )

    id: Mapped[Id]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspace.id"))
    improvement_id: Mapped[UUID] = mapped_column(ForeignKey("improvement.id"))
    position: Mapped[int]
    row_key: Mapped[bytes]
    kind: Mapped[str]
    field: Mapped[str]
    old: Mapped[Any | None] = mapped_column(JSONB(none_as_null=True))
    new: Mapped[Any | None] = mapped_column(JSONB(none_as_null=True))
    evidence: Mapped[Json]
    decision: Mapped[str]
