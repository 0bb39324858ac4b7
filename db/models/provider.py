"""Rows of the provider aggregate: what workers tell each other of those whom they call."""

from uuid import UUID

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, CreatedAt, Instant


class ProviderLease(Base):
    """The calls that one process may have under way at once, of those of all processes.

    Attributes:
        provider: As candidates name it.
        holder: The process.
        slots: What it holds.
        wanted: What it could use.
        expires_at: When they are free again, unless the process has renewed them.
    """

    __tablename__ = "provider_lease"

    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspace.id"), primary_key=True)
    provider: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[UUID] = mapped_column(primary_key=True)
    slots: Mapped[int]
    wanted: Mapped[int]
    expires_at: Mapped[Instant]


class ProviderState(Base):
    """Why nobody calls an endpoint just now.

    Attributes:
        endpoint: `openrouter`, a model of it as `openrouter:<model id>`, or a candidate's URL.
        closed_until: Nobody calls it before.
        failures: How often it failed in a row when its circuit opened last; 0 for one that only
            asked for a pause.
        openings: How often in a row its circuit has opened.
        reason: What it said.
    """

    __tablename__ = "provider_state"

    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspace.id"), primary_key=True)
    endpoint: Mapped[str] = mapped_column(primary_key=True)
    closed_until: Mapped[Instant]
    failures: Mapped[int]
    openings: Mapped[int]
    reason: Mapped[str]
    updated_at: Mapped[CreatedAt]
