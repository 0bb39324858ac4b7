"""Asking a challenger what production was asked: never answered from, and never waited for."""

import asyncio
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from db.base import new_id
from resolvers.call_bounds import bound_call, size_call
from resolvers.errors import AppError, PriceUnknownError
from resolvers.failures import describe, is_outage
from resolvers.meters import CallSource
from resolvers.model_calls import call_model, trace_values
from resolvers.rollout_plan import ShadowPlan
from resolvers.serving import ServingModel
from resolvers.shadow_budget import hold_shadow, settle_shadow

if TYPE_CHECKING:
    from resolvers.serving_calls import ServingCall

log = logging.getLogger("gero.calls")


class ShadowCalls:
    """Asks challengers beside production; what there is no room for is left out.

    Args:
        max_calls: Under way at once.
    """

    def __init__(self, max_calls: int) -> None:
        self._max_calls = max_calls
        self._under_way: set[asyncio.Task[None]] = set()

    def begin(self, call: "ServingCall", plan: ShadowPlan, challenger: ServingModel) -> None:
        """Ask a challenger what *call* asked, if its plan samples that."""
        is_full = len(self._under_way) >= self._max_calls
        if is_full or not plan.samples(call.id, datetime.now(UTC)):
            return
        task = asyncio.create_task(_ask(call, plan, challenger))
        self._under_way.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: "asyncio.Task[None]") -> None:
        self._under_way.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, AppError) or is_outage(error):
            log.warning("a challenger was not asked: %s", describe(error))
        else:
            log.error("a challenger could not be asked", exc_info=error)

    async def aclose(self) -> None:
        """Stop; what was held for calls that are cut off is charged once it expires."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)


async def _ask(call: "ServingCall", plan: ShadowPlan, challenger: ServingModel) -> None:
    services = call.ctx.services
    target, params = challenger.target, call.request.params
    default = services.limits.default_max_tokens
    size = size_call(target, call.messages, params, default_max_tokens=default)
    try:
        bounded = bound_call(target, call.messages, params, size)
    except PriceUnknownError as error:
        log.info("shadow %s leaves a request out: %s", plan.shadow_id, describe(error))
        return
    seconds = int(target.timeout_seconds + services.limits.hold_seconds)
    async with services.database.write() as session:
        hold_id = await hold_shadow(session, plan.shadow_id, bounded.most_usd, seconds=seconds)
    if hold_id is None:
        return
    outcome = await call_model(
        services.chat,
        target,
        call.messages,
        bounded.params,
        retries=0,
        endpoint=challenger.health,
        meter=services.meters.calls(CallSource.SHADOW),
    )
    trace = trace_values(
        new_id(),
        challenger.subject._replace(source="shadow"),
        target,
        outcome,
        input=call.input,
        messages=call.messages,
        metadata=plan.note(call.id),
    )
    storable = await services.traces.prepare([trace])
    async with services.database.write() as session:
        await services.traces.store(session, storable)
        is_error = outcome.error is not None
        await settle_shadow(session, hold_id, outcome.cost_usd, is_error=is_error)
