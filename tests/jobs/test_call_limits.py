"""The limits of calls: how many at once, over all processes, and when an endpoint is left alone."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from time import monotonic
from typing import Any

import httpx2
import pytest
from starlette.responses import JSONResponse, Response

from app.services import Process
from app.serving import working
from app.settings import Settings
from app.worker import create_worker
from providers.base import ChatTarget, ProviderError, ProviderErrorCode
from resolvers.call_gate import CallGate
from resolvers.provider_health import CircuitRule, ProviderHealth
from resolvers.redactors import Redactors
from tests.conftest import await_run
from tests.factories import Tenant
from tests.jobs.conftest import make_board
from tests.jobs.test_run_lifecycle import start
from tests.model_peer import ModelPeer

WIDTH = 8
TARGET = ChatTarget(
    provider="custom",
    model_id=None,
    url="http://127.0.0.1:1/x",
    headers={},
    params={},
    timeout_seconds=1.0,
    input_price_per_million_usd=None,
    output_price_per_million_usd=None,
)
FAILED = ProviderError(ProviderErrorCode.SERVER_ERROR, "the endpoint answered 500", status=500)


async def test_two_workers_together_keep_within_the_limit_and_both_work(
    client: httpx2.AsyncClient, settings: Settings, process: Process, tenant: Tenant,
    peer: ModelPeer,
) -> None:  # fmt: skip
    board, _ = await make_board(process, tenant, peer, "one", "two", "three")
    peer.seconds = 0.015
    other = Process(settings)
    async with working(create_worker(process, settings)), working(create_worker(other, settings)):
        run = await await_run(client, board.id, await start(client, board.id))
    await other.aclose()
    assert run["status"] == "completed"
    assert peer.most_at_once <= WIDTH
    assert set(peer.calls.values()) == {1}


class Gauge:
    """How many are inside several gates, and the most there ever were."""

    def __init__(self) -> None:
        self.inside: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self.most_together = 0

    @contextmanager
    def count(self, name: str) -> Iterator[None]:
        self.inside[name] = self.inside.get(name, 0) + 1
        self.most[name] = max(self.most.get(name, 0), self.inside[name])
        self.most_together = max(self.most_together, sum(self.inside.values()))
        try:
            yield
        finally:
            self.inside[name] -= 1


async def test_gates_of_two_processes_share_the_limit_and_take_turns(
    process: Process, settings: Settings, tenant: Tenant
) -> None:
    other = Process(settings)
    gates = {
        "one": CallGate(process.database, WIDTH, lease_seconds=1),
        "two": CallGate(other.database, WIDTH, lease_seconds=1),
    }
    gauge = Gauge()

    async def call(name: str) -> None:
        async with gates[name].of(tenant.workspace_id, "custom"):
            with gauge.count(name):
                await asyncio.sleep(0.05)

    async def call_many(name: str, count: int) -> None:
        async with asyncio.TaskGroup() as calls:
            for _ in range(count):
                calls.create_task(call(name))

    first = asyncio.create_task(call_many("one", 200))
    while gauge.most.get("one", 0) < WIDTH:
        await asyncio.sleep(0.01)
    await call_many("two", 24)
    assert not first.done()  # the late one did not have to wait for the early one's end
    await first
    await other.aclose()
    assert gauge.most_together <= WIDTH
    assert gauge.most == {"one": WIDTH, "two": WIDTH // 2}


async def test_a_call_that_is_given_up_leaves_its_place_to_others(
    process: Process, tenant: Tenant
) -> None:
    gate = CallGate(process.database, 1)
    held = asyncio.Event()

    async def hold() -> None:
        async with gate.of(tenant.workspace_id, "custom"):
            held.set()
            await asyncio.sleep(60)

    holder = asyncio.create_task(hold())
    await held.wait()
    waiter = asyncio.create_task(hold())
    await asyncio.sleep(0.05)
    waiter.cancel()
    holder.cancel()
    await asyncio.gather(waiter, holder, return_exceptions=True)
    async with asyncio.timeout(5), gate.of(tenant.workspace_id, "custom"):
        pass


async def test_a_retry_after_is_heeded_by_all_callers_and_all_processes(
    process: Process, settings: Settings, tenant: Tenant
) -> None:
    here, there = (
        ProviderHealth(process.database, process.services.redactors),
        ProviderHealth(process.database, process.services.redactors),
    )
    limited = ProviderError(
        ProviderErrorCode.RATE_LIMITED, "too many", status=429, retry_after_seconds=1.5,
        is_retryable=True,
    )  # fmt: skip
    began = monotonic()
    await here.note(tenant.workspace_id, TARGET, limited)
    await asyncio.gather(
        here.wait(tenant.workspace_id, TARGET), there.wait(tenant.workspace_id, TARGET)
    )
    assert monotonic() - began >= 1.4
    other = ChatTarget(**{**_fields(TARGET), "url": "http://127.0.0.1:1/y"})
    async with asyncio.timeout(1):
        await here.wait(tenant.workspace_id, other)


def _fields(target: ChatTarget) -> dict[str, Any]:
    return {name: getattr(target, name) for name in ChatTarget.__slots__}


async def test_a_circuit_opens_after_failures_in_a_row_and_one_success_closes_it(
    process: Process, tenant: Tenant
) -> None:
    rule = CircuitRule(first_open_seconds=0.3)
    health, workspace_id = (
        ProviderHealth(process.database, process.services.redactors, rule),
        tenant.workspace_id,
    )
    for _ in range(9):
        await health.note(workspace_id, TARGET, FAILED)
    await health.note(workspace_id, TARGET, None)
    for _ in range(9):
        await health.note(workspace_id, TARGET, FAILED)
    async with asyncio.timeout(0.2):
        await health.wait(workspace_id, TARGET)
    began = monotonic()
    await health.note(workspace_id, TARGET, FAILED)
    first = asyncio.create_task(health.wait(workspace_id, TARGET))
    second = asyncio.create_task(health.wait(workspace_id, TARGET))
    done, waiting = await asyncio.wait({first, second}, return_when=asyncio.FIRST_COMPLETED)
    assert monotonic() - began >= 0.3
    await asyncio.sleep(0.2)
    assert (len(done), len([task for task in waiting if not task.done()])) == (1, 1)
    await health.note(workspace_id, TARGET, None)  # the one that went first has succeeded
    await asyncio.wait_for(asyncio.gather(first, second), 2)


async def test_a_circuit_that_stays_open_fails_calls_at_once_and_says_so(
    process: Process, tenant: Tenant
) -> None:
    health = ProviderHealth(
        process.database, process.services.redactors, CircuitRule(first_open_seconds=0.3)
    )
    workspace_id = tenant.workspace_id
    for _ in range(10):
        await health.note(workspace_id, TARGET, FAILED)
    await health.wait(workspace_id, TARGET)
    await health.note(workspace_id, TARGET, FAILED)
    await health.wait(workspace_id, TARGET)
    await health.note(workspace_id, TARGET, FAILED)
    said = r"it failed 12 times in a row \(server_error: the endpoint answered 500\), and is asked"
    with pytest.raises(ProviderError, match=said):
        await health.wait(workspace_id, TARGET)
    with pytest.raises(ProviderError, match=said):
        await ProviderHealth(process.database, process.services.redactors).wait(
            workspace_id, TARGET
        )


async def test_a_run_waits_for_an_endpoint_that_asks_for_a_pause(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant, peer: ModelPeer
) -> None:
    refusals = 3

    def limited(_name: str, question: str) -> Response | str:
        nonlocal refusals
        if refusals:
            refusals -= 1
            return JSONResponse({}, 429, headers={"Retry-After": "1"})
        return question

    peer.answer = limited
    board, _ = await make_board(process, tenant, peer, "one")
    run = await await_run(client, board.id, await start(client, board.id))
    assert (run["status"], run["progress"]["failed"]) == ("completed", 0)
    assert run["ranking"]["entries"][0]["score"] == 1.0
    assert peer.call_count == len(peer.rows) + 3


async def test_a_broken_candidate_s_circuit_opens_and_the_others_are_ranked(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant, peer: ModelPeer
) -> None:
    rule = CircuitRule(first_open_seconds=0.1, patient_openings=2, longest_open_seconds=60.0)
    health = ProviderHealth(process.background_database, process.services.redactors, rule)
    process.services = replace(process.services, health=health)

    def answer(name: str, question: str) -> Response | str:
        return JSONResponse({}, 500) if name == "broken" else question

    peer.answer = answer
    peer.rows = peer.rows[:40]
    board, _ = await make_board(process, tenant, peer, "broken", "fine")
    run = await await_run(client, board.id, await start(client, board.id))
    best, worst = run["ranking"]["entries"]
    assert (best["score"], worst["score"], worst["error_count"]) == (1.0, 0.0, len(peer.rows))
    asked = sum(count for (name, _), count in peer.calls.items() if name == "broken")
    assert asked < 2 * len(peer.rows)


async def test_the_log_of_a_circuit_holds_no_query_and_nothing_of_what_was_answered(
    process: Process, tenant: Tenant, caplog: pytest.LogCaptureFixture
) -> None:
    redactors = Redactors(process.database, process.changes)
    health = ProviderHealth(process.database, redactors, CircuitRule(failures=1))
    target = replace(TARGET, url="http://127.0.0.1:1/x?key=a-secret#a-secret")
    said = "the endpoint answered an error: can't say a-secret"
    await health.note(
        tenant.workspace_id, target, ProviderError(ProviderErrorCode.SERVER_ERROR, said)
    )
    await health.note(tenant.workspace_id, target, None)
    assert [each.getMessage() for each in caplog.records if each.name == "gero.calls"] == [
        (
            "the circuit of http://127.0.0.1:1/x is open for 5 s: it failed 1 times in a row, at "
            "last with server_error"
        ),
        "http://127.0.0.1:1/x answers again",
    ]
