"""Rows of the ranking aggregate: what a completed run found."""

from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, CreatedAt, Id, Instant, Json, Usd


class Ranking(Base):
    """The outcome of one completed run.

    Attributes:
        row_count: Rows that the run was to ask every candidate.
        confidence: Of its intervals and comparisons, 0 to 1.
        saved_call_count: Calls that early stopping did without.
        saved_cost_usd: What these would have cost, at each candidate's mean; None when unknown.
        verdict: What it means for production, and `decision` with which numbers: see
            `engine/promotion.py`. None in rankings that are older than the rule.
    """

    __tablename__ = "ranking"
    __table_args__ = (
        CheckConstraint("verdict IN ('PROMOTE', 'HOLD', 'INSUFFICIENT')", name="verdict"),
        Index("ix_ranking_leaderboard_id_id", "leaderboard_id", "id"),
    )

    id: Mapped[Id]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspace.id"))
    leaderboard_id: Mapped[UUID] = mapped_column(ForeignKey("leaderboard.id"))
    run_id: Mapped[UUID] = mapped_column(ForeignKey("run.id"), unique=True)
    row_count: Mapped[int]
    completed_at: Mapped[Instant]
    confidence: Mapped[float] = mapped_column(server_default=text("0.95"))
    saved_call_count: Mapped[int] = mapped_column(server_default=text("0"))
    saved_cost_usd: Mapped[Usd | None]
    verdict: Mapped[str | None]
    decision: Mapped[Json | None]


class RankingEntry(Base):
    """One candidate's place in a ranking.

    Attributes:
        rank: 1 is the winner.
        score: Mean over the rows, errors counted as 0 or left out as the run's evaluation says.
        score_low: Lower end of the mean's interval, and `score_high` the upper; None in
            rankings that are older than intervals.
        band: Candidates that can't be told apart share one; 1 is the best.
        is_on_pareto_front: No other candidate is as good and as cheap, and better in one of both.
        next_comparison: With the candidate of the next rank; see `engine/ranking.py`.
        strength: Bradley-Terry, of answers that were judged in pairs: the natural logarithm of
            the odds against the average candidate; with its interval.
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
    score_low: Mapped[float | None]
    score_high: Mapped[float | None]
    band: Mapped[int | None]
    is_on_pareto_front: Mapped[bool | None]
    next_comparison: Mapped[Json | None]
    strength: Mapped[float | None]
    strength_low: Mapped[float | None]
    strength_high: Mapped[float | None]


class PromotionEvent(Base):
    """One change of a leaderboard's production model.

    Attributes:
        cause: `promotion` by a run's ranking, `selection` by a person, `removal` of the model
            that served, `rollback`, `rollout` that was completed, or `rollout_rollback`: a canary
            no longer serves a part of the traffic, and production is as it was.
        from_candidate_id: Who served before; None at the first one.
        to_candidate_id: Who serves since; None when nobody is left.
        numbers: What it rested on, as the verdict's `decision`.
        undone_event_id: The event that a rollback undid.
        rollout_id: The rollout that ended with it.
    """

    __tablename__ = "promotion_event"
    __table_args__ = (
        CheckConstraint(
            "cause IN ('promotion', 'selection', 'removal', 'rollback', 'rollout', "
            "'rollout_rollback')",
            name="cause",
        ),
        Index("ix_promotion_event_leaderboard_id_id", "leaderboard_id", "id"),
    )

    id: Mapped[Id]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspace.id"))
    leaderboard_id: Mapped[UUID] = mapped_column(ForeignKey("leaderboard.id"))
    cause: Mapped[str]
    from_candidate_id: Mapped[UUID | None] = mapped_column(ForeignKey("candidate.id"))
    to_candidate_id: Mapped[UUID | None] = mapped_column(ForeignKey("candidate.id"))
    run_id: Mapped[UUID | None] = mapped_column(ForeignKey("run.id"))
    rule: Mapped[str | None]
    numbers: Mapped[Json]
    undone_event_id: Mapped[UUID | None] = mapped_column(ForeignKey("promotion_event.id"))
    token_id: Mapped[UUID | None] = mapped_column(ForeignKey("api_token.id"))
    user_id: Mapped[UUID | None]
    created_at: Mapped[CreatedAt]
    rollout_id: Mapped[UUID | None] = mapped_column(ForeignKey("rollout.id"))
