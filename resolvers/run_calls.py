"""One call of a run, of a candidate or of its judge, within its ceiling if it has one."""

import asyncio
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from db.models import Run
from providers.base import ChatTarget
from resolvers.call_bounds import bound_call
from resolvers.context import Context
from resolvers.model_calls import CallOutcome, CallStoppedError, call_model
from resolvers.run_costs import commit_cost, release_costs

RETRIES = 4
ZERO = Decimal(0)


async def call_for_run(
    ctx: Context,
    run: Run,
    target: ChatTarget,
    messages: Sequence[Mapping[str, Any]],
    params: Mapping[str, Any],
    *,
    stopped: asyncio.Event,
) -> tuple[CallOutcome, Decimal]:
    """Call a model, and return what the call did not cost of what was set aside for it.

    That is released where the outcome is stored. A cost that is not known goes on counting as
    the most that it can be.

    Raises:
        CallStoppedError: *stopped* was set before the model was asked, or asked again.
        BudgetExceededError: The run's ceiling leaves no room for the call.
    """
    endpoint = ctx.services.health.of(run.workspace_id, target, stopped)
    most_usd = ZERO
    if run.max_cost_usd is not None:
        default = ctx.services.limits.default_max_tokens
        bounded = bound_call(target, messages, params, default_max_tokens=default)
        params, most_usd = bounded.params, bounded.most_usd
        await commit_cost(ctx, run.id, most_usd)
    try:
        outcome = await call_model(
            ctx.services.chat,
            target,
            messages,
            params,
            retries=RETRIES,
            stopped=stopped,
            endpoint=endpoint,
        )
    except CallStoppedError:
        if most_usd:  # nothing was generated
            async with ctx.database.write() as session:
                await release_costs(session, [(run.id, most_usd)])
        raise
    if not most_usd or outcome.cost_usd is None:
        return outcome, ZERO
    return outcome, most_usd - outcome.cost_usd
