"""Rows of the run aggregate: one evaluation of a leaderboard's candidates."""

from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, CreatedAt, Id, Instant, Json, Usd


class Run(Base):
    """What is ranked, on what, and how far it has come; its inputs never change.

    Attributes:
        dataset_size: Which rows of the snapshot: `{"algorithm", "rows", "seed"}`.
        row_count: How many rows that selects, once the snapshot is made.
        error: Why a failed run failed, for its owner to read.
    """

    __tablename__ = "run"
    __table_args__ = (
        CheckConstraint("kind IN ('ranking')", name="kind"),
        CheckConstraint("status IN ('queued', 'running', 'completed', 'failed')", name="status"),
        Index("ix_run_leaderboard_id_id", "leaderboard_id", "id"),
    )

    id: Mapped[Id]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspace.id"))
    leaderboard_id: Mapped[UUID] = mapped_column(ForeignKey("leaderboard.id"))
    kind: Mapped[str]
    status: Mapped[str]
    system_prompt: Mapped[str]
    dataset_url: Mapped[str | None]
    evaluation: Mapped[Json]
    dataset_size: Mapped[Json]
    snapshot_id: Mapped[UUID | None] = mapped_column(ForeignKey("dataset_snapshot.id"))
    row_count: Mapped[int | None]
    error: Mapped[str | None]
    token_id: Mapped[UUID | None] = mapped_column(ForeignKey("api_token.id"))
    created_at: Mapped[CreatedAt]
    started_at: Mapped[Instant | None]
    finished_at: Mapped[Instant | None]


class RunCandidate(Base):
    """A candidate as it was when the run started.

    Attributes:
        position: Its place among the run's candidates, 0-based.
    """

    __tablename__ = "run_candidate"

    run_id: Mapped[UUID] = mapped_column(ForeignKey("run.id"), primary_key=True)
    candidate_id: Mapped[UUID] = mapped_column(
        ForeignKey("candidate.id"), primary_key=True, index=True
    )
    position: Mapped[int]
    provider: Mapped[str]
    model_id: Mapped[str | None]
    endpoint_url: Mapped[str | None]
    auth_method: Mapped[str | None]
    auth_header_name: Mapped[str | None]
    params: Mapped[Json]
    input_price_per_million_usd: Mapped[Usd | None]
    output_price_per_million_usd: Mapped[Usd | None]
    timeout_seconds: Mapped[float]


class RunResult(Base):
    """What one candidate answered to one row; stored once, never changed.

    Attributes:
        position: The row's place in the run's snapshot.
        score: 0 to 1; an error scores 0.
        error: `code: message` when the call failed.
        cost_usd: None when neither the provider nor the prices tell.
    """

    __tablename__ = "run_result"
    __table_args__ = (Index("ix_run_result_run_id_id", "run_id", "id"),)

    run_id: Mapped[UUID] = mapped_column(ForeignKey("run.id"), primary_key=True)
    candidate_id: Mapped[UUID] = mapped_column(ForeignKey("candidate.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(unique=True)
    trace_id: Mapped[UUID]
    output: Mapped[str | None]
    score: Mapped[float]
    error: Mapped[str | None]
    latency_ms: Mapped[float]
    prompt_tokens: Mapped[int | None]
    completion_tokens: Mapped[int | None]
    cost_usd: Mapped[Usd | None]
    created_at: Mapped[CreatedAt]
