"""The ceiling of what a run, a labelling job or a rollout's judge may cost, which calls can't pass.

The most that a call may cost is set aside before it is made, and what it did not cost is given
back in the transaction that stores what came of it.
"""

from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal
from typing import TypeAlias
from uuid import UUID

from sqlalchemy import select, update

from db.models import LabelJob, Rollout, Run
from db.session import WriteSession
from engine.money import plain_usd
from resolvers.context import Context
from resolvers.errors import BudgetExceededError

Spender: TypeAlias = Run | LabelJob | Rollout
"""What calls are made for; its row says what they may cost, and what they can have cost."""

ZERO = Decimal(0)
NOUNS = {Run: "run", LabelJob: "job", Rollout: "judge"}


def kind_of(spender: Spender) -> type[Spender]:
    """Return the row class of a spender."""
    return type(spender)


async def commit_cost(ctx: Context, spender: Spender, most_usd: Decimal) -> None:
    """Set the most that a call may cost aside, before it is made.

    Raises:
        BudgetExceededError: That could pass the ceiling.
    """
    kind = kind_of(spender)
    async with ctx.database.write() as session:
        committed = await session.scalar(
            update(kind)
            .where(kind.id == spender.id, kind.committed_usd + most_usd <= kind.max_cost_usd)
            .values(committed_usd=kind.committed_usd + most_usd)
            .returning(kind.id)
        )
        if committed is not None:
            return
        amounts = select(kind.max_cost_usd, kind.committed_usd).where(kind.id == spender.id)
        ceiling_usd, committed_usd = (await session.execute(amounts)).one()
        raise BudgetExceededError(
            f"the {NOUNS[kind]} stopped before its ceiling of "
            f"{plain_usd(ceiling_usd or ZERO)} USD: its calls may have cost "
            f"{plain_usd(committed_usd)} USD, and the next one may cost "
            f"{plain_usd(most_usd)} USD"
        )


async def release_costs(
    session: WriteSession,
    kind: type[Spender],
    released: Sequence[tuple[UUID, Decimal]],
) -> None:
    """Give back what calls did not cost of what was set aside for them, by their spenders' ids."""
    amounts: dict[UUID, Decimal] = defaultdict(Decimal)
    for spender_id, amount_usd in released:
        amounts[spender_id] += amount_usd
    # In one order everywhere, so that two batches can't deadlock.
    for spender_id, amount_usd in sorted(amounts.items()):
        await session.execute(
            update(kind)
            .where(kind.id == spender_id)
            .values(committed_usd=kind.committed_usd - amount_usd)
        )
