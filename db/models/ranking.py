"""Rows of the ranking aggregate: what a completed run found."""

from uuid import UUID

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, Id, Instant, Usd


class Ranking(Base):
    """The outcome of one completed run."""

    __tablename__ = "ranking"
    __table_args__ = (Index("ix_ranking_leaderboard_id_id", "leaderboard_id", "id"),)

    id: Mapped[Id]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspace.id"))
    leaderboard_id: Mapped[UUID] = mapped_column(ForeignKey("leaderboard.id"))
    run_id: Mapped[UUID] = mapped_column(ForeignKey("run.id"), unique=True)
    row_count: Mapped[int]
    completed_at: Mapped[Instant]


class RankingEntry(Base):
    """One candidate's place in a ranking.

    Attributes:
        rank: 1 is the winner.
        score: Mean over the rows, errors counted as 0.
        cost_usd: Of all its calls; None when a part of it is unknown.
    """

    __tablename__ = "ranking_entry"

    ranking_id: Mapped[UUID] = mapped_column(ForeignKey("ranking.id"), primary_key=True)
    candidate_id: Mapped[UUID] = mapped_column(
        ForeignKey("candidate.id"), primary_key=True, index=True
    )
    rank: Mapped[int]
    score: Mapped[float]
    row_count: Mapped[int]
    error_count: Mapped[int]
    latency_ms_p50: Mapped[float | None]
    latency_ms_p95: Mapped[float | None]
    cost_usd: Mapped[Usd | None]
    cost_usd_per_1k: Mapped[Usd | None]
