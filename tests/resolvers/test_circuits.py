"""Who finds out whether an endpoint that failed works again, when somebody gives up doing so."""

import asyncio

import pytest
from sqlalchemy import select

from app.services import Process
from db.models import ProviderState
from providers.base import ChatTarget, ProviderError, ProviderErrorCode
from resolvers.model_calls import call_model
from resolvers.provider_health import CircuitRule, ProviderHealth
from tests.factories import Tenant
from tests.model_peer import model_peer

OPEN_SECONDS = 0.2
MESSAGES = [{"role": "user", "content": "hello"}]
FAILED = ProviderError(ProviderErrorCode.SERVER_ERROR, "the endpoint answered 500", status=500)


def target_of(url: str, model_id: str | None = None) -> ChatTarget:
    return ChatTarget(
        provider="custom", model_id=model_id, url=url, headers={}, params={}, timeout_seconds=600.0,
        input_price_per_million_usd=None, output_price_per_million_usd=None,
    )  # fmt: skip


async def test_a_probe_that_is_given_up_leaves_the_endpoint_to_the_next_call(
    process: Process, tenant: Tenant
) -> None:
    async with model_peer(1) as peer:
        target = target_of(peer.endpoint("one"))
        health = ProviderHealth(
            process.database,
            process.services.redactors,
            CircuitRule(failures=1, first_open_seconds=OPEN_SECONDS),
        )
        endpoint = health.of(tenant.workspace_id, target, serves=True)
        await endpoint.note(FAILED)
        await asyncio.sleep(OPEN_SECONDS)
        peer.open.clear()
        probe = asyncio.create_task(
            call_model(process.services.chat, target, MESSAGES, {}, retries=0, endpoint=endpoint)
        )
        async with asyncio.timeout(10):
            while not peer.under_way:
                await asyncio.sleep(0.01)
        endpoint.leave()  # as one does who has been calling it since before
        with pytest.raises(ProviderError, match="left alone"):
            await endpoint.wait()
        probe.cancel()
        await asyncio.wait({probe})
        peer.open.set()
        outcome = await call_model(
            process.services.chat, target, MESSAGES, {}, retries=0, endpoint=endpoint
        )
    assert outcome.error is None
    assert health.open_count == 0


async def test_what_others_do_to_an_endpoint_refuses_nobody_who_waits_for_an_answer(
    process: Process, tenant: Tenant
) -> None:
    """Runs, judges and shadows share accounts and gateways with production."""
    url = "https://gateway.example/v1/chat/completions"
    health, other = (
        ProviderHealth(process.database, process.services.redactors, CircuitRule(failures=2))
        for _ in range(2)
    )
    served, shadowed = (target_of(url, name) for name in ("served", "shadowed"))
    for_served = [each.of(tenant.workspace_id, served, serves=True) for each in (health, other)]
    runs = health.of(tenant.workspace_id, served)
    limited = ProviderError(
        ProviderErrorCode.RATE_LIMITED, "too many", status=429, retry_after_seconds=86_400.0
    )
    await runs.note(limited)
    for _ in range(2):
        await runs.note(FAILED)
        await health.of(tenant.workspace_id, shadowed, serves=True).note(FAILED)
    for each in for_served:
        await each.wait()
    with pytest.raises(ProviderError, match="left alone"):
        await runs.wait()
    with pytest.raises(ProviderError, match="left alone"):
        await other.of(tenant.workspace_id, shadowed, serves=True).wait()
    await for_served[0].note(limited)  # which the others heed
    for each in for_served:
        await each.wait()


async def test_of_many_who_are_told_to_wait_one_tells_the_other_processes(
    process: Process, tenant: Tenant
) -> None:
    target = target_of("https://gateway.example/v1/chat/completions", "served")
    health = ProviderHealth(process.database, process.services.redactors)
    limited = ProviderError(
        ProviderErrorCode.RATE_LIMITED, "too many", status=429, retry_after_seconds=30.0
    )
    told = set()
    for _ in range(3):
        await health.note(tenant.workspace_id, target, limited, serves=True)
        async with process.database.read() as session:
            told |= set(await session.scalars(select(ProviderState.updated_at)))
    assert len(told) == 1
