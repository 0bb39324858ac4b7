"""However often a call of production is repeated, the model is asked once, and it is paid once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal

import httpx2
import orjson
import pytest
from sqlalchemy import func, select, text

from app.server import create_app
from app.services import Process
from app.serving import listen, serving, url_of
from app.settings import Settings
from db.models import Charge, IdempotencyKey, Leaderboard, Trace
from resolvers.context import Context
from resolvers.idempotency import (
    Claim,
    StoredAnswer,
    claim_key,
    forget_old_answers,
    keep_answer,
    release_key,
    yield_claim,
)
from tests.conftest import NO_TLS
from tests.database_proxy import database_proxy
from tests.factories import Tenant, make_candidate, make_leaderboard, make_ranked_run
from tests.model_peer import ModelPeer, model_peer
from tests.providers.http_peer import Exchange, http_peer

REPEATS = 50
WITHIN_SECONDS = 10
# Only where a claim is to be lost: a machine under load can lose one that is so short.
SHORT_CLAIMS = pytest.mark.parametrize("setting_overrides", [{"idempotency_claim_seconds": 1}])


@pytest.fixture
async def peer() -> AsyncIterator[ModelPeer]:
    async with model_peer(2) as made:
        yield made


@pytest.fixture
async def board(process: Process, tenant: Tenant, peer: ModelPeer) -> Leaderboard:
    board = await make_leaderboard(process, tenant.workspace_id)
    candidate = await make_candidate(process, board, endpoint_url=peer.endpoint("model"))
    await make_ranked_run(process, board, [candidate])
    return board


@asynccontextmanager
async def server(settings: Settings, tenant: Tenant) -> AsyncIterator[httpx2.AsyncClient]:
    """Serve in a process of its own, and yield a client of it."""
    process = Process(settings)
    listener = listen("127.0.0.1", 0)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(process.aclose)
        await stack.enter_async_context(serving(create_app(settings, process), listener))
        yield await stack.enter_async_context(
            httpx2.AsyncClient(
                base_url=url_of(listener), headers=tenant.headers, timeout=30, verify=NO_TLS,
                limits=httpx2.Limits(max_connections=REPEATS),
            )
        )  # fmt: skip


async def ask(client: httpx2.AsyncClient, board: Leaderboard, text: str) -> httpx2.Response:
    return await client.post(
        f"/v1/leaderboard/{board.id}/inference",
        json={"input": text},
        headers={"Idempotency-Key": "once"},
    )


async def until_asked(peer: ModelPeer, times: int) -> None:
    async with asyncio.timeout(WITHIN_SECONDS):
        while peer.call_count < times:
            await asyncio.sleep(0.01)


async def check_books(process: Process, trace_id: str) -> None:
    """Check that there is one trace, that one, and one charge for it."""
    async with process.database.read() as session:
        traces = list(await session.scalars(select(Trace.id).where(Trace.source == "inference")))
        charges = list(await session.execute(select(Charge.id, Charge.amount_usd)))
    assert [str(each) for each in traces] == [trace_id]
    assert charges == [(traces[0], Decimal("0.001"))]


async def test_fifty_repeats_at_two_servers_ask_the_model_once(
    settings: Settings, process: Process, tenant: Tenant, peer: ModelPeer, board: Leaderboard
) -> None:
    peer.open.clear()
    async with server(settings, tenant) as one, server(settings, tenant) as other:
        asking = [
            asyncio.create_task(ask(client, board, "hello"))
            for client in (one, other)
            for _ in range(REPEATS // 2)
        ]
        await until_asked(peer, 1)
        conflict = await ask(other, board, "something else")
        peer.open.set()
        answers = await asyncio.gather(*asking)
        late = await ask(one, board, "hello")
    assert (conflict.status_code, conflict.json()["code"]) == (409, "idempotency_conflict")
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.content for answer in (*answers, late)} == {answers[0].content}
    replayed = [answer.headers.get("Idempotent-Replayed") for answer in answers]
    assert sorted(map(str, replayed)) == ["None", *["true"] * (REPEATS - 1)]
    assert peer.call_count == 1
    await check_books(process, answers[0].json()["trace_id"])


async def test_fifty_repeats_of_a_call_that_fails_share_its_failure(
    settings: Settings, process: Process, tenant: Tenant
) -> None:
    asked: list[str] = []
    is_awaited = asyncio.Event()

    async def fail(exchange: Exchange) -> None:
        asked.append(exchange.json()["messages"][-1]["content"])
        await is_awaited.wait()
        await exchange.answer(b'{"error": {"message": "no"}}', status="400 Bad")

    async with http_peer(fail) as peer:
        board = await make_leaderboard(process, tenant.workspace_id, system_prompt="{input}")
        candidate = await make_candidate(process, board, endpoint_url=f"{peer.url}/v1")
        await make_ranked_run(process, board, [candidate])
        async with server(settings, tenant) as one, server(settings, tenant) as other:
            asking = [
                asyncio.create_task(ask(client, board, "hello"))
                for client in (one, other)
                for _ in range(REPEATS // 2)
            ]
            async with asyncio.timeout(WITHIN_SECONDS):
                while not asked:
                    await asyncio.sleep(0.01)
            conflict = await ask(other, board, "something else")
            await asyncio.sleep(1)  # all the others look for the first one's answer by then
            is_awaited.set()
            answers = await asyncio.gather(*asking)
            assert asked == ["hello"]
            assert {answer.status_code for answer in answers} == {502}
            assert {answer.content for answer in answers} == {answers[0].content}
            trace_ids = {answer.headers["X-Dr.Gero-Trace-Id"] for answer in answers}
            assert len(trace_ids) == 1
            assert conflict.json()["code"] == "idempotency_conflict"
            async with process.database.write() as writing:  # a day ago
                ago = text("UPDATE idempotency_key SET created_at = created_at - interval '25 h'")
                await writing.execute(ago)
            # A failure is not kept: who comes now tries anew, be it with something else.
            late = await ask(other, board, "hello")
            changed = await ask(one, board, "something else")
    assert asked == ["hello", "hello", "something else"]
    trace_ids |= {answer.headers["X-Dr.Gero-Trace-Id"] for answer in (late, changed)}
    assert len(trace_ids) == 3
    assert "Idempotent-Replayed" not in late.headers
    await forget_old_answers(process.system_context())
    async with process.database.read() as session:
        assert await session.scalar(select(func.count()).select_from(IdempotencyKey)) == 1
    async with process.database.read() as session:
        traces = list(await session.scalars(select(Trace.id).where(Trace.source == "inference")))
    assert {str(each) for each in traces} == trace_ids


@SHORT_CLAIMS
async def test_a_server_whose_claim_was_taken_over_answers_what_was_stored(
    settings: Settings, process: Process, tenant: Tenant, peer: ModelPeer, board: Leaderboard
) -> None:
    """It is alive, but was cut off from the database for longer than a claim lasts."""
    different = iter(["one answer", "another answer"])
    peer.answer = lambda _name, _question: next(different)
    peer.open.clear()
    async with (
        database_proxy(settings.database_url) as proxy,
        server(settings.model_copy(update={"database_url": proxy.url}), tenant) as cut_off,
        server(settings, tenant) as other,
    ):
        first = asyncio.create_task(ask(cut_off, board, "hello"))
        await until_asked(peer, 1)
        proxy.freeze()
        second = asyncio.create_task(ask(other, board, "hello"))
        await until_asked(peer, 2)
        peer.open.set()
        taken_over = await second
        proxy.thaw()
        answered = await first
    assert (taken_over.status_code, answered.status_code) == (200, 200)
    same = ("trace_id", "output", "cost_usd")
    assert [answered.json()[name] for name in same] == [taken_over.json()[name] for name in same]
    assert peer.call_count == 2
    await check_books(process, taken_over.json()["trace_id"])


async def test_a_repeat_is_given_all_of_an_answer_that_could_not_be_kept(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    """The trace has an answer's text, which is nothing where it calls a tool."""
    call = {"id": "c1", "type": "function", "function": {"name": "pay", "arguments": "{}"}}
    choice = {"message": {"content": None, "tool_calls": [call]}, "finish_reason": "tool_calls"}
    asked = 0

    async def call_a_tool(exchange: Exchange) -> None:
        nonlocal asked
        asked += 1
        await exchange.answer(orjson.dumps({"choices": [choice], "cost_usd": 0.001}))

    async with http_peer(call_a_tool) as peer:
        board = await make_leaderboard(process, tenant.workspace_id)
        candidate = await make_candidate(process, board, endpoint_url=f"{peer.url}/v1")
        await make_ranked_run(process, board, [candidate])
        async with process.database.write() as session:
            await session.execute(
                text("ALTER TABLE idempotency_key ADD CONSTRAINT no CHECK (answer_status IS NULL)")
            )
        first = await ask(client, board, "hello")
        async with process.database.write() as session:
            await session.execute(text("ALTER TABLE idempotency_key DROP CONSTRAINT no"))
        async with asyncio.timeout(WITHIN_SECONDS):
            repeat = await ask(client, board, "hello")
    assert (first.status_code, repeat.status_code, asked) == (500, 200, 1)
    (given,) = repeat.json()["choices"]
    assert given == choice
    assert (await ask(client, board, "hello")).json() == repeat.json()
    await check_books(process, repeat.json()["trace_id"])


async def statuses_of(process: Process) -> dict[str, str]:
    async with process.database.read() as session:
        inferences = select(Trace.id, Trace.status).where(Trace.source == "inference")
        return {str(trace_id): status for trace_id, status in await session.execute(inferences)}


async def test_a_repeat_after_its_caller_left_asks_anew(
    settings: Settings, process: Process, tenant: Tenant, peer: ModelPeer, board: Leaderboard
) -> None:
    peer.open.clear()
    async with server(settings, tenant) as client:
        left = asyncio.create_task(ask(client, board, "hello"))
        await until_asked(peer, 1)
        left.cancel()
        await asyncio.wait({left})
        async with asyncio.timeout(WITHIN_SECONDS):
            while not await statuses_of(process):
                await asyncio.sleep(0.01)
        peer.open.set()
        answer = await ask(client, board, "hello")
        again = await ask(client, board, "hello")
    assert (answer.status_code, again.content) == (200, answer.content)
    assert peer.call_count == 2
    statuses = await statuses_of(process)
    assert statuses.pop(answer.json()["trace_id"]) == "ok"
    assert list(statuses.values()) == ["cancelled"]


@SHORT_CLAIMS
async def test_who_has_lost_a_claim_ends_no_other(process: Process, tenant: Tenant) -> None:
    principal = await process.authenticator.authenticate(tenant.token, workspace=None)
    ctx = Context(process.services, principal, "request")
    lost = await claim_key(ctx, "once", b"request")
    assert isinstance(lost, Claim)
    await asyncio.sleep(1.1)  # as if it had been frozen
    held = await claim_key(ctx, "once", b"request")
    assert isinstance(held, Claim)
    assert held.resource_id == lost.resource_id
    await release_key(ctx, lost)
    await yield_claim(ctx, lost)
    waiting = asyncio.ensure_future(claim_key(ctx, "once", b"request"))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    await keep_answer(ctx, held, StoredAnswer(200, {}, b"the answer"))
    await keep_answer(ctx, lost, StoredAnswer(200, {}, b"another"))
    assert await waiting == StoredAnswer(200, {}, b"the answer")
