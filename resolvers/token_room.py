"""Taking room for a call within its token's limits, and telling the caller when there is none."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import ceil
from uuid import UUID

from db.base import new_id
from engine.instants import rfc3339
from engine.money import plain_usd
from resolvers.budgets import ZERO, window_end
from resolvers.context import Context
from resolvers.errors import (
    AppError,
    BudgetExceededError,
    RateLimitedError,
    Standing,
    UnauthenticatedError,
)
from resolvers.meters import Refusal
from resolvers.reservations import Limit, Rate, Reservation, TokenState

REFUSALS: dict[Limit, Refusal] = {
    "budget": Refusal.BUDGET,
    "requests": Refusal.REQUEST_RATE,
    "tokens": Refusal.TOKEN_RATE,
}
# So often it is tried again to find room that calls under way may leave.
ROOM_SECONDS = 0.05


async def reserve(
    ctx: Context,
    amount_usd: Decimal,
    tokens: int,
    *,
    into: list[Reservation],
    seconds: float,
    is_trial: bool = False,
) -> None:
    """Reserve what a call may use of its token's limits.

    Of a busy token, money is lent that is held already. Money that only other calls' holds keep
    from it is waited for: most of it comes back.

    Args:
        ctx: Whose token.
        amount_usd: The most that the call may cost, in US dollars; 0 without a budget.
        tokens: The most that it may send and generate.
        into: What the call has reserved before, to which this is added, also when the caller is
            cancelled meanwhile.
        seconds: After so long without a settlement, the hold is given back.
        is_trial: Another model is asked if there is no room for this one: it is not waited for,
            and nobody is refused.

    Raises:
        BudgetExceededError: The budget has less left.
        RateLimitedError: The token has had its requests or tokens of this minute.
        UnauthenticatedError: The token is gone.
    """
    # What a call needs besides, when another model stands in, is held for it alone.
    may_borrow = amount_usd > 0 and not into and not ctx.principal.limits.has_rates
    if may_borrow and _borrow(ctx, amount_usd, into, seconds):
        return
    give_up_at = time.monotonic() + ctx.services.limits.budget_wait_seconds
    while True:
        asked = _reservation(ctx, amount_usd, 0 if into else 1, tokens, seconds)
        await _decide(ctx, asked, into)
        if asked.state is None:
            raise UnauthenticatedError("the API token was deleted")
        if asked.refused is None:
            if may_borrow:
                ctx.services.leases.note(asked, seconds)
            return
        if is_trial:
            raise _refusal(asked, asked.state)
        ctx.services.leases.close(asked.token_id)
        if time.monotonic() > give_up_at or not _may_wait(asked, asked.state):
            ctx.services.meters.refused(REFUSALS[asked.refused])
            raise _refusal(asked, asked.state)
        await asyncio.sleep(ROOM_SECONDS)


def _reservation(
    ctx: Context, amount_usd: Decimal, requests: int, tokens: int, seconds: float
) -> Reservation:
    return Reservation(
        id=new_id(),
        token_id=_token_id(ctx),
        amount_usd=amount_usd,
        request_count=requests,
        token_count=tokens,
        interval=ctx.principal.limits.budget_interval or "none",
        expires_at=datetime.now(UTC) + timedelta(seconds=seconds),
    )


def _borrow(ctx: Context, amount_usd: Decimal, into: list[Reservation], seconds: float) -> bool:
    """Have money lent for a call, if its token is busy; tell whether it is."""
    lease = ctx.services.leases.lend(_token_id(ctx), amount_usd, seconds)
    if lease is None:
        return False
    hold = lease.hold
    into.append(
        Reservation(
            id=hold.id,
            token_id=hold.token_id,
            amount_usd=amount_usd,
            request_count=0,
            token_count=0,
            interval=hold.interval,
            expires_at=hold.expires_at,
            state=hold.state,
            account=lease.account,
            lease=lease,
        )
    )
    return True


def _token_id(ctx: Context) -> UUID:
    token_id = ctx.principal.token_id
    if token_id is None:
        raise RuntimeError("only tokens have limits")
    return token_id


async def _decide(ctx: Context, asked: Reservation, into: list[Reservation]) -> None:
    decided = await ctx.services.reservations.offer(asked)
    try:
        await asyncio.shield(decided)
    except asyncio.CancelledError:
        # What is held has to be known, to be given back.
        await asyncio.gather(decided, return_exceptions=True)
        raise
    finally:
        if asked.state is not None and asked.refused is None:
            into.append(asked)


def _may_wait(asked: Reservation, state: TokenState) -> bool:
    """Tell whether it is only what other calls hold that keeps this one out."""
    if asked.refused != "budget" or state.limit_usd is None:
        return False
    return asked.amount_usd <= state.limit_usd - state.used_usd


def is_lasting(refusal: AppError) -> bool:
    """Tell whether a call would be refused also if its token had no other under way."""
    told = refusal.details
    if isinstance(refusal, BudgetExceededError):
        return bool(told["needed_usd"] > told["limit_usd"] - told["used_usd"])
    return refusal.retry_after_seconds is None


def _refusal(asked: Reservation, state: TokenState) -> AppError:
    error = _explain(asked, state)
    error.standing = Standing(None, asked.budget(), state)
    return error


def _explain(asked: Reservation, state: TokenState) -> AppError:
    if asked.refused == "budget":
        return _over_budget(asked, state)
    rate = state.requests if asked.refused == "requests" else state.tokens
    if rate is None:
        raise RuntimeError("a limit that is not there refused a call")
    return _over_rate(asked, rate)


def _over_budget(asked: Reservation, state: TokenState) -> BudgetExceededError:
    end = window_end(asked.interval, datetime.now(UTC))
    limit_usd = state.limit_usd or ZERO
    free_usd = max(limit_usd - state.used_usd - state.held_usd, ZERO)
    return BudgetExceededError(
        f"the token's budget of {plain_usd(limit_usd)} USD has {plain_usd(free_usd)} USD free, "
        f"and this call may cost {plain_usd(asked.amount_usd)} USD",
        details={
            "limit_usd": float(limit_usd),
            "used_usd": float(state.used_usd),
            "held_usd": float(state.held_usd),
            "needed_usd": float(asked.amount_usd),
            "reset_at": rfc3339(end) if end else None,
        },
    )


def _over_rate(asked: Reservation, rate: Rate) -> RateLimitedError:
    kind = asked.refused
    wanted = asked.request_count if kind == "requests" else asked.token_count
    seconds = rate.reset_seconds - 60 + wanted * 60 / rate.limit
    never = wanted > rate.limit
    return RateLimitedError(
        f"the token has {rate.left} of its {rate.limit} {kind} a minute left, and this call may "
        f"take {wanted}" + (", which is more than a minute ever has" if never else ""),
        details={"limit": kind, "per_minute": rate.limit, "left": rate.left, "needed": wanted},
        retry_after_seconds=None if never else max(ceil(seconds), 1),
    )
