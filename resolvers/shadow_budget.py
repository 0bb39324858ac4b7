"""What a shadow may spend: held before each call, settled after it, and never passed.

A shadow has a budget of its own, which no caller's token is charged for.
"""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from sqlalchemy import delete, func, insert, literal, select, update

from db.base import new_id
from db.models import Shadow, ShadowHold
from db.session import WriteSession


async def hold_shadow(
    session: WriteSession, shadow_id: UUID, amount_usd: Decimal, *, seconds: int
) -> UUID | None:
    """Set the most that a call may cost aside, in one statement.

    A shadow whose budget could not pay for the call even if every other one were free ends here.

    Args:
        session: The hold lasts once this commits.
        shadow_id: Whose.
        amount_usd: The most that the call may cost, in US dollars.
        seconds: After this long without a settlement the call counts as having cost that.

    Returns:
        The hold, for `settle_shadow`; None when the call must not be made.
    """
    now, hold_id = datetime.now(UTC), new_id()
    held = (
        update(Shadow)
        .where(
            Shadow.id == shadow_id,
            Shadow.status == "running",
            func.coalesce(Shadow.ends_at > now, literal(value=True)),
            Shadow.spent_usd + Shadow.held_usd + amount_usd <= Shadow.budget_usd,
        )
        .values(held_usd=Shadow.held_usd + amount_usd)
        .returning(Shadow.id)
        .cte("held")
    )
    columns = {
        ShadowHold.id: literal(hold_id),
        ShadowHold.shadow_id: held.c.id,
        ShadowHold.amount_usd: literal(amount_usd, ShadowHold.amount_usd.type),
        ShadowHold.expires_at: literal(now + timedelta(seconds=seconds)),
    }
    made = insert(ShadowHold).from_select(list(columns), select(*columns.values()))
    if await session.scalar(made.returning(ShadowHold.id)) is not None:
        return hold_id
    await session.execute(
        update(Shadow)
        .where(
            Shadow.id == shadow_id,
            Shadow.status == "running",
            Shadow.spent_usd + amount_usd > Shadow.budget_usd,
        )
        .values(status="exhausted", reason="its budget is used up", finished_at=now)
    )
    return None


async def settle_shadow(
    session: WriteSession, hold_id: UUID, cost_usd: Decimal | None, *, is_error: bool
) -> None:
    """Charge what a call cost and give its hold back, in the transaction that stores its trace.

    A call of unknown cost is charged its hold. One that outlived its hold was charged then.

    Args:
        session: The caller's.
        hold_id: From `hold_shadow`.
        cost_usd: None when it is not known.
        is_error: Whether the call failed.
    """
    gone = (
        delete(ShadowHold)
        .where(ShadowHold.id == hold_id)
        .returning(ShadowHold.shadow_id, ShadowHold.amount_usd)
        .cte("gone")
    )
    charged = gone.c.amount_usd if cost_usd is None else literal(cost_usd)
    await session.execute(
        update(Shadow)
        .where(Shadow.id == gone.c.shadow_id)
        .values(
            held_usd=Shadow.held_usd - gone.c.amount_usd,
            spent_usd=Shadow.spent_usd + charged,
            call_count=Shadow.call_count + 1,
            error_count=Shadow.error_count + int(is_error),
        )
    )


async def charge_expired_holds(session: WriteSession) -> None:
    """Charge the holds of servers that died: their calls may have been made."""
    expired = (
        select(ShadowHold.id)
        .where(ShadowHold.expires_at < func.clock_timestamp())
        .with_for_update(skip_locked=True)
    )
    gone = (
        delete(ShadowHold)
        .where(ShadowHold.id.in_(expired))
        .returning(ShadowHold.shadow_id, ShadowHold.amount_usd)
        .cte("gone")
    )
    summed = (
        select(gone.c.shadow_id, func.sum(gone.c.amount_usd).label("amount_usd"))
        .group_by(gone.c.shadow_id)
        .cte("summed")
    )
    await session.execute(
        update(Shadow)
        .where(Shadow.id == summed.c.shadow_id)
        .values(
            held_usd=Shadow.held_usd - summed.c.amount_usd,
            spent_usd=Shadow.spent_usd + summed.c.amount_usd,
        )
    )
