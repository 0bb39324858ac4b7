"""Rows of the trace aggregate: every model call, with what went in and came out."""

from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, Id, Instant, Json, JsonList, Usd


class Trace(Base):
    """One model call.

    Attributes:
        messages: What the model was sent.
        error: `code: message` when the call failed.
        created_at: When the call was answered.
    """

    __tablename__ = "trace"
    __table_args__ = (
        CheckConstraint("source IN ('run', 'inference')", name="source"),
        CheckConstraint("status IN ('ok', 'error')", name="status"),
        Index("ix_trace_leaderboard_id_created_at_id", "leaderboard_id", "created_at", "id"),
        Index("ix_trace_workspace_id_created_at_id", "workspace_id", "created_at", "id"),
        Index(
            "ix_trace_run_id_created_at_id",
            "run_id",
            "created_at",
            "id",
            postgresql_where="run_id IS NOT NULL",
        ),
    )

    id: Mapped[Id]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspace.id"))
    leaderboard_id: Mapped[UUID] = mapped_column(ForeignKey("leaderboard.id"))
    run_id: Mapped[UUID | None] = mapped_column(ForeignKey("run.id"))
    candidate_id: Mapped[UUID] = mapped_column(ForeignKey("candidate.id"))
    token_id: Mapped[UUID | None] = mapped_column(ForeignKey("api_token.id"))
    source: Mapped[str]
    status: Mapped[str]
    provider: Mapped[str]
    model: Mapped[str]
    input: Mapped[str | None]
    messages: Mapped[JsonList | None]
    output: Mapped[str | None]
    expected: Mapped[str | None]
    score: Mapped[float | None]
    error: Mapped[str | None]
    latency_ms: Mapped[float]
    prompt_tokens: Mapped[int | None]
    completion_tokens: Mapped[int | None]
    cost_usd: Mapped[Usd | None]
    trace_metadata: Mapped[Json] = mapped_column("metadata", key="trace_metadata")
    created_at: Mapped[Instant]
