"""Rows of the leaderboard aggregate."""

from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, false, text
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, CreatedAt, Id, Instant, Json, Promotion


class Leaderboard(Base):
    """A task prompt, a dataset and an evaluation that candidates are ranked on.

    Attributes:
        push: Of a dataset that is pushed, its quotas and when it is consolidated; see
            `resolvers/inputs/dataset.py`.
        evaluation: `{"match": ..., "extract": ...}`; see `resolvers/inputs/leaderboard.py`.
        selected_candidate_id: Serves production when `model_selection` is `manual`.
        judge_provider: Who serves the judge, of a leaderboard that is judged.
        judge_model: The provider's name for the judge; None when each run picks one.
        judge_auto: Whether each run picks one.
        promotion: When a new ranking changes production; see `resolvers/inputs/leaderboard.py`.
        slug: What it is called by, of letters, digits and hyphens; unique in the workspace.
        serving: How production is served; see `resolvers/inputs/serving.py`.
        production_candidate_id: Who serves production; None before the first ranking. Every
            change of it is a `PromotionEvent`, written in the same transaction.
        deleted_at: Set instead of deleting, so that what was paid for stays accounted for.
    """

    __tablename__ = "leaderboard"
    __table_args__ = (
        CheckConstraint("dataset_type IN ('GET', 'PUSH')", name="dataset_type"),
        CheckConstraint("eval_type IN ('exact', 'judge', 'human')", name="eval_type"),
        CheckConstraint("model_selection IN ('ranking_winner', 'manual')", name="model_selection"),
        Index("ix_leaderboard_workspace_id_id", "workspace_id", "id"),
        Index(
            "uq_leaderboard_workspace_id_slug",
            "workspace_id",
            "slug",
            unique=True,
            postgresql_where=text("deleted_at IS NULL"),
        ),
    )

    id: Mapped[Id]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspace.id"))
    name: Mapped[str]
    slug: Mapped[str | None]
    system_prompt: Mapped[str]
    dataset_type: Mapped[str]
    dataset_url: Mapped[str | None]
    push: Mapped[Json | None]
    eval_type: Mapped[str]
    evaluation: Mapped[Json]
    judge_provider: Mapped[str | None]
    judge_model: Mapped[str | None]
    judge_auto: Mapped[bool] = mapped_column(server_default=false())
    model_selection: Mapped[str]
    selected_candidate_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("candidate.id", use_alter=True)
    )
    promotion: Mapped[Promotion]
    serving: Mapped[Json] = mapped_column(server_default=text("'{}'"), default=dict)
    production_candidate_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("candidate.id", use_alter=True)
    )
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[CreatedAt]
    deleted_at: Mapped[Instant | None]
