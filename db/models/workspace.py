"""Rows of the workspace aggregate: the tenant and its people."""

from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, CreatedAt, Id, Json


class Workspace(Base):
    """Owns everything else; the published API calls it a business.

    Attributes:
        trace_retention_days: How long traces are kept; None for as long as the deployment says.
        redaction: What is taken out of traces before they are stored; see
            `resolvers/inputs/redaction.py`.
    """

    __tablename__ = "workspace"

    id: Mapped[Id]
    name: Mapped[str]
    trace_retention_days: Mapped[int | None]
    redaction: Mapped[Json | None]
    created_at: Mapped[CreatedAt]


class Member(Base):
    """A user's role in a workspace.

    Attributes:
        user_id: The `sub` of the user's session token.
    """

    __tablename__ = "member"
    __table_args__ = (CheckConstraint("role IN ('owner', 'admin', 'member')", name="role"),)

    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID] = mapped_column(
        ForeignKey("workspace.id"), primary_key=True, index=True
    )
    role: Mapped[str]
    created_at: Mapped[CreatedAt]
