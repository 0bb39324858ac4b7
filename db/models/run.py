"""Rows of the run aggregate: one evaluation of a leaderboard's candidates."""

from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    UniqueConstraint,
    false,
    func,
    select,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, CreatedAt, Id, Instant, Json, Promotion, Usd


class Run(Base):
    """What is ranked, on what, and how far it has come; its inputs never change.

    Attributes:
        kind: `ranking` asks the candidates; `rescore` scores what another run was answered;
            `replay` asks another run's questions again, and ranks nobody; `improve_dataset` asks
            the candidates, and proposes changes of the rows.
        dataset_size: Which rows of the snapshot: `{"algorithm", "rows", "seed"}`.
        row_count: How many rows that selects, once the snapshot is made.
        positions: Which ones, as 32-bit little-endian numbers, in the order in which they are
            asked; None before, and of runs older than that column.
        promotion: The leaderboard's rule, as it was when the run was asked for.
        stops_early: Whether candidates that can no longer win stop being asked.
        max_cost_usd: Its ceiling; None for none.
        committed_usd: The most that its calls can have cost by now, of a run with a ceiling. A
            call adds the most that it can cost before it is made, and what it did cost takes
            that place in the transaction that stores its result.
        estimated_cost_usd: What it was expected to cost; None when that is not known.
        auto_apply: Whether what it proposes is accepted by itself.
        source_run_id: The run that is scored or replayed.
        error: Why a failed run failed, for its owner to read.
    """

    __tablename__ = "run"
    __table_args__ = (
        CheckConstraint("kind IN ('ranking', 'rescore', 'replay', 'improve_dataset')", name="kind"),
        CheckConstraint(
            "status IN ('queued', 'running', 'awaiting_review', 'completed', 'failed', "
            "'cancelled')",
            name="status",
        ),
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
    positions: Mapped[bytes | None] = mapped_column(deferred=True)
    error: Mapped[str | None]
    token_id: Mapped[UUID | None] = mapped_column(ForeignKey("api_token.id"))
    created_at: Mapped[CreatedAt]
    started_at: Mapped[Instant | None]
    finished_at: Mapped[Instant | None]
    promotion: Mapped[Promotion]
    stops_early: Mapped[bool] = mapped_column(server_default=false())
    auto_apply: Mapped[bool] = mapped_column(server_default=false())
    max_cost_usd: Mapped[Usd | None]
    committed_usd: Mapped[Usd] = mapped_column(server_default=text("0"))
    estimated_cost_usd: Mapped[Usd | None]
    source_run_id: Mapped[UUID | None] = mapped_column(ForeignKey("run.id"))


class RunCandidate(Base):
    """A candidate as it was when the run started.

    Attributes:
        position: Its place among the run's candidates, 0-based.
        asked_row_count: Rows it was asked, when early stopping ended it before the last one.
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
    asked_row_count: Mapped[int | None]


class RunResult(Base):
    """What one candidate answered to one row; stored once, and scored once.

    Attributes:
        position: The row's place in the run's snapshot.
        score: 0 to 1; an error scores 0, and so does what nobody has scored yet.
        is_pending: Whether a judge, or people, have yet to score it.
        error: `code: message` when the call failed, or the judge did.
        cost_usd: None when neither the provider nor the prices tell.
        judgement: What the judge said: see `resolvers/judging.py`.
        judge_cost_usd: Of the verdicts that were asked for this result, 0 for those that were
            known already; None when a part of it is not known.
        human_score: What a reviewer gave it, 0 to 1, beside the judge's score.
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
    is_pending: Mapped[bool] = mapped_column(server_default=false())
    judgement: Mapped[Json | None]
    judge_cost_usd: Mapped[Usd | None] = mapped_column(server_default=text("0"))
    human_score: Mapped[float | None]


_IN_ITS_ROW = (RunResult.run_id, RunResult.position)


class DisputedResult(Base):
    """A result, and how far apart the candidates' scores of its row are.

    It is no table: PostgreSQL works it out for the runs that are asked for.

    Attributes:
        disagreement: The row's highest score less its lowest.
    """

    __table__ = select(
        *RunResult.__table__.columns,
        (
            func.max(RunResult.score).over(partition_by=_IN_ITS_ROW)
            - func.min(RunResult.score).over(partition_by=_IN_ITS_ROW)
        ).label("disagreement"),
    ).subquery("disputed_result")


class RunComparison(Base):
    """Which of two candidates' answers to one row a judge preferred, asked in both orders.

    Attributes:
        first_candidate_id: The one that is before the other in the run.
        outcome: `first`, `second`, or `tie`: that too when the two orders disagree.
        judgement: What the judge said in each order.
    """

    __tablename__ = "run_comparison"
    __table_args__ = (CheckConstraint("outcome IN ('first', 'second', 'tie')", name="outcome"),)

    run_id: Mapped[UUID] = mapped_column(ForeignKey("run.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    first_candidate_id: Mapped[UUID] = mapped_column(ForeignKey("candidate.id"), primary_key=True)
    second_candidate_id: Mapped[UUID] = mapped_column(ForeignKey("candidate.id"), primary_key=True)
    outcome: Mapped[str]
    judgement: Mapped[Json]
    created_at: Mapped[CreatedAt]


class JudgeVerdict(Base):
    """What a judge said of an answer, or of two: asked once, and heeded wherever they recur.

    Attributes:
        key: Of everything that the verdict depends on; see `engine.judging.verdict_key`.
        run_id: The run that asked and paid, for the result of `candidate_id` at `position`.
        score: On the scale that the judge was given; None of a preference.
        preferred: `first`, `second` or `tie`; None of a score.
        prompt_version: Of the prompt that the judge was given.
        vote: 0, 1, 2, ... of several that are asked for.
        attempts: Replies it took until one could be read.
    """

    __tablename__ = "judge_verdict"
    __table_args__ = (
        UniqueConstraint("workspace_id", "key"),
        Index(
            "ix_judge_verdict_run_id_position_candidate_id", "run_id", "position", "candidate_id"
        ),
    )

    id: Mapped[Id]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspace.id"))
    key: Mapped[bytes]
    run_id: Mapped[UUID] = mapped_column(ForeignKey("run.id"))
    candidate_id: Mapped[UUID] = mapped_column(ForeignKey("candidate.id"))
    position: Mapped[int]
    trace_id: Mapped[UUID]
    judge_model: Mapped[str]
    prompt_version: Mapped[str]
    vote: Mapped[int]
    attempts: Mapped[int]
    score: Mapped[float | None]
    preferred: Mapped[str | None]
    reason: Mapped[str]
    cost_usd: Mapped[Usd | None]
    created_at: Mapped[CreatedAt]
