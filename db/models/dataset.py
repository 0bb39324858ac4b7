"""Rows of the dataset aggregate: immutable snapshots and what is in them."""

from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, ForeignKey, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, CreatedAt, Id, Json, JsonList


class DatasetSnapshot(Base):
    """What a leaderboard's dataset held when it was read.

    Attributes:
        number: 1, 2, 3, ... within the leaderboard.
        content_sha256: Over the rows as canonical JSON, one a line, in order.
        size_bytes: Of those lines.
        source_url: Where the rows were read.
    """

    __tablename__ = "dataset_snapshot"
    __table_args__ = (
        UniqueConstraint("leaderboard_id", "number"),
        UniqueConstraint("leaderboard_id", "content_sha256"),
    )

    id: Mapped[Id]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspace.id"))
    leaderboard_id: Mapped[UUID] = mapped_column(ForeignKey("leaderboard.id"))
    number: Mapped[int]
    content_sha256: Mapped[str]
    row_count: Mapped[int]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    source_url: Mapped[str | None]
    created_at: Mapped[CreatedAt]


class DatasetRow(Base):
    """One example of a snapshot.

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
