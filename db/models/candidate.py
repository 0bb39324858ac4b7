"""Rows of the candidate aggregate: the models a leaderboard compares."""

from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, CreatedAt, Id, Instant, Json, Usd


class Candidate(Base):
    """A model on a leaderboard, and how to call it.

    Attributes:
        model_id: The provider's name for the model; None for endpoints that need none.
        auth_token_box: The endpoint's credential, encrypted for this row.
        params: Sampling parameters sent with every call.
        timeout_seconds: The longest one call may take, in seconds.
        first_byte_timeout_seconds: The longest that it may keep silent first, in seconds.
        price_version: Of its prices; see `CandidatePrice`.
        removed_at: Set instead of deleting, so that past rankings keep their entries.
    """

    __tablename__ = "candidate"
    __table_args__ = (
        CheckConstraint("provider IN ('openrouter', 'huggingface', 'custom')", name="provider"),
        Index("ix_candidate_leaderboard_id_id", "leaderboard_id", "id"),
    )

    id: Mapped[Id]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspace.id"))
    leaderboard_id: Mapped[UUID] = mapped_column(ForeignKey("leaderboard.id"))
    provider: Mapped[str]
    model_id: Mapped[str | None]
    display_name: Mapped[str]
    endpoint_url: Mapped[str | None]
    auth_method: Mapped[str | None]
    auth_header_name: Mapped[str | None]
    auth_token_box: Mapped[str | None]
    params: Mapped[Json]
    input_price_per_million_usd: Mapped[Usd | None]
    output_price_per_million_usd: Mapped[Usd | None]
    timeout_seconds: Mapped[float]
    first_byte_timeout_seconds: Mapped[float | None]
    price_version: Mapped[int] = mapped_column(server_default=text("1"), default=1)
    created_at: Mapped[CreatedAt]
    removed_at: Mapped[Instant | None]
