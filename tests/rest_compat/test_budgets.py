"""Budgets of tokens: never overspent, told in headers, full again in each window."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx2
import orjson
import pytest
from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import DBAPIError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.services import Process
from app.serving import listen, serving, url_of
from db.base import new_id
from db.models import (
    ApiToken,
    BudgetHold,
    Candidate,
    Charge,
    Leaderboard,
    Trace,
    TraceHour,
)
from resolvers.budgets import release_expired_holds
from resolvers.call_storage import EndedCall
from resolvers.reservations import Reservation
from tests.conftest import ON_OLDEST_TOO
from tests.factories import (
    Tenant,
    make_candidate,
    make_leaderboard,
    make_ranked_run,
    make_token,
    trace_of,
)

PRICES = {
    "input_price_per_million_usd": Decimal("0.8"),
    "output_price_per_million_usd": Decimal(4),
}
HEADER = "X-Dr.Gero-Token-Budget"
CALLERS = 200
# A token for each byte that is sent, 16 for the message's wrapping, and the 50 of max_tokens.
SENT = b'{"max_tokens":50,"messages":[{"content":"Solve: hello","role":"user"}]}'
HELD_FOR_ONE = (Decimal("0.8") * (len(SENT) + 16) + Decimal(4) * 50) / 1_000_000


async def make_serving(
    process: Process, tenant: Tenant, *, endpoint_url: str | None = None, **columns: Any
) -> Leaderboard:
    """Make a leaderboard whose one candidate serves."""
    board = await make_leaderboard(process, tenant.workspace_id)
    columns = {"params": {"max_tokens": 50}, **PRICES, **columns}
    candidate = await make_candidate(process, board, endpoint_url=endpoint_url, **columns)
    await make_ranked_run(process, board, [candidate])
    return board


async def make_budget_token(
    process: Process, tenant: Tenant, limit: str, interval: str = "none"
) -> str:
    return await make_token(
        process, tenant.workspace_id, name="budgeted", budget_limit_usd=Decimal(limit),
        budget_reset_interval=interval,
    )  # fmt: skip


async def budgeted(process: Process) -> ApiToken:
    async with process.database.read() as session:
        return (await session.scalars(select(ApiToken).where(ApiToken.name == "budgeted"))).one()


async def change_token(process: Process, **columns: Any) -> None:
    async with process.database.write() as session:
        await session.execute(update(ApiToken).where(ApiToken.name == "budgeted").values(**columns))


@pytest.fixture
async def ledger(sandbox_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=sandbox_url) as client:
        await client.delete("/stats")
        yield client


async def calls_of(ledger: httpx2.AsyncClient) -> dict[str, int]:
    calls: dict[str, int] = (await ledger.get("/stats")).json()["calls"]
    return calls


async def infer(
    client: httpx2.AsyncClient, board: Leaderboard, token: str, **fields: Any
) -> httpx2.Response:
    return await client.post(
        f"/v1/leaderboard/{board.id}/inference",
        json={"input": "hello", **fields},
        headers={"Authorization": f"Bearer {token}"},
    )


async def watch(process: Process, limit: Decimal) -> None:
    """Look at the token again and again: what is used and held never passes the limit."""
    while True:
        token = await budgeted(process)
        assert token.budget_used_usd + token.budget_held_usd <= limit
        await asyncio.sleep(0.01)


@ON_OLDEST_TOO
async def test_two_hundred_callers_never_overspend_one_token(
    base_url: str, process: Process, tenant: Tenant, sandbox_url: str, ledger: httpx2.AsyncClient
) -> None:
    boards = {
        "ok": await make_serving(process, tenant),
        "fails": await make_serving(
            process, tenant, endpoint_url=f"{sandbox_url}/endpoints/fault-500"
        ),
        "late": await make_serving(
            process, tenant, endpoint_url=f"{sandbox_url}/endpoints/fault-timeout",
            timeout_seconds=1.0,
        ),
    }  # fmt: skip
    limit = Decimal("0.009")
    token = await make_budget_token(process, tenant, str(limit))
    asked = [name for _ in range(CALLERS) for name in boards][:CALLERS]
    watching = asyncio.create_task(watch(process, limit))
    unlimited = httpx2.Limits(max_connections=CALLERS)
    async with httpx2.AsyncClient(base_url=base_url, timeout=60, limits=unlimited) as client:
        answers = await asyncio.gather(*(infer(client, boards[name], token) for name in asked))
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching

    ended = Counter((name, answer.status_code) for name, answer in zip(asked, answers, strict=True))
    refused = sum(count for (_, status), count in ended.items() if status == 402)
    assert refused > 0
    assert set(ended) <= {("ok", 200), ("fails", 502), ("late", 502)} | {
        (name, 402) for name in boards
    }
    called = Counter(await calls_of(ledger))
    assert called["sandbox/balanced-medium"] == ended["ok", 200]
    # Once it has failed often enough, it is left alone.
    assert 10 <= called["endpoints/fault-500"] <= 2 * ended["fails", 502]
    # On a busy machine a call may time out before it has been sent.
    assert called["endpoints/fault-timeout"] <= ended["late", 502]

    after = await budgeted(process)
    async with process.database.read() as session:
        spent = select(Trace.cost_usd).where(Trace.source == "inference")
        costs = list(await session.scalars(spent))
        holds = await session.scalar(select(func.count()).select_from(BudgetHold))
    assert len(costs) == CALLERS - refused
    late = costs.count(None)
    assert 0 < late <= ended["late", 502]
    known = sum((cost for cost in costs if cost is not None), Decimal(0))
    # What a call that timed out cost is not known, so it is charged what was held for it.
    assert after.budget_used_usd == known + HELD_FOR_ONE * late
    assert (after.budget_held_usd, holds) == (Decimal(0), 0)
    assert after.budget_used_usd <= limit


def shown_end(interval: str, now: datetime) -> str:
    """Return when *now*'s window ends, worked out by going forward hour by hour."""
    begins = {
        "daily": lambda at: at.hour == 0,
        "weekly": lambda at: at.hour == 0 and at.weekday() == 0,
        "monthly": lambda at: at.hour == 0 and at.day == 1,
    }
    if interval == "none":
        return "never"
    at = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    while not begins[interval](at):
        at += timedelta(hours=1)
    return f"{at:%Y-%m-%dT%H:%M:%S}.000Z"


@pytest.mark.parametrize("interval", ["none", "daily", "weekly", "monthly"])
async def test_headers_tell_the_budget_and_a_new_window_is_full_again(
    anonymous: httpx2.AsyncClient, process: Process, tenant: Tenant, interval: str
) -> None:
    board = await make_serving(process, tenant)
    token = await make_budget_token(process, tenant, "25", interval)
    before = shown_end(interval, datetime.now(UTC))
    first = await infer(anonymous, board, token)
    second = await infer(anonymous, board, token)
    cost = Decimal(str(first.json()["cost_usd"]))
    assert cost > 0
    for times, answer in ((1, first), (2, second)):
        assert answer.headers[f"{HEADER}-Limit-Usd"] == "25.00"
        assert Decimal(answer.headers[f"{HEADER}-Used-Usd"]) == times * cost
        assert Decimal(answer.headers[f"{HEADER}-Remaining-Usd"]) == 25 - times * cost
        # The day may end while this runs.
        assert answer.headers[f"{HEADER}-Reset-At"] in {
            before, shown_end(interval, datetime.now(UTC))
        }  # fmt: skip

    await change_token(process, budget_used_usd=Decimal(25))
    refused = await infer(anonymous, board, token)
    assert (refused.status_code, refused.json()["code"]) == (402, "budget_exceeded")
    details = refused.json()["details"]
    assert (details["limit_usd"], details["used_usd"], details["held_usd"]) == (25.0, 25.0, 0.0)
    assert details["needed_usd"] == float(HELD_FOR_ONE)
    end = shown_end(interval, datetime.now(UTC))
    assert details["reset_at"] == (None if interval == "none" else end)

    await change_token(process, budget_window_started_at=datetime.now(UTC) - timedelta(days=32))
    renewed = await infer(anonymous, board, token)
    if interval == "none":
        assert renewed.status_code == 402
    else:
        assert Decimal(renewed.headers[f"{HEADER}-Used-Usd"]) == cost


async def test_a_call_over_the_budget_is_sent_nowhere(
    anonymous: httpx2.AsyncClient, process: Process, tenant: Tenant, ledger: httpx2.AsyncClient
) -> None:
    board = await make_serving(process, tenant)
    token = await make_budget_token(process, tenant, str(HELD_FOR_ONE - Decimal("0.000000000001")))
    assert (await infer(anonymous, board, token)).status_code == 402
    assert await calls_of(ledger) == {}
    await change_token(process, budget_limit_usd=HELD_FOR_ONE)
    assert (await infer(anonymous, board, token)).status_code == 200
    assert await calls_of(ledger) == {"sandbox/balanced-medium": 1}


async def hold(
    process: Process, token_id: UUID, amount: str, *, seconds: int, interval: str = "none"
) -> Reservation:
    asked = Reservation(
        new_id(), token_id, Decimal(amount), 1, 0, interval,
        datetime.now(UTC) + timedelta(seconds=seconds),
    )  # fmt: skip
    await (await process.services.reservations.offer(asked))
    assert asked.refused is None
    return asked


async def settle(
    process: Process, board: Leaderboard, candidate: Candidate, held: Reservation, cost: str
) -> EndedCall:
    trace = trace_of(
        board, candidate, datetime.now(UTC), token_id=held.token_id, cost_usd=Decimal(cost),
        cost_source="computed", price_version=1,
    )  # fmt: skip
    ended = EndedCall(trace, Decimal(cost), [held], 0)
    await (await process.services.calls.offer(ended))
    return ended


async def test_the_sweep_gives_back_what_dead_servers_held(
    process: Process, tenant: Tenant
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    candidate = await make_candidate(process, board)
    await make_budget_token(process, tenant, "1")
    token_id = (await budgeted(process)).id
    dead = [await hold(process, token_id, "0.25", seconds=-1) for _ in range(2)]
    alive = await hold(process, token_id, "0.125", seconds=60)
    assert (await budgeted(process)).budget_held_usd == Decimal("0.625")
    assert await release_expired_holds(process.system_context()) == 2
    assert (await budgeted(process)).budget_held_usd == Decimal("0.125")
    assert await release_expired_holds(process.system_context()) == 0
    # A call that outlived its hold is still charged, and gives nothing back twice.
    for held, cost in ((dead[0], "0.2"), (alive, "0.1")):
        await settle(process, board, candidate, held, cost)
    after = await budgeted(process)
    assert (after.budget_used_usd, after.budget_held_usd) == (Decimal("0.3"), Decimal(0))


@pytest.mark.parametrize("interval", ["daily", "weekly", "monthly"])
async def test_a_call_that_ends_in_the_next_window_is_charged_to_it(
    process: Process, tenant: Tenant, interval: str
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    candidate = await make_candidate(process, board)
    await make_budget_token(process, tenant, "1", interval)
    token_id = (await budgeted(process)).id
    held = await hold(process, token_id, "0.5", seconds=60, interval=interval)
    await change_token(
        process, budget_used_usd=Decimal("0.5"),
        budget_window_started_at=datetime.now(UTC) - timedelta(days=32),
    )  # fmt: skip
    budget = (await settle(process, board, candidate, held, "0.25")).budget
    assert budget is not None
    assert (budget.used_usd, budget.remaining_usd) == (Decimal("0.25"), Decimal("0.75"))
    after = await budgeted(process)
    assert (after.budget_used_usd, after.budget_held_usd) == (Decimal("0.25"), Decimal(0))


async def test_a_call_that_is_stored_twice_is_charged_once(
    process: Process, tenant: Tenant
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    candidate = await make_candidate(process, board)
    await make_budget_token(process, tenant, "1")
    held = await hold(process, (await budgeted(process)).id, "0.5", seconds=60)
    ended = await settle(process, board, candidate, held, "0.25")
    await (await process.services.calls.offer(ended))
    after = await budgeted(process)
    assert (after.budget_used_usd, after.budget_held_usd) == (Decimal("0.25"), Decimal(0))
    async with process.database.read() as session:
        assert list(await session.scalars(select(Charge.amount_usd))) == [Decimal("0.25")]
        assert await session.scalar(select(func.sum(TraceHour.trace_count))) == 1


async def test_nothing_is_taken_back_from_the_ledger(process: Process, tenant: Tenant) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    candidate = await make_candidate(process, board)
    await make_budget_token(process, tenant, "1")
    held = await hold(process, (await budgeted(process)).id, "0.5", seconds=60)
    await settle(process, board, candidate, held, "0.25")
    for statement in (update(Charge).values(amount_usd=0), delete(Charge)):
        with pytest.raises(DBAPIError, match="charge is append-only"):
            async with process.database.write() as session:
                await session.execute(statement)


@pytest.fixture
async def greedy_url() -> AsyncIterator[str]:
    """Serve a model that uses all that a request allows, or bills what its path says."""

    async def use_everything(request: Request) -> Response:
        body = await request.body()
        asked = orjson.loads(body)
        most = max(asked.get("max_tokens") or 0, asked.get("max_completion_tokens") or 0)
        usage = {
            "prompt_tokens": len(body),
            "completion_tokens": most * (asked.get("n") or 1),
        }
        message = {"role": "assistant", "content": "x"}
        return JSONResponse({"choices": [{"index": 0, "message": message}], "usage": usage})

    async def bill(request: Request) -> Response:
        return JSONResponse({"output": "x", "cost_usd": float(request.path_params["usd"])})

    app = Starlette(
        routes=[
            Route("/greedy", use_everything, methods=["POST"]),
            Route("/bill/{usd}", bill, methods=["POST"]),
        ]
    )
    listener = listen("127.0.0.1", 0)
    async with serving(app, listener):
        yield url_of(listener)


@pytest.mark.parametrize(
    ("fields", "fits"),
    [
        ({}, True),  # 1,024 tokens are asked for, since nothing else bounds it
        ({"max_tokens": 100}, True),
        ({"max_tokens": None}, True),
        ({"max_tokens": 300, "n": 5}, True),
        ({"max_tokens": 3_000, "n": 128}, False),
        ({"max_tokens": 1, "max_completion_tokens": 1_000}, True),
        ({"max_completion_tokens": 1, "max_tokens": 5_000}, False),
        ({"max_tokens": 1, "response_format": {"schema": "x" * 20_000}}, False),
        ({"max_tokens": 1, "tools": [{"type": "function", "function": {"name": "f"}}]}, True),
    ],
)
async def test_a_model_that_uses_all_that_it_may_never_passes_the_limit(
    anonymous: httpx2.AsyncClient, process: Process, tenant: Tenant, greedy_url: str,
    fields: dict[str, Any], *, fits: bool,
) -> None:  # fmt: skip
    board = await make_serving(process, tenant, endpoint_url=f"{greedy_url}/greedy", params={})
    token = await make_budget_token(process, tenant, "0.0150001")
    statuses = [(await infer(anonymous, board, token, **fields)).status_code for _ in range(30)]
    served = statuses.count(200)
    assert statuses == [200] * served + [402] * (30 - served)
    assert (served > 0) is fits
    spent = (await budgeted(process)).budget_used_usd
    assert (spent > 0) is fits
    assert spent <= Decimal("0.0150001")


async def test_a_call_that_nothing_bounds_is_sent_with_max_tokens_and_fits_a_small_budget(
    anonymous: httpx2.AsyncClient, process: Process, tenant: Tenant, greedy_url: str
) -> None:
    board = await make_serving(process, tenant, endpoint_url=f"{greedy_url}/greedy", params={})
    answer = await infer(anonymous, board, await make_budget_token(process, tenant, "0.005"))
    assert answer.json()["usage"]["completion_tokens"] == 1_024
    free = await infer(anonymous, board, await make_token(process, tenant.workspace_id))
    assert free.json()["usage"]["completion_tokens"] == 0


async def test_a_bill_above_the_hold_is_charged_and_the_next_call_refused(
    anonymous: httpx2.AsyncClient, process: Process, tenant: Tenant, greedy_url: str
) -> None:
    board = await make_serving(process, tenant, endpoint_url=f"{greedy_url}/bill/0.75")
    token = await make_budget_token(process, tenant, "0.5")
    first = await infer(anonymous, board, token)
    assert first.headers[f"{HEADER}-Used-Usd"] == "0.75"
    assert first.headers[f"{HEADER}-Remaining-Usd"] == "0.00"
    refused = await infer(anonymous, board, token, max_tokens=1)
    assert (refused.status_code, refused.json()["details"]["used_usd"]) == (402, 0.75)


async def test_a_402_tells_the_amounts_as_the_headers_do(
    anonymous: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_serving(process, tenant)
    refused = await infer(anonymous, board, await make_budget_token(process, tenant, "0.00015"))
    assert refused.json()["error"] == (
        "the token's budget of 0.00015 USD has 0.00015 USD free, and this call may cost "
        "0.0002696 USD"
    )
    assert refused.json()["details"]["needed_usd"] == float(HELD_FOR_ONE)
    assert refused.headers[f"{HEADER}-Limit-Usd"] == "0.00015"
    assert refused.headers[f"{HEADER}-Used-Usd"] == "0.00"
    assert refused.headers[f"{HEADER}-Remaining-Usd"] == "0.00015"
    assert refused.headers[f"{HEADER}-Reset-At"] == "never"
    assert "X-Dr.Gero-Trace-Id" not in refused.headers


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_of_the_model_tells_its_trace_and_what_is_left(
    anonymous: httpx2.AsyncClient, process: Process, tenant: Tenant, *, stream: bool
) -> None:
    board = await make_serving(process, tenant, model_id="sandbox/fault-401")
    token = await make_budget_token(process, tenant, "25")
    body = {"model": f"leaderboard/{board.id}", "stream": stream, "messages": [
        {"role": "user", "content": "2 + 3"}]}  # fmt: skip
    headers = {"Authorization": f"Bearer {token}"}
    failed = await anonymous.post("/v1/chat/completions", json=body, headers=headers)
    assert failed.status_code == 502
    trace_id = failed.json()["error"]["details"]["trace_id"]
    assert failed.headers["X-Dr.Gero-Trace-Id"] == trace_id
    assert failed.headers[f"{HEADER}-Limit-Usd"] == "25.00"
    assert failed.headers[f"{HEADER}-Remaining-Usd"] == "25.00"
    plain = {"Authorization": f"Bearer {tenant.token}"}
    without = await anonymous.post("/v1/chat/completions", json=body, headers=plain)
    assert without.headers[f"{HEADER}-Remaining-Usd"] == "unlimited"


async def test_a_model_of_unknown_price_is_not_called_on_a_budget(
    anonymous: httpx2.AsyncClient, process: Process, tenant: Tenant, sandbox_url: str,
    ledger: httpx2.AsyncClient,
) -> None:  # fmt: skip
    board = await make_serving(
        process, tenant, endpoint_url=f"{sandbox_url}/endpoints/shape-text",
        input_price_per_million_usd=None,
    )  # fmt: skip
    refused = await infer(anonymous, board, await make_budget_token(process, tenant, "100"))
    assert (refused.status_code, refused.json()["code"]) == (402, "price_unknown")
    assert refused.json()["details"] == {"reason": "price_unknown"}
    assert await calls_of(ledger) == {}
    free = await infer(anonymous, board, await make_token(process, tenant.workspace_id))
    assert free.status_code == 200
