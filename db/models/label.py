"""Rows of the label aggregate: jobs in which a model labels a dataset's rows."""

from uuid import UUID

from sqlalchemy import ARRAY, CheckConstraint, ForeignKey, Index, Text, false, text
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, CreatedAt, Id, Instant, Usd


class LabelJob(Base):
    """Which labels are asked of which model, and how far it has come; its inputs never change.

    Attributes:
        mode: `missing` asks for what rows lack; `all` also anew for what a model said earlier.
        fields: What is asked for, of each row that it may be written to.
        row_limit: Rows at most, the first of the snapshot; None for all of them.
        label_model: Who is asked, by OpenRouter's name for it.
        system_prompt: The leaderboard's, as it was when the job was asked for.
        prompt_version: Of the prompt that the labelling model is given.
        snapshot_id: Whose rows are labelled; None until it is made.
        row_count: How many rows it asks for, once that is known.
        max_cost_usd: Its ceiling; None for none.
        committed_usd: The most that its calls can have cost by now, of a job with a ceiling; see
            `Run.committed_usd`.
        estimated_cost_usd: What it was expected to cost; None when that is not known.
        error: Why a failed job failed, for its owner to read.
    """

    __tablename__ = "label_job"
    __table_args__ = (
        CheckConstraint(
            "status IN ('queued', 'running', 'completed', 'failed', 'cancelled')", name="status"
        ),
        CheckConstraint("mode IN ('missing', 'all')", name="mode"),
        Index("ix_label_job_leaderboard_id_id", "leaderboard_id", "id"),
    )

    id: Mapped[Id]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspace.id"))
    leaderboard_id: Mapped[UUID] = mapped_column(ForeignKey("leaderboard.id"))
    status: Mapped[str]
    mode: Mapped[str]
    fields: Mapped[list[str]] = mapped_column(ARRAY(Text))
    row_limit: Mapped[int | None]
    provider: Mapped[str]
    label_model: Mapped[str]
    input_price_per_million_usd: Mapped[Usd | None]
    output_price_per_million_usd: Mapped[Usd | None]
    system_prompt: Mapped[str]
    prompt_version: Mapped[str]
    snapshot_id: Mapped[UUID | None] = mapped_column(ForeignKey("dataset_snapshot.id"))
    row_count: Mapped[int | None]
    max_cost_usd: Mapped[Usd | None]
    committed_usd: Mapped[Usd] = mapped_column(server_default=text("0"))
    estimated_cost_usd: Mapped[Usd | None]
    error: Mapped[str | None]
    token_id: Mapped[UUID | None] = mapped_column(ForeignKey("api_token.id"))
    created_at: Mapped[CreatedAt]
    started_at: Mapped[Instant | None]
    finished_at: Mapped[Instant | None]


class LabelResult(Base):
    """What came of asking for one row's labels; each reply is stored once.

    Attributes:
        position: The row's place in the job's snapshot.
        replies: How often the model has replied, or its call failed.
        is_pending: Whether its only reply can't be used, so that it is asked once more.
        labelled: The fields that a label was stored for.
        error: `code: message` when the call failed, or no reply can be used.
        cost_usd: What is known of what the replies cost; None when nothing is.
        latency_ms: Of the last call.
    """

    __tablename__ = "label_result"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("label_job.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    replies: Mapped[int]
    is_pending: Mapped[bool] = mapped_column(server_default=false())
    labelled: Mapped[list[str]] = mapped_column(ARRAY(Text))
    error: Mapped[str | None]
    cost_usd: Mapped[Usd | None]
    prompt_tokens: Mapped[int | None]
    completion_tokens: Mapped[int | None]
    latency_ms: Mapped[float]
    created_at: Mapped[CreatedAt]
