"""Budgets of API tokens: what is held before a call, and what is settled after it."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import case, delete, func, insert, select, update

from db.base import new_id
from db.models import ApiToken, BudgetHold
from db.session import ReadSession, WriteSession
from engine.instants import rfc3339
from engine.money import plain_usd
from resolvers.auth import SYSTEM, requires
from resolvers.context import Context
from resolvers.errors import BudgetExceededError, NotFoundError

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Budget:
    """A token's budget as it stands.

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


@dataclass(frozen=True, slots=True)
class Hold:
    """Money set aside for one call, in US dollars.

    Attributes:
        reset_interval: The token's, so that settling knows which window it falls into.
    """

    id: UUID
    token_id: UUID
    amount_usd: Decimal
    reset_interval: str


def window_start(interval: str, now: datetime) -> datetime | None:
    """Return when *now*'s budget window began: UTC midnight, Monday or the first of the month."""
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if interval == "daily":
        return midnight
    if interval == "weekly":
        return midnight - timedelta(days=midnight.weekday())
    if interval == "monthly":
        return midnight.replace(day=1)
    return None


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


async def hold_budget(
    session: WriteSession, token_id: UUID, amount_usd: Decimal, *, seconds: int
) -> Hold:
    """Set *amount_usd* of a token's budget aside.

    Concurrent holds queue on the token's row, so their sum never passes the limit.

    Args:
        session: The hold lasts once this commits.
        token_id: A token with a budget.
        amount_usd: The most that the call may cost, in US dollars.
        seconds: After this long without a settlement, the hold is given back.

    Raises:
        BudgetExceededError: Less than *amount_usd* is left.
    """
    now = datetime.now(UTC)
    # A lock on the key as well would wait for every trace of the token that is being stored, and
    # be in a deadlock with those that settle.
    token = await session.scalar(
        select(ApiToken).where(ApiToken.id == token_id).with_for_update(key_share=True)
    )
    if token is None or token.budget_limit_usd is None:
        raise NotFoundError(f"token {token_id} has no budget")
    start = window_start(token.budget_reset_interval, now)
    if start is not None and token.budget_window_started_at < start:
        token.budget_window_started_at, token.budget_used_usd = start, ZERO
    left = token.budget_limit_usd - token.budget_used_usd - token.budget_held_usd
    if amount_usd > left:
        raise _exceeded(token, max(left, ZERO), amount_usd, now)
    token.budget_held_usd += amount_usd
    hold = Hold(new_id(), token_id, amount_usd, token.budget_reset_interval)
    await session.execute(
        insert(BudgetHold).values(
            id=hold.id,
            token_id=token_id,
            amount_usd=amount_usd,
            expires_at=now + timedelta(seconds=seconds),
        )
    )
    return hold


def _exceeded(
    token: ApiToken, left_usd: Decimal, amount_usd: Decimal, now: datetime
) -> BudgetExceededError:
    end = window_end(token.budget_reset_interval, now)
    return BudgetExceededError(
        f"the token's budget of {plain_usd(token.budget_limit_usd or ZERO)} USD has "
        f"{plain_usd(left_usd)} USD free, and this call may cost {plain_usd(amount_usd)} USD",
        details={
            "limit_usd": float(token.budget_limit_usd or ZERO),
            "used_usd": float(token.budget_used_usd),
            "held_usd": float(token.budget_held_usd),
            "needed_usd": float(amount_usd),
            "reset_at": rfc3339(end) if end else None,
        },
    )


async def settle_budget(session: WriteSession, hold: Hold, cost_usd: Decimal | None) -> Budget:
    """Charge a call's cost and give its hold back, in the transaction that stores its trace.

    A call of unknown cost is charged its hold: the budget may be used too
    early, and is never overspent.

    Returns:
        The budget after it.
    """
    now = datetime.now(UTC)
    charged = hold.amount_usd if cost_usd is None else cost_usd
    used = ApiToken.budget_used_usd + charged
    given_back = await session.scalar(
        delete(BudgetHold).where(BudgetHold.id == hold.id).returning(BudgetHold.amount_usd)
    )
    changes: dict[str, Any] = {
        "budget_used_usd": used,
        # Nothing when the call outlived its hold, which was then given back already.
        "budget_held_usd": ApiToken.budget_held_usd - (given_back or ZERO),
    }
    start = window_start(hold.reset_interval, now)
    if start is not None:
        # A call that was held in the last window, and is the first of this one to end.
        is_over = ApiToken.budget_window_started_at < start
        changes["budget_used_usd"] = case((is_over, charged), else_=used)
        changes["budget_window_started_at"] = func.greatest(
            ApiToken.budget_window_started_at, start
        )
    token = await session.scalar(
        update(ApiToken).where(ApiToken.id == hold.token_id).values(changes).returning(ApiToken)
    )
    if token is None:
        raise NotFoundError(f"token {hold.token_id} does not exist")
    return budget_of(token, now)


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
    """Give back the holds of servers that died, and return how many there were."""
    expired = (
        delete(BudgetHold)
        .where(BudgetHold.expires_at < func.now())
        .returning(BudgetHold.token_id, BudgetHold.amount_usd)
    )
    async with ctx.database.write() as session:
        given_back: dict[UUID, Decimal] = defaultdict(Decimal)
        rows = (await session.execute(expired)).all()
        for token_id, amount_usd in rows:
            given_back[token_id] += amount_usd
        # In one order everywhere, so that two sweeps can't deadlock.
        for token_id, amount_usd in sorted(given_back.items()):
            await session.execute(
                update(ApiToken)
                .where(ApiToken.id == token_id)
                .values(budget_held_usd=ApiToken.budget_held_usd - amount_usd)
            )
    return len(rows)
