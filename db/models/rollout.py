"""Rows of the rollout aggregate: canaries with what they did, and shadows."""

from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, CreatedAt, Id, Instant, Json, Usd

RUNNING = text("status = 'running'")


class Rollout(Base):
    """A promotion that goes out step by step.

    Attributes:
        from_candidate_id: Who is in production, and whom the canary is compared with.
        to_candidate_id: The canary.
        run_id: The run whose ranking promotes it; None when a person does.
        rule: The rule that decided, and `decision` on which numbers, as a `PromotionEvent` keeps
            them.
        settings: See `resolvers/inputs/rollout.py`. They never change.
        judge: Who judges samples of its answers, as a run keeps it; None for nobody.
        step: Which of the settings' steps it is at, from 0.
        share: Of the traffic, at this step.
        reason: Why it ended; None while it runs.
        numbers: The comparisons that ended it.
        max_cost_usd: The ceiling of what its judge may cost.
        committed_usd: The most that the judge's calls can have cost by now; see `Run`.
        judge_error: Why nobody is judged any more, though somebody should be.
        judged_until: Of traces up to here some have been chosen to be judged.
    """

    __tablename__ = "rollout"
    __table_args__ = (
        CheckConstraint(
            "status IN ('running', 'completed', 'rolled_back', 'cancelled')", name="status"
        ),
        CheckConstraint("share > 0 AND share < 1", name="share"),
        Index("ix_rollout_leaderboard_id_id", "leaderboard_id", "id"),
        Index("uq_rollout_running", "leaderboard_id", unique=True, postgresql_where=RUNNING),
    )

    id: Mapped[Id]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspace.id"))
    leaderboard_id: Mapped[UUID] = mapped_column(ForeignKey("leaderboard.id"))
    status: Mapped[str]
    from_candidate_id: Mapped[UUID] = mapped_column(ForeignKey("candidate.id"))
    to_candidate_id: Mapped[UUID] = mapped_column(ForeignKey("candidate.id"))
    run_id: Mapped[UUID | None] = mapped_column(ForeignKey("run.id"))
    rule: Mapped[str | None]
    decision: Mapped[Json]
    settings: Mapped[Json]
    judge: Mapped[Json | None]
    step: Mapped[int]
    share: Mapped[float]
    reason: Mapped[str | None]
    numbers: Mapped[Json | None]
    max_cost_usd: Mapped[Usd]
    committed_usd: Mapped[Usd] = mapped_column(server_default=text("0"))
    judge_error: Mapped[str | None]
    judged_until: Mapped[Instant]
    token_id: Mapped[UUID | None] = mapped_column(ForeignKey("api_token.id"))
    user_id: Mapped[UUID | None]
    created_at: Mapped[CreatedAt]
    step_started_at: Mapped[Instant]
    finished_at: Mapped[Instant | None]


class RolloutArm(Base):
    """What one process saw of one arm of one step; the rows of all processes add up.

    Sums are doubles, of costs too: these are statistics, and nobody's account.

    Attributes:
        writer: The process, so that no two wait for each other's row; of scores it is nil.
        log_latency_total: Of the natural logarithms of milliseconds of answered requests; the
            other totals go with their counts likewise.
    """

    __tablename__ = "rollout_arm"
    __table_args__ = (CheckConstraint("arm IN ('control', 'canary')", name="arm"),)

    rollout_id: Mapped[UUID] = mapped_column(ForeignKey("rollout.id"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    arm: Mapped[str] = mapped_column(primary_key=True)
    writer: Mapped[UUID] = mapped_column(primary_key=True)
    requests: Mapped[int] = mapped_column(BigInteger)
    errors: Mapped[int] = mapped_column(BigInteger)
    log_latency_count: Mapped[int] = mapped_column(BigInteger)
    log_latency_total: Mapped[float]
    log_latency_square_total: Mapped[float]
    cost_usd_count: Mapped[int] = mapped_column(BigInteger)
    cost_usd_total: Mapped[float]
    cost_usd_square_total: Mapped[float]
    score_count: Mapped[int] = mapped_column(BigInteger)
    score_total: Mapped[float]
    score_square_total: Mapped[float]


class TraceScore(Base):
    """What a judge gave a traced answer: once.

    Attributes:
        trace_id: The answer's; no foreign key, since traces are dropped when they are old.
        score: 0 to 1; None when the judge failed, and `error` says how.
        cost_usd: Of all that it took; None when a part of it is not known.
    """

    __tablename__ = "trace_score"
    __table_args__ = (CheckConstraint("score BETWEEN 0 AND 1", name="score"),)

    trace_id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspace.id"))
    rollout_id: Mapped[UUID] = mapped_column(ForeignKey("rollout.id"), index=True)
    judge_model: Mapped[str]
    score: Mapped[float | None]
    reason: Mapped[str | None]
    error: Mapped[str | None]
    cost_usd: Mapped[Usd | None]
    created_at: Mapped[CreatedAt]


class Shadow(Base):
    """A challenger that a share of production's requests also go to, for its traces alone.

    Attributes:
        budget_usd: What its calls may cost in all.
        spent_usd: What they did cost, or can have cost where that is not known.
        held_usd: The sum of its `shadow_hold` rows.
        smallest_hold_usd: The least that was held for one call; None before the first.
        call_count: How many have ended.
        error_count: Of these, how many failed.
        reason: Why it ended; None while it runs.
    """

    __tablename__ = "shadow"
    __table_args__ = (
        CheckConstraint("status IN ('running', 'stopped', 'exhausted', 'ended')", name="status"),
        CheckConstraint("share > 0 AND share <= 1", name="share"),
        CheckConstraint("held_usd >= 0 AND spent_usd >= 0", name="amounts"),
        Index("ix_shadow_leaderboard_id_id", "leaderboard_id", "id"),
        Index("uq_shadow_running", "leaderboard_id", unique=True, postgresql_where=RUNNING),
    )

    id: Mapped[Id]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspace.id"))
    leaderboard_id: Mapped[UUID] = mapped_column(ForeignKey("leaderboard.id"))
    challenger_id: Mapped[UUID] = mapped_column(ForeignKey("candidate.id"))
    status: Mapped[str]
    share: Mapped[float]
    budget_usd: Mapped[Usd]
    spent_usd: Mapped[Usd] = mapped_column(server_default=text("0"))
    held_usd: Mapped[Usd] = mapped_column(server_default=text("0"))
    smallest_hold_usd: Mapped[Usd | None]
    call_count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    error_count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    reason: Mapped[str | None]
    token_id: Mapped[UUID | None] = mapped_column(ForeignKey("api_token.id"))
    user_id: Mapped[UUID | None]
    created_at: Mapped[CreatedAt]
    ends_at: Mapped[Instant | None]
    finished_at: Mapped[Instant | None]


class ShadowHold(Base):
    """The most that a shadow's call now under way may cost.

    Attributes:
        expires_at: When the call of a server that died counts as having cost that.
    """

    __tablename__ = "shadow_hold"

    id: Mapped[Id]
    shadow_id: Mapped[UUID] = mapped_column(ForeignKey("shadow.id"), index=True)
    amount_usd: Mapped[Usd]
    expires_at: Mapped[Instant] = mapped_column(index=True)
