"""One call of a run, a labelling job or a rollout's judge, within its ceiling if it has one."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

from providers.base import ChatTarget
from resolvers.call_bounds import bound_call, size_call
from resolvers.ceilings import ZERO, Spender, commit_cost, kind_of, release_costs
from resolvers.context import Context
from resolvers.errors import BudgetExceededError
from resolvers.meters import CallSource, Refusal
from resolvers.model_calls import CallOutcome, CallStoppedError, call_model

RETRIES = 4
# So often it is tried again to find room under a ceiling.
ROOM_SECONDS = 0.1


@asynccontextmanager
async def call_for(
    ctx: Context,
    spender: Spender,
    target: ChatTarget,
    messages: Sequence[Mapping[str, Any]],
    params: Mapping[str, Any],
    *,
    source: CallSource,
    stopped: asyncio.Event,
) -> AsyncIterator[tuple[CallOutcome, Decimal]]:
    """Call a model, and yield what came of it and what it did not cost of what was set aside.

    The caller stores both within the block. A cost that is not known goes on counting as the most
    that it can be.

    Raises:
        CallStoppedError: *stopped* was set before the model was asked, or asked again.
        BudgetExceededError: The spender's ceiling leaves no room for the call.
    """
    if spender.max_cost_usd is None:
        yield await _call(ctx, spender, target, messages, params, source, stopped), ZERO
        return
    default = ctx.services.limits.default_max_tokens
    size = size_call(target, messages, params, default_max_tokens=default)
    bounded = bound_call(target, messages, params, size)
    await _set_aside(ctx, spender, bounded.most_usd, stopped)
    with ctx.services.runs_under_way.one_more(spender.id):
        try:
            outcome = await _call(ctx, spender, target, messages, bounded.params, source, stopped)
        except CallStoppedError:
            async with ctx.database.write() as session:  # nothing was generated
                await release_costs(session, kind_of(spender), [(spender.id, bounded.most_usd)])
            raise
        cost_usd = outcome.cost_usd
        yield outcome, ZERO if cost_usd is None else bounded.most_usd - cost_usd


async def _call(
    ctx: Context,
    spender: Spender,
    target: ChatTarget,
    messages: Sequence[Mapping[str, Any]],
    params: Mapping[str, Any],
    source: CallSource,
    stopped: asyncio.Event,
) -> CallOutcome:
    return await call_model(
        ctx.services.chat,
        target,
        messages,
        params,
        retries=RETRIES,
        stopped=stopped,
        endpoint=ctx.services.health.of(spender.workspace_id, target, stopped),
        meter=ctx.services.meters.calls(source),
    )


async def _set_aside(
    ctx: Context, spender: Spender, most_usd: Decimal, stopped: asyncio.Event
) -> None:
    """Set the most that a call may cost aside, once there is room for it.

    What calls under way do not cost comes back when they are stored.

    Raises:
        BudgetExceededError: There is no room, and no call under way here that can make any.
        CallStoppedError: *stopped* was set meanwhile.
    """
    while True:
        others = ctx.services.runs_under_way.count(spender.id)
        try:
            await commit_cost(ctx, spender, most_usd)
        except BudgetExceededError:
            if not others:
                ctx.services.meters.refused(Refusal.CEILING)
                raise
        else:
            return
        await asyncio.sleep(ROOM_SECONDS)
        if stopped.is_set():
            raise CallStoppedError
