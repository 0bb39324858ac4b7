"""PostgreSQL goes silent under production: little piles up, and all of it comes back."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from sqlalchemy import func, select

from app.server import create_app
from app.services import Process
from app.serving import listen, serving, url_of
from app.settings import Settings
from db.models import ApiToken, BudgetHold, Charge, Leaderboard, Trace
from resolvers import patience
from tests.conftest import NO_TLS
from tests.database_proxy import DatabaseProxy, database_proxy
from tests.factories import Tenant, make_candidate, make_leaderboard, make_ranked_run, make_token
from tests.model_peer import ModelPeer, model_peer
from tests.providers.http_peer import Exchange, http_peer

MAX_INFERENCES = 20
CALLERS = 100
TIMEOUT_SECONDS = 3
# Those that are refused at once are refused long before anything times out.
AT_ONCE_SECONDS = 1.5
WITHIN_SECONDS = 20
PRICES = {"input_price_per_million_usd": 1, "output_price_per_million_usd": 1}


@pytest.fixture
def setting_overrides() -> dict[str, Any]:
    return {
        "max_inferences": MAX_INFERENCES,
        "database_timeout_seconds": TIMEOUT_SECONDS,
        "idempotency_claim_seconds": TIMEOUT_SECONDS,
    }


@pytest.fixture
async def peer() -> AsyncIterator[ModelPeer]:
    async with model_peer(2) as made:
        yield made


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[DatabaseProxy]:
    async with database_proxy(database_url) as made:
        yield made


@pytest.fixture
async def served(settings: Settings, proxy: DatabaseProxy) -> AsyncIterator[Process]:
    process = Process(settings.model_copy(update={"database_url": proxy.url}))
    yield process
    await process.aclose()


@pytest.fixture
async def board(process: Process, tenant: Tenant, peer: ModelPeer) -> Leaderboard:
    board = await make_leaderboard(process, tenant.workspace_id)
    candidate = await make_candidate(
        process, board, endpoint_url=peer.endpoint("model"), params={"max_tokens": 10}, **PRICES
    )
    await make_ranked_run(process, board, [candidate])
    return board


@pytest.fixture
async def caller(
    settings: Settings, process: Process, served: Process, tenant: Tenant
) -> AsyncIterator[httpx2.AsyncClient]:
    """Yield the client of a token with a budget, at the server whose database goes silent."""
    token = await make_token(
        process, tenant.workspace_id, name="budgeted", budget_limit_usd=Decimal(1)
    )
    listener = listen("127.0.0.1", 0)
    async with (
        serving(create_app(settings, served), listener),
        httpx2.AsyncClient(
            base_url=url_of(listener), headers={"Authorization": f"Bearer {token}"}, timeout=60,
            verify=NO_TLS, limits=httpx2.Limits(max_connections=2 * CALLERS),
        ) as client,
    ):  # fmt: skip
        yield client


async def ask(
    client: httpx2.AsyncClient, board: Leaderboard, key: str | None = None
) -> httpx2.Response:
    return await client.post(
        f"/v1/leaderboard/{board.id}/inference",
        json={"input": "hello"},
        headers={} if key is None else {"Idempotency-Key": key},
    )


def asking(
    client: httpx2.AsyncClient, board: Leaderboard, times: int
) -> list["asyncio.Task[httpx2.Response]"]:
    return [asyncio.create_task(ask(client, board)) for _ in range(times)]


def told(answers: list[httpx2.Response]) -> Counter[tuple[int, str | None]]:
    return Counter((answer.status_code, answer.headers.get("Retry-After")) for answer in answers)


async def check_books(process: Process, count: int) -> None:
    """Check that this many calls are stored and charged, and that nothing stays held."""
    async with process.database.read() as session:
        traces = await session.scalar(
            select(func.count()).select_from(Trace).where(Trace.source == "inference")
        )
        charges = list(await session.scalars(select(Charge.amount_usd)))
    assert (traces, len(charges)) == (count, count)
    async with asyncio.timeout(WITHIN_SECONDS):  # what leases have spent moves by the second
        while (token := await read_token(process)).budget_held_usd:
            await asyncio.sleep(0.05)
    assert token.budget_used_usd == sum(charges)
    async with process.database.read() as session:
        assert await session.scalar(select(func.count()).select_from(BudgetHold)) == 0


async def read_token(process: Process) -> ApiToken:
    async with process.database.read() as session:
        return (await session.scalars(select(ApiToken).where(ApiToken.name == "budgeted"))).one()


async def until_all_wait(peer: ModelPeer) -> None:
    """Wait until the model has as many calls as there may be."""
    async with asyncio.timeout(WITHIN_SECONDS):
        while peer.under_way < MAX_INFERENCES:
            await asyncio.sleep(0.01)


async def warm_up(client: httpx2.AsyncClient, board: Leaderboard) -> int:
    """Have the server remember who asks and who serves; return how many calls that took."""
    for _ in range(5):
        assert (await ask(client, board)).status_code == 200
        await asyncio.sleep(0.1)
    return 5


async def test_answers_are_held_for_a_silent_database_and_stored_once_when_it_speaks(
    caller: httpx2.AsyncClient, board: Leaderboard, peer: ModelPeer, proxy: DatabaseProxy,
    process: Process, served: Process,
) -> None:  # fmt: skip
    before = await warm_up(caller, board)
    peer.open.clear()
    first = asking(caller, board, MAX_INFERENCES)
    await until_all_wait(peer)
    with proxy.silence():
        peer.open.set()
        async with asyncio.timeout(AT_ONCE_SECONDS):
            refused = await asyncio.gather(*asking(caller, board, CALLERS))
        assert told(refused) == {(503, "1"): CALLERS}
        # Longer than a statement may take: it is tried again, on another connection.
        await asyncio.sleep(1.5 * TIMEOUT_SECONDS)
        assert not any(each.done() for each in first)
        assert served.services.admission.count == MAX_INFERENCES
    async with asyncio.timeout(WITHIN_SECONDS):
        answers = await asyncio.gather(*first)
    assert told(answers) == {(200, None): MAX_INFERENCES}
    assert served.services.admission.count == 0
    await check_books(process, before + MAX_INFERENCES)
    assert peer.call_count == before + MAX_INFERENCES


async def test_answers_that_nobody_could_wait_for_any_longer_are_stored_and_charged_once(
    caller: httpx2.AsyncClient, board: Leaderboard, peer: ModelPeer, proxy: DatabaseProxy,
    process: Process, served: Process, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(patience, "LONGEST_OUTAGE_SECONDS", 0)
    before = await warm_up(caller, board)
    peer.open.clear()
    asked = asking(caller, board, MAX_INFERENCES - 1)
    asked += [asyncio.create_task(ask(caller, board, key="paid once"))]
    await until_all_wait(peer)
    with proxy.silence():
        peer.open.set()
        async with asyncio.timeout(WITHIN_SECONDS):
            answers = await asyncio.gather(*asked)
        assert told(answers) == {(503, "1"): MAX_INFERENCES}
        assert served.services.admission.count == MAX_INFERENCES
    async with asyncio.timeout(WITHIN_SECONDS):
        await served.services.admission.until_empty()
    repeat = await ask(caller, board, key="paid once")
    assert repeat.status_code == 200, repeat.text
    await check_books(process, before + MAX_INFERENCES)
    assert peer.call_count == before + MAX_INFERENCES


async def test_no_more_wait_for_a_silent_database_than_may_be_under_way(
    caller: httpx2.AsyncClient, board: Leaderboard, peer: ModelPeer, proxy: DatabaseProxy,
    process: Process, served: Process,
) -> None:  # fmt: skip
    """Nothing is remembered any longer, so that each would have to read who it is that asks."""
    before = await warm_up(caller, board)
    with proxy.silence():
        async with asyncio.timeout(WITHIN_SECONDS):
            while served.changes.is_live():
                await asyncio.sleep(0.01)
        waiting = asking(caller, board, CALLERS)
        async with asyncio.timeout(AT_ONCE_SECONDS):
            while sum(each.done() for each in waiting) < CALLERS - MAX_INFERENCES:
                await asyncio.sleep(0.01)
        at_once = [each.result() for each in waiting if each.done()]
        assert told(at_once) == {(503, "1"): CALLERS - MAX_INFERENCES}
        assert told(await asyncio.gather(*waiting)) == {(503, "1"): CALLERS}
    async with asyncio.timeout(WITHIN_SECONDS):
        while (await ask(caller, board)).status_code != 200:
            await asyncio.sleep(0.1)
    await check_books(process, before + 1)
    assert peer.call_count == before + 1


async def test_a_model_that_failed_is_paid_also_when_the_next_can_not_be_asked(
    caller: httpx2.AsyncClient, tenant: Tenant, peer: ModelPeer, proxy: DatabaseProxy,
    process: Process, served: Process,
) -> None:  # fmt: skip
    """What the next may cost can't be held, for want of a database."""

    async def hang_up(exchange: Exchange) -> None:
        proxy.freeze("gero writer")
        exchange.writer.transport.abort()

    async with http_peer(hang_up) as first:
        board = await make_leaderboard(process, tenant.workspace_id, serving={"fallback_models": 1})
        urls = (f"{first.url}/chat/completions", peer.endpoint("model"))
        candidates = [
            await make_candidate(
                process, board, endpoint_url=url, params={"max_tokens": 10}, **PRICES
            )
            for url in urls
        ]
        await make_ranked_run(process, board, candidates)
        asked = asyncio.create_task(ask(caller, board))
        async with asyncio.timeout(WITHIN_SECONDS):
            while not first.requests:
                await asyncio.sleep(0.01)
        await asyncio.sleep(1.2 * TIMEOUT_SECONDS)
        proxy.thaw("gero writer")
        answer = await asked
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert (peer.call_count, served.services.admission.count) == (0, 0)
    async with process.database.read() as session:
        trace = (await session.scalars(select(Trace).where(Trace.source == "inference"))).one()
        charge = (await session.scalars(select(Charge))).one()
        token = (await session.scalars(select(ApiToken).where(ApiToken.name == "budgeted"))).one()
    assert (trace.status, trace.candidate_id) == ("error", candidates[0].id)
    assert (trace.error or "").startswith("connection_lost: ")
    assert charge.amount_usd > 0
    # What was asked of the database in vain may be held until the sweep.
    assert (charge.id, token.budget_used_usd) == (trace.id, charge.amount_usd)
