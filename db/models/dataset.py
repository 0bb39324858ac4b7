"""Rows of the dataset aggregate: what was pushed and edited, and immutable snapshots of it."""

from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, CreatedAt, Id, Instant, Json, JsonList


class Dataset(Base):
    """What changes of a leaderboard's dataset; its row is the lock of whoever pushes or edits.

    Attributes:
        last_sequence: The number of the row that was pushed last.
        last_edit: The number of the latest edit.
        consolidated_sequence: The `last_sequence` that the newest snapshot covers.
        consolidated_edit: The `last_edit` that it covers.
        consolidated_at: When it was made, or found to hold what was pushed since.
        day: The UTC day that `day_row_count` counts accepted rows of.
        month: The first day of the UTC month that `month_row_count` counts.
    """

    __tablename__ = "dataset"

    leaderboard_id: Mapped[UUID] = mapped_column(ForeignKey("leaderboard.id"), primary_key=True)
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspace.id"))
    last_sequence: Mapped[int] = mapped_column(BigInteger, server_default="0")
    last_edit: Mapped[int] = mapped_column(BigInteger, server_default="0")
    consolidated_sequence: Mapped[int] = mapped_column(BigInteger, server_default="0")
    consolidated_edit: Mapped[int] = mapped_column(BigInteger, server_default="0")
    consolidated_at: Mapped[Instant | None]
    day: Mapped[date | None]
    day_row_count: Mapped[int] = mapped_column(BigInteger, server_default="0")
    month: Mapped[date | None]
    month_row_count: Mapped[int] = mapped_column(BigInteger, server_default="0")
    created_at: Mapped[CreatedAt]


class PushedRow(Base):
    """An acknowledged row; never changed.

    Attributes:
        sequence: 1, 2, 3, ... within the leaderboard, in the order of commits.
        row_key: Who the row is: the digest of its id, or of its content when it has none.
        content_hash: BLAKE2b-128 of the normalised input and expected output.
        has_id: Whether `row_key` is the digest of its id.
        line: The row as canonical JSON, in UTF-8.
        batch_id: The push that brought it.
    """

    __tablename__ = "pushed_row"
    __table_args__ = (
        UniqueConstraint("leaderboard_id", "row_key"),
        Index("ix_pushed_row_leaderboard_id_content_hash", "leaderboard_id", "content_hash"),
    )

    leaderboard_id: Mapped[UUID] = mapped_column(ForeignKey("leaderboard.id"), primary_key=True)
    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    row_key: Mapped[bytes]
    content_hash: Mapped[bytes]
    has_id: Mapped[bool]
    line: Mapped[bytes]
    batch_id: Mapped[UUID]
    created_at: Mapped[CreatedAt]


class PushBatch(Base):
    """What a push that may be repeated was answered, so that its repeat is answered alike."""

    __tablename__ = "push_batch"

    id: Mapped[Id]
    leaderboard_id: Mapped[UUID] = mapped_column(ForeignKey("leaderboard.id"))
    receipt: Mapped[Json]
    created_at: Mapped[CreatedAt] = mapped_column(index=True)


class PushToken(Base):
    """A credential that pushes rows to one leaderboard, and does nothing else.

    Attributes:
        public_id: The part of the token that may be shown; the lookup key.
        secret_sha256: SHA-256 of the secret part, which itself is never stored.
        last_used_at: When it last pushed, to the minute.
    """

    __tablename__ = "push_token"

    id: Mapped[Id]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspace.id"))
    leaderboard_id: Mapped[UUID] = mapped_column(ForeignKey("leaderboard.id"), index=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    secret_sha256: Mapped[bytes]
    revoked_at: Mapped[Instant | None]
    last_used_at: Mapped[Instant | None]
    created_at: Mapped[CreatedAt]


class DatasetEdit(Base):
    """A change of one field of a row, which the next snapshot carries; never changed itself.

    Attributes:
        number: 1, 2, 3, ... within the leaderboard, in the order of commits.
        row_key: Which row; see `engine.rows.row_key`.
        field: What of it; see `engine.edits`.
        value: What it is to be; null takes the field away.
        origin: Who says so. A model never has the last word where a person spoke.
        provenance: Which model, prompt and run, or what a person gave as the reason.
        user_id: The person, when a session edited.
        token_id: The token that edited.
    """

    __tablename__ = "dataset_edit"
    __table_args__ = (
        CheckConstraint("origin IN ('human', 'model', 'improvement')", name="origin"),
        UniqueConstraint("leaderboard_id", "number"),
        Index("ix_dataset_edit_leaderboard_id_row_key", "leaderboard_id", "row_key"),
    )

    id: Mapped[Id]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspace.id"))
    leaderboard_id: Mapped[UUID] = mapped_column(ForeignKey("leaderboard.id"))
    number: Mapped[int] = mapped_column(BigInteger)
    row_key: Mapped[bytes]
    field: Mapped[str]
    value: Mapped[Any | None] = mapped_column(JSONB(none_as_null=True))
    origin: Mapped[str]
    provenance: Mapped[Json]
    user_id: Mapped[UUID | None]
    token_id: Mapped[UUID | None] = mapped_column(ForeignKey("api_token.id"))
    created_at: Mapped[CreatedAt]


class DatasetSnapshot(Base):
    """What a leaderboard's dataset held at one time; its rows are in object storage.

    Attributes:
        number: 1, 2, 3, ... within the leaderboard.
        content_sha256: Over the rows as canonical JSON, one a line, in order.
        labelled_count: Rows with an expected output.
        size_bytes: Of those lines.
        parent_id: The snapshot before it.
        source_url: Where the rows were read; None when they were pushed.
        source_revision: The commit that the URL's branch stood for.
        last_sequence: The newest pushed row that it covers.
        last_edit: The newest edit that it carries.
        dropped: How many rows it leaves out, by reason.
        blocks: Where its rows are in its object, and their digests; see `engine.snapshot_format`.
            None when the rows are still in `dataset_row` alone.
        index_sha256: Over the object that tells each row's key, arrival and weight.
    """

    __tablename__ = "dataset_snapshot"
    __table_args__ = (UniqueConstraint("leaderboard_id", "number"),)

    id: Mapped[Id]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspace.id"))
    leaderboard_id: Mapped[UUID] = mapped_column(ForeignKey("leaderboard.id"))
    number: Mapped[int]
    content_sha256: Mapped[str]
    row_count: Mapped[int]
    labelled_count: Mapped[int | None] = mapped_column(BigInteger)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    parent_id: Mapped[UUID | None]
    source_url: Mapped[str | None]
    source_revision: Mapped[str | None]
    last_sequence: Mapped[int] = mapped_column(BigInteger, server_default="0")
    last_edit: Mapped[int] = mapped_column(BigInteger, server_default="0")
    dropped: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    blocks: Mapped[bytes | None] = mapped_column(deferred=True)
    index_sha256: Mapped[str | None]
    created_at: Mapped[CreatedAt]


class DatasetRow(Base):
    """One example of a snapshot, which a run has used.

    Attributes:
        position: 0-based place in the snapshot.
        content_hash: BLAKE2b-128 of the normalised input and expected output.
        external_id: The id the source gave the row.
    """

    __tablename__ = "dataset_row"

    snapshot_id: Mapped[UUID] = mapped_column(ForeignKey("dataset_snapshot.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID]
    content_hash: Mapped[bytes]
    external_id: Mapped[str | None]
    input: Mapped[str]
    expected: Mapped[str | None]
    messages: Mapped[JsonList | None]
    rubric: Mapped[str | None]
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text))
    row_metadata: Mapped[Json] = mapped_column("metadata")
