"""Rows of the API token aggregate: credentials and the money reserved on them."""

from decimal import Decimal
from uuid import UUID

from sqlalchemy import ARRAY, CheckConstraint, ForeignKey, Text
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, CreatedAt, Id, Instant, Usd


class ApiToken(Base):
    """A credential of a workspace, with an optional budget.

    Attributes:
        public_id: The part of the token that may be shown; the lookup key.
        secret_sha256: SHA-256 of the secret part, which itself is never stored.
        scopes: Granted scopes; empty means all of them (tokens of the published product).
        budget_used_usd: Settled spend since `budget_window_started_at`, in US dollars, but for
            what its holds say is spent of them.
        requests_free_at: When all of `requests_per_minute` is free again, and `tokens_free_at` of
            `tokens_per_minute`; see `resolvers/reservations.py`.
        budget_held_usd: The sum of this token's `budget_hold` rows, in US dollars.
    """

    __tablename__ = "api_token"
    __table_args__ = (
        CheckConstraint(
            "budget_reset_interval IN ('none', 'daily', 'weekly', 'monthly')",
            name="budget_reset_interval",
        ),
        CheckConstraint("budget_held_usd >= 0", name="budget_held"),
    )

    id: Mapped[Id]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspace.id"), index=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    secret_sha256: Mapped[bytes]
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    expires_at: Mapped[Instant | None]
    revoked_at: Mapped[Instant | None]
    budget_limit_usd: Mapped[Usd | None]
    budget_reset_interval: Mapped[str] = mapped_column(server_default="none")
    budget_used_usd: Mapped[Usd] = mapped_column(server_default="0", default=Decimal(0))
    budget_held_usd: Mapped[Usd] = mapped_column(server_default="0", default=Decimal(0))
    budget_window_started_at: Mapped[CreatedAt]
    requests_per_minute: Mapped[int | None]
    tokens_per_minute: Mapped[int | None]
    requests_free_at: Mapped[Instant | None]
    tokens_free_at: Mapped[Instant | None]
    created_at: Mapped[CreatedAt]


class BudgetHold(Base):
    """The most that calls now under way may cost, set aside until they are settled.

    Attributes:
        spent_usd: Of a lease, what its calls were charged that is not yet in their token's
            `budget_used_usd`, in US dollars; see `resolvers/budget_leases.py`.
        expires_at: When the hold of a server that died is given back.
    """

    __tablename__ = "budget_hold"

    id: Mapped[Id]
    token_id: Mapped[UUID] = mapped_column(ForeignKey("api_token.id"), index=True)
    amount_usd: Mapped[Usd]
    spent_usd: Mapped[Usd] = mapped_column(server_default="0", default=Decimal(0))
    expires_at: Mapped[Instant] = mapped_column(index=True)
