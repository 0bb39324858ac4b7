"""Rows of the trace aggregate: every model call, with what went in and came out, and its sums.

Traces are partitioned by the UTC day of their ids, which are version 7 UUIDs: an id leads to its
partition, the order of ids is the order of time, and a day is dropped whole when it is old.
"""

from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    ColumnElement,
    DateTime,
    Index,
    Integer,
    Uuid,
    bindparam,
    select,
)
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlalchemy.orm import Mapped, column_property, mapped_column

from db.base import Base, Id, Instant, Json, JsonList, Usd, new_id

Total = Annotated[int, mapped_column(BigInteger)]
BY_DAY = {"postgresql_partition_by": "RANGE (id)"}
# Stands for all leaderboards of a workspace, in sums.
ALL_BOARDS: Final = UUID(int=2**128 - 1)


class TraceText(Base):
    """What went into a model call and came out, apart from what lists of traces are made of.

    Attributes:
        id: The trace's.
        messages: What the model was sent.
    """

    __tablename__ = "trace_text"
    __table_args__ = BY_DAY

    id: Mapped[Id]
    workspace_id: Mapped[UUID]
    input: Mapped[str | None]
    messages: Mapped[JsonList | None]
    output: Mapped[str | None]
    expected: Mapped[str | None]


def texts_within() -> ColumnElement[bool]:
    """Return the condition that texts are of the traces between two ids, where these are given.

    It says nothing of whose they are. It says which days they are of before any is looked for: else
    each of them is planned for, by each column.
    """
    first = bindparam("texts_from", UUID(int=0), type_=Uuid())
    last = bindparam("texts_to", UUID(int=2**128 - 1), type_=Uuid())
    return TraceText.id.between(first, last)


def _text(name: str, trace_id: Mapped[UUID]) -> Any:
    """Return a column of a trace's text, which is looked up for the rows that are returned."""
    wanted = select(getattr(TraceText, name)).where(TraceText.id == trace_id, texts_within())
    return column_property(wanted.correlate_except(TraceText).scalar_subquery())


class Trace(Base):
    """One model call, or an event that a client has sent.

    No foreign keys: each would cost a look-up a row, and what they name is never deleted.

    Attributes:
        candidate_id: Who was called; None of an event that a client has sent.
        error: `code: message` when the call failed.
        latency_ms: Request sent to answer read.
        first_byte_ms: Request sent to the first of the answer, where it was streamed.
        cost_source: Who says what it cost: `provider`, `computed` of tokens and prices, `unknown`.
        price_version: Of the candidate's prices, as they were.
        created_at: The instant in its id: when a request was taken, or a run's call recorded.
    """

    __tablename__ = "trace"
    __table_args__ = (
        CheckConstraint(
            "source IN ('run', 'inference', 'shadow', 'dataset', 'manual')", name="source"
        ),
        CheckConstraint("status IN ('ok', 'error', 'cancelled')", name="status"),
        CheckConstraint("cost_source IN ('provider', 'computed', 'unknown')", name="cost_source"),
        Index("ix_trace_leaderboard_id_id", "leaderboard_id", "id"),
        Index("ix_trace_workspace_id_id", "workspace_id", "id"),
        Index("ix_trace_run_id_id", "run_id", "id", postgresql_where="run_id IS NOT NULL"),
        Index("ix_trace_workspace_id_model_id", "workspace_id", "model", "id"),
        Index("ix_trace_workspace_id_candidate_id_id", "workspace_id", "candidate_id", "id"),
        Index(
            "ix_trace_workspace_id_token_id_id",
            "workspace_id",
            "token_id",
            "id",
            postgresql_where="token_id IS NOT NULL",
        ),
        Index(
            "ix_trace_workspace_id_source_id",
            "workspace_id",
            "source",
            "id",
            postgresql_where="source <> 'inference'",
        ),
        Index(
            "ix_trace_failed",
            "workspace_id",
            "id",
            postgresql_where="error IS NOT NULL OR status <> 'ok'",
        ),
        Index(
            "ix_trace_metadata",
            "trace_metadata",
            postgresql_using="gin",
            postgresql_ops={"trace_metadata": "jsonb_path_ops"},
        ),
        BY_DAY,
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    workspace_id: Mapped[UUID]
    leaderboard_id: Mapped[UUID | None]
    run_id: Mapped[UUID | None]
    candidate_id: Mapped[UUID | None]
    token_id: Mapped[UUID | None]
    source: Mapped[str]
    status: Mapped[str]
    provider: Mapped[str | None]
    model: Mapped[str | None]
    score: Mapped[float | None]
    error: Mapped[str | None]
    latency_ms: Mapped[float]
    first_byte_ms: Mapped[float | None]
    prompt_tokens: Mapped[int | None]
    completion_tokens: Mapped[int | None]
    cost_usd: Mapped[Usd | None]
    cost_source: Mapped[str | None]
    price_version: Mapped[int | None]
    trace_metadata: Mapped[Json] = mapped_column("metadata", key="trace_metadata")
    created_at: Mapped[Instant]
    input: Mapped[str | None] = _text("input", id)  # noqa: A003 - the column
    messages: Mapped[list[Any] | None] = _text("messages", id)  # noqa: A003 - the column
    output: Mapped[str | None] = _text("output", id)  # noqa: A003 - the column
    expected: Mapped[str | None] = _text("expected", id)  # noqa: A003 - the column


class TraceWords(Base):
    """What a trace is found by: the words of its texts; see `resolvers/trace_words.py`."""

    __tablename__ = "trace_words"
    __table_args__ = (Index("ix_trace_words_words", "words", postgresql_using="gin"), BY_DAY)

    id: Mapped[Id]
    workspace_id: Mapped[UUID]
    words: Mapped[str] = mapped_column(TSVECTOR)


class UnsearchedTrace(Base):
    """A trace whose words are not looked for yet."""

    __tablename__ = "trace_unsearched"

    workspace_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[Id]


class TraceHour(Base):
    """What the traces of one hour, model and latency come to, as they are stored.

    Once the hour is over, its rows become a few of `TraceSum`; the sums of both are exact.

    Attributes:
        hour: Its beginning, in UTC.
        leaderboard_id: All zeroes for traces of none.
        provider: Empty when it is not known, as `model`.
        bucket: Of latency; see `engine/latency_buckets.py`.
        writer: The process that counts here, so that none waits for another.
        unpriced_count: Traces whose cost is not known.
    """

    __tablename__ = "trace_hour"

    workspace_id: Mapped[UUID] = mapped_column(primary_key=True)
    leaderboard_id: Mapped[UUID] = mapped_column(primary_key=True)
    hour: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    source: Mapped[str] = mapped_column(primary_key=True)
    provider: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    bucket: Mapped[int] = mapped_column(primary_key=True)
    writer: Mapped[UUID] = mapped_column(primary_key=True)
    trace_count: Mapped[Total]
    error_count: Mapped[Total]
    prompt_tokens: Mapped[Total]
    completion_tokens: Mapped[Total]
    cost_usd: Mapped[Usd]
    unpriced_count: Mapped[Total]


class TraceSum(Base):
    """What the traces of a span of time and a model come to, once the span's first hour is over.

    Attributes:
        leaderboard_id: All zeroes for traces of none, all ones for those of the whole workspace.
        begins_at: In UTC.
        buckets: Of latency, ascending; see `engine/latency_buckets.py`.
        bucket_counts: How many traces are in each.
    """

    __tablename__ = "trace_sum"
    __table_args__ = (CheckConstraint("span IN ('hour', 'day')", name="span"),)

    workspace_id: Mapped[UUID] = mapped_column(primary_key=True)
    leaderboard_id: Mapped[UUID] = mapped_column(primary_key=True)
    span: Mapped[str] = mapped_column(primary_key=True)
    begins_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    source: Mapped[str] = mapped_column(primary_key=True)
    provider: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    trace_count: Mapped[Total]
    error_count: Mapped[Total]
    prompt_tokens: Mapped[Total]
    completion_tokens: Mapped[Total]
    cost_usd: Mapped[Usd]
    unpriced_count: Mapped[Total]
    buckets: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    bucket_counts: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
