"""Budgets of API tokens: as they stand, when they begin anew, and what dead servers held."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from sqlalchemy import delete, func, select, update

from db.models import ApiToken, BudgetHold
from db.session import ReadSession
from resolvers.auth import SYSTEM, requires
from resolvers.context import Context

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True, eq=False)
class Budget:
    """A token's budget as it stands; compared by identity, since many calls share one.

    Attributes:
        reset_at: When the next window begins; None for a budget that never resets.
    """

    limit_usd: Decimal
    used_usd: Decimal
    reset_at: datetime | None

    @property
    def remaining_usd(self) -> Decimal:
        """What is left in this window, in US dollars."""
        return max(self.limit_usd - self.used_usd, ZERO)


def window_start(interval: str, now: datetime) -> datetime | None:
    """Return when *now*'s budget window began: UTC midnight, Monday or the first of the month."""
    if interval == "none":
        return None
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if interval == "daily":
        return midnight
    if interval == "weekly":
        return midnight - timedelta(days=midnight.weekday())
    return midnight.replace(day=1)


def window_end(interval: str, now: datetime) -> datetime | None:
    """Return when *now*'s budget window ends, or None when it never does."""
    start = window_start(interval, now)
    if start is None:
        return None
    if interval == "daily":
        return start + timedelta(days=1)
    if interval == "weekly":
        return start + timedelta(days=7)
    return (start + timedelta(days=32)).replace(day=1)


def budget_of(token: ApiToken, now: datetime) -> Budget:
    """Return a token's budget as it stands at *now*, whose window may be a new one."""
    start = window_start(token.budget_reset_interval, now)
    is_over = start is not None and token.budget_window_started_at < start
    return Budget(
        limit_usd=token.budget_limit_usd or ZERO,
        used_usd=ZERO if is_over else token.budget_used_usd,
        reset_at=window_end(token.budget_reset_interval, now),
    )


async def find_budget(session: ReadSession, token_id: UUID) -> Budget | None:
    """Return a token's budget, or None when it has none."""
    token = await session.get(ApiToken, token_id)
    if token is None or token.budget_limit_usd is None:
        return None
    return budget_of(token, datetime.now(UTC))


@requires(SYSTEM)
async def release_expired_holds(ctx: Context) -> int:
    """Give back the holds of servers that died, but for what is spent; return how many there were.

    What was spent of them is charged to their tokens.
    """
    # One that is being settled at this moment is not waited for: it will be gone.
    found = select(BudgetHold.id).where(BudgetHold.expires_at < func.now())
    expired = (
        delete(BudgetHold)
        .where(BudgetHold.id.in_(found.with_for_update(skip_locked=True)))
        .returning(BudgetHold.token_id, BudgetHold.amount_usd, BudgetHold.spent_usd)
    )
    async with ctx.database.write() as session:
        given_back: dict[UUID, Decimal] = defaultdict(Decimal)
        spent: dict[UUID, Decimal] = defaultdict(Decimal)
        rows = (await session.execute(expired)).all()
        for token_id, amount_usd, spent_usd in rows:
            given_back[token_id] += amount_usd
            spent[token_id] += spent_usd
        # In one order everywhere, so that two sweeps can't deadlock.
        for token_id, amount_usd in sorted(given_back.items()):
            await session.execute(
                update(ApiToken)
                .where(ApiToken.id == token_id)
                .values(
                    budget_used_usd=ApiToken.budget_used_usd + spent[token_id],
                    budget_held_usd=ApiToken.budget_held_usd - amount_usd,
                )
            )
    return len(rows)
