"""Rows of the integration aggregate: a workspace's keys at providers."""

from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, CreatedAt, Id


class Integration(Base):
    """One provider key of a workspace.

    Attributes:
        secret_box: The key, encrypted for this row; see `providers/vault.py`.
    """

    __tablename__ = "integration"
    __table_args__ = (
        UniqueConstraint("workspace_id", "provider"),
        CheckConstraint("provider IN ('openrouter', 'huggingface')", name="provider"),
    )

    id: Mapped[Id]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspace.id"))
    provider: Mapped[str]
    secret_box: Mapped[str]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[CreatedAt]
