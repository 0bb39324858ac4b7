"""What a shadow may spend: the most that a call may cost is held before it, and settled after it.

A shadow has a budget of its own, which no caller's token is charged for. It is passed only where a
provider says that a call cost more than was held, as with tokens' budgets.
"""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from sqlalchemy import Update, delete, func, insert, literal, or_, select, update

from db.base import new_id
from db.models import Shadow, ShadowHold
from db.session import WriteSession

# None of the sizes of calls that it has made has room any more, whatever others give back.
_IS_USED_UP = or_(
    Shadow.spent_usd >= Shadow.budget_usd,
    Shadow.spent_usd + Shadow.smallest_hold_usd > Shadow.budget_usd,
)


async def hold_shadow(
    session: WriteSession, shadow_id: UUID, amount_usd: Decimal, *, seconds: int
) -> UUID | None:
    """Set the most that a call may cost aside, in one statement.

    A request that the budget has no room for is left out: smaller ones may have it.

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
        .values(
            held_usd=Shadow.held_usd + amount_usd,
            smallest_hold_usd=func.least(Shadow.smallest_hold_usd, amount_usd),
        )
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
    return await session.scalar(made.returning(ShadowHold.id))


async def settle_shadow(
    session: WriteSession, hold_id: UUID, cost_usd: Decimal | None, *, is_error: bool
) -> None:
    """Charge what a call cost and give its hold back, in the transaction that stores its trace.

    A shadow whose budget is used up ends here. A call of unknown cost is charged its hold. One that
    outlived its hold was charged then.

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
    settled = (
        update(Shadow)
        .where(Shadow.id == gone.c.shadow_id)
        .values(
            held_usd=Shadow.held_usd - gone.c.amount_usd,
            spent_usd=Shadow.spent_usd + charged,
            call_count=Shadow.call_count + 1,
            error_count=Shadow.error_count + int(is_error),
        )
    )
    await _end_used_up(session, settled)


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
    settled = (
        update(Shadow)
        .where(Shadow.id == summed.c.shadow_id)
        .values(
            held_usd=Shadow.held_usd - summed.c.amount_usd,
            spent_usd=Shadow.spent_usd + summed.c.amount_usd,
        )
    )
    await _end_used_up(session, settled)


async def _end_used_up(session: WriteSession, settled: Update) -> None:
    """Settle, and end the shadows whose budget that uses up: servers hear of no more than that."""
    returning = settled.returning(Shadow.id, _IS_USED_UP.label("is_used_up"))
    rows = await session.execute(returning, execution_options={"synchronize_session": False})
    ended = [row.id for row in rows if row.is_used_up]
    if ended:
        await session.execute(
            update(Shadow)
            .where(Shadow.id.in_(ended), Shadow.status == "running")
            .values(
                status="exhausted", reason="its budget is used up", finished_at=datetime.now(UTC)
            )
        )
