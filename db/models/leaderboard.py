"""Rows of the leaderboard aggregate."""

from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, CreatedAt, Id, Instant, Json


class Leaderboard(Base):
    """A task prompt, a dataset and an evaluation that candidates are ranked on.

    Attributes:
        evaluation: `{"match": ..., "extract": ...}`; see `resolvers/inputs.py`.
        selected_candidate_id: Serves production when `model_selection` is `manual`.
        deleted_at: Set instead of deleting, so that what was paid for stays accounted for.
    """

    __tablename__ = "leaderboard"
    __table_args__ = (
        CheckConstraint("dataset_type IN ('GET', 'PUSH')", name="dataset_type"),
        CheckConstraint("eval_type IN ('exact', 'judge', 'human')", name="eval_type"),
        CheckConstraint("model_selection IN ('ranking_winner', 'manual')", name="model_selection"),
        Index("ix_leaderboard_workspace_id_id", "workspace_id", "id"),
    )

    id: Mapped[Id]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspace.id"))
    name: Mapped[str]
    system_prompt: Mapped[str]
    dataset_type: Mapped[str]
    dataset_url: Mapped[str | None]
    eval_type: Mapped[str]
    evaluation: Mapped[Json]
    model_selection: Mapped[str]
    selected_candidate_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("candidate.id", use_alter=True)
    )
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[CreatedAt]
    deleted_at: Mapped[Instant | None]
