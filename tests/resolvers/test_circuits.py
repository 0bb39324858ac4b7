"""Who finds out whether an endpoint that failed works again, when somebody gives up doing so."""

import asyncio

import pytest

from app.services import Process
from providers.base import ChatTarget, ProviderError, ProviderErrorCode
from resolvers.model_calls import call_model
from resolvers.provider_health import CircuitRule, ProviderHealth
from tests.factories import Tenant
from tests.model_peer import model_peer

OPEN_SECONDS = 0.2
MESSAGES = [{"role": "user", "content": "hello"}]
FAILED = ProviderError(ProviderErrorCode.SERVER_ERROR, "the endpoint answered 500", status=500)


async def test_a_probe_that_is_given_up_leaves_the_endpoint_to_the_next_call(
    process: Process, tenant: Tenant
) -> None:
    async with model_peer(1) as peer:
        target = ChatTarget(
            provider="custom", model_id=None, url=peer.endpoint("one"), headers={}, params={},
            timeout_seconds=600.0, input_price_per_million_usd=None,
            output_price_per_million_usd=None,
        )  # fmt: skip
        health = ProviderHealth(
            process.database,
            process.services.redactors,
            CircuitRule(failures=1, first_open_seconds=OPEN_SECONDS),
        )
        endpoint = health.of(tenant.workspace_id, target, is_patient=False)
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
