"""Rows of the charge aggregate: the ledger of what serving has cost, and prices as they were."""

from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, CreatedAt, Id, Usd


class Charge(Base):
    """What one inference was charged; rows are only ever added, and PostgreSQL sees to that.

    Attributes:
        id: The call's trace, so that it is charged once.
        source: Who says so: `provider`, `computed` of tokens and prices, or `unknown`, when the
            most that the call could cost was charged to a budget, or nothing without one.
        price_version: Of the candidate's prices; see `CandidatePrice`.
    """

    __tablename__ = "charge"
    __table_args__ = (
        CheckConstraint("source IN ('provider', 'computed', 'unknown')", name="source"),
    )

    id: Mapped[Id]
    workspace_id: Mapped[UUID]
    leaderboard_id: Mapped[UUID]
    candidate_id: Mapped[UUID]
    token_id: Mapped[UUID | None]
    amount_usd: Mapped[Usd]
    source: Mapped[str]
    price_version: Mapped[int]
    created_at: Mapped[CreatedAt]


class CandidatePrice(Base):
    """What a candidate charges from `created_at` on, in US dollars a million tokens.

    Attributes:
        version: From 1.
    """

    __tablename__ = "candidate_price"

    candidate_id: Mapped[UUID] = mapped_column(ForeignKey("candidate.id"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    input_price_per_million_usd: Mapped[Usd | None]
    output_price_per_million_usd: Mapped[Usd | None]
    created_at: Mapped[CreatedAt]
