"""Rows that remember answered requests, so that a repeat is answered alike."""

from uuid import UUID

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, CreatedAt, Instant, Json


class IdempotencyKey(Base):
    """A client's `Idempotency-Key` and the answer it got.

    Attributes:
        fingerprint: SHA-256 of the caller, method, path and body.
        resource_id: The id that the request's new object has, chosen before it is made.
        holder_id: Of the claim that somebody works under, or worked.
        claimed_until: While in the future, somebody is working on the answer.
        answer_status: HTTP status of the answer; None until there is one.
    """

    __tablename__ = "idempotency_key"

    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspace.id"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes]
    resource_id: Mapped[UUID]
    holder_id: Mapped[UUID | None]
    claimed_until: Mapped[Instant]
    answer_status: Mapped[int | None]
    answer_headers: Mapped[Json | None]
    answer_body: Mapped[bytes | None]
    created_at: Mapped[CreatedAt]
