"""Rollouts and shadows under live traffic: who serves, what is counted, and the way back."""

import asyncio
import math
from collections import Counter
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from sqlalchemy import select, text, update
from starlette.responses import JSONResponse, Response

from app.services import Process
from db.models import ApiToken, Candidate, Charge, Leaderboard, Rollout, Shadow, Trace
from resolvers.inputs import NewShadow, RolloutSettings
from resolvers.provider_health import CircuitRule
from resolvers.rollout_sums import read_step_sums
from resolvers.rollout_sweep import advance_rollouts
from resolvers.rollouts import start_rollout
from resolvers.shadows import start_shadow
from tests.conftest import LONGEST_WAIT_SECONDS
from tests.factories import Tenant, make_candidate, make_leaderboard, make_ranked_run, make_token
from tests.model_peer import model_peer
from tests.providers.http_peer import Exchange, http_peer

PRICES: dict[str, Any] = {
    "input_price_per_million_usd": Decimal(1),
    "output_price_per_million_usd": Decimal(2),
}
CANARY = "sandbox/careful-large"


async def make_board(
    process: Process, tenant: Tenant, other: str = CANARY
) -> tuple[Leaderboard, Candidate]:
    """Make a leaderboard with a model in production, and another beside it."""
    board = await make_leaderboard(process, tenant.workspace_id)
    first = await make_candidate(process, board, **PRICES)
    second = await make_candidate(process, board, model_id=other, **PRICES)
    await make_ranked_run(process, board, [first, second])
    return board, second


def settings(**given: Any) -> RolloutSettings:
    return RolloutSettings.model_validate(
        {"steps": [0.5, 1], "min_minutes_per_step": 0, "min_requests_per_step": 10, **given}
    )


async def infer(client: httpx2.AsyncClient, board: Leaderboard, **fields: Any) -> httpx2.Response:
    return await client.post(
        f"/v1/leaderboard/{board.id}/inference", json={"input": "What is 2 + 3?", **fields}
    )


async def chosen(client: httpx2.AsyncClient, board: Leaderboard, user: str) -> str:
    answer = await infer(client, board, user=user)
    return str(answer.headers["X-Dr.Gero-Selected-Model"])


async def test_a_user_stays_with_the_model_that_serves_it(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board, canary = await make_board(process, tenant)
    ctx = process.system_context(tenant.workspace_id)
    rollout = await start_rollout(ctx, board.id, canary.id, settings(sticky_by="user"))
    users = [f"user-{number}" for number in range(24)]
    first = {user: await chosen(client, board, user) for user in users}
    assert set(first.values()) == {"sandbox/balanced-medium", CANARY}
    assert {user: await chosen(client, board, user) for user in users} == first
    async with process.database.read() as session:
        control, tried = await read_step_sums(session, rollout.id, 0)
        traces = list(await session.scalars(select(Trace).where(Trace.source == "inference")))
    served = Counter(first.values())
    assert (control.requests, tried.requests) == (
        2 * served["sandbox/balanced-medium"], 2 * served[CANARY],
    )  # fmt: skip
    assert (control.errors, tried.errors) == (0, 0)
    assert {
        (trace.candidate_id == canary.id, trace.trace_metadata["rollout"]["arm"])
        for trace in traces
    } == {(False, "control"), (True, "canary")}


async def test_answers_do_not_depend_on_what_the_rollout_counts(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board, canary = await make_board(process, tenant)
    await start_rollout(
        process.system_context(tenant.workspace_id), board.id, canary.id, settings()
    )
    async with process.database.write() as session:
        # Whatever keeps the sums from being stored, the calls themselves are.
        await session.execute(
            text("ALTER TABLE rollout_arm ADD CONSTRAINT none CHECK (requests < 0) NOT VALID")
        )
    answers = await asyncio.gather(*(infer(client, board) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}
    async with process.database.read() as session:
        charged = list(await session.scalars(select(Charge.id)))
    assert sorted(map(str, charged)) == sorted(each.json()["trace_id"] for each in answers)


async def test_a_canary_that_fails_takes_itself_back_and_says_why(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board, canary = await make_board(process, tenant, "sandbox/fault-401")
    ctx = process.system_context(tenant.workspace_id)
    rollout = await start_rollout(
        ctx, board.id, canary.id, settings(guardrails={"max_error_rate_increase": 0.02})
    )
    row = rollout
    for _ in range(30):
        await asyncio.gather(*(infer(client, board) for _ in range(8)))
        await advance_rollouts(process.system_context())
        async with process.database.read() as session:
            row = await session.get_one(Rollout, rollout.id)
        if row.status != "running":
            break
    assert row.status == "rolled_back"
    assert "error" in (row.reason or "")
    async with process.database.read() as session:
        after = await session.get_one(Leaderboard, board.id)
    assert after.production_candidate_id != canary.id
    async with asyncio.timeout(LONGEST_WAIT_SECONDS):  # the servers hear of it
        while {(await infer(client, board)).status_code for _ in range(12)} != {200}:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("prices", "why"),
    [({}, "price_unknown: what sandbox/careful-large charges is not known"),
     (dict.fromkeys(PRICES, Decimal(1_000_000)), "budget_exceeded: the token's budget of 1.00")],
)  # fmt: skip
async def test_production_serves_whom_the_canary_is_too_dear_for(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, prices: Any, why: str
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    models = [await make_candidate(process, board, **PRICES),
              await make_candidate(process, board, model_id=CANARY, **prices)]  # fmt: skip
    await make_ranked_run(process, board, models)
    ctx = process.system_context(tenant.workspace_id)
    rollout = await start_rollout(ctx, board.id, models[1].id, settings(steps=[0.999999, 1]))
    token = await make_token(process, tenant.workspace_id, budget_limit_usd=Decimal(1))
    client.headers["Authorization"] = f"Bearer {token}"
    assert (await infer(client, board)).status_code == 200
    async with process.database.read() as session:
        trace = (await session.scalars(select(Trace).where(Trace.source == "inference"))).one()
        control, tried = await read_step_sums(session, rollout.id, 0)
        (charge,) = await session.scalars(select(Charge))
    assert (trace.candidate_id, charge.amount_usd) == (models[0].id, trace.cost_usd)
    (failed,) = trace.trace_metadata["failed"]
    assert failed["model"] == CANARY
    assert failed["error"].startswith(why)
    assert (control.requests, tried.requests, tried.errors) == (0, 1, 1)
    # And whoever production is too dear for as well is told so, of production.
    poor = await make_token(process, tenant.workspace_id, budget_limit_usd=Decimal("0.000001"))
    client.headers["Authorization"] = f"Bearer {poor}"
    refused = await infer(client, board)
    assert (refused.status_code, refused.json()["code"]) == (402, "budget_exceeded")
    assert refused.json()["details"]["needed_usd"] < 0.01


async def test_a_canary_waits_for_no_room_that_other_calls_hold(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    dear: Any = dict.fromkeys(PRICES, Decimal(400))
    models = [await make_candidate(process, board, **PRICES),
              await make_candidate(process, board, model_id=CANARY, **dear)]  # fmt: skip
    await make_ranked_run(process, board, models)
    ctx = process.system_context(tenant.workspace_id)
    rollout = await start_rollout(ctx, board.id, models[1].id, settings(steps=[0.999999, 1]))
    token = await make_token(process, tenant.workspace_id, budget_limit_usd=Decimal(1), name="busy")
    async with process.database.write() as session:
        held = update(ApiToken).where(ApiToken.name == "busy")
        await session.execute(held.values(budget_held_usd=Decimal("0.9")))
    client.headers["Authorization"] = f"Bearer {token}"
    assert (await infer(client, board)).status_code == 200
    async with process.database.read() as session:
        trace = (await session.scalars(select(Trace).where(Trace.source == "inference"))).one()
        sums = await read_step_sums(session, rollout.id, 0)
    assert trace.trace_metadata["failed"][0]["model"] == CANARY
    assert [arm.requests for arm in sums] == [0, 0]


async def test_a_canary_that_takes_more_tokens_than_there_are_is_passed_over(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    models = [await make_candidate(process, board, params={"max_tokens": most})
              for most in (50, 5_000)]  # fmt: skip
    await make_ranked_run(process, board, models)
    ctx = process.system_context(tenant.workspace_id)
    rollout = await start_rollout(ctx, board.id, models[1].id, settings(steps=[0.999999, 1]))
    token = await make_token(process, tenant.workspace_id, tokens_per_minute=3_000)
    client.headers["Authorization"] = f"Bearer {token}"
    assert (await infer(client, board)).status_code == 200
    async with process.database.read() as session:
        _, tried = await read_step_sums(session, rollout.id, 0)
    assert (tried.requests, tried.errors) == (1, 1)


async def test_what_fails_costs_nothing_in_either_arm(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    """Only a canary has stand-ins: its failures would weigh otherwise than production's."""

    def refuse_some(_model: str, question: str) -> Response | str:
        if "odd" in question:
            return JSONResponse({"error": {"message": "too odd"}}, status_code=400)
        return question

    async with model_peer(1) as peer:
        peer.answer = refuse_some
        board = await make_leaderboard(process, tenant.workspace_id)
        models = [await make_candidate(process, board, endpoint_url=peer.endpoint(name))
                  for name in ("first", "second")]  # fmt: skip
        await make_ranked_run(process, board, models)
        ctx = process.system_context(tenant.workspace_id)
        rollout = await start_rollout(ctx, board.id, models[1].id, settings(steps=[0.5, 1]))
        for number in range(40):
            asked = "odd" if number % 2 else "even"
            answer = await infer(client, board, input=asked, user=str(number // 2))
            assert answer.status_code == (502 if number % 2 else 200)
        async with process.database.read() as session:
            arms = await read_step_sums(session, rollout.id, 0)
    for arm in arms:
        assert (arm.requests, arm.errors) == (2 * arm.errors, arm.cost_usd.count)
        assert arm.cost_usd.mean == pytest.approx(peer.cost_usd)


PART = b'data: {"choices": [{"index": 0, "delta": {"content": "2 + 3"}}]}\n\n'


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_latency_counts_from_the_first_attempt(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, *, is_streamed: bool
) -> None:
    """A canary that has to be asked twice keeps its callers waiting twice.

    Fewer calls than open its circuit: all of their first attempts may fail in a row.
    """
    seen: set[str] = set()

    async def fail_first(exchange: Exchange) -> None:
        question = exchange.json()["messages"][-1]["content"]
        if question not in seen:
            seen.add(question)
            await exchange.answer(b"{}", "Retry-After: 1", status="503 Busy")
        elif is_streamed:
            part = b'{"choices": [{"delta": {"content": "hello"}, "finish_reason": "stop"}]}'
            await exchange.begin_stream()
            await exchange.send_chunks(b"data: " + part + b"\n\n", b"data: [DONE]\n\n")
            await exchange.end_stream()
        else:
            await exchange.answer(b'{"choices": [{"message": {"content": "hello"}}]}')

    async with http_peer(fail_first) as slow:
        board = await make_leaderboard(process, tenant.workspace_id, system_prompt="{input}")
        first = await make_candidate(process, board, **PRICES)
        canary = await make_candidate(process, board, endpoint_url=f"{slow.url}/v1", **PRICES)
        await make_ranked_run(process, board, [first, canary])
        ctx = process.system_context(tenant.workspace_id)
        steps = settings(sticky_by="trace", steps=[0.999999, 1])
        rollout = await start_rollout(ctx, board.id, canary.id, steps)
        requests = [
            {
                "model": f"leaderboard/{board.id}", "stream": is_streamed,
                "messages": [{"role": "user", "content": f"question {number}"}],
            }
            for number in range(CircuitRule().failures - 1)
        ]  # fmt: skip
        answers = await asyncio.gather(
            *(client.post("/v1/chat/completions", json=each) for each in requests)
        )
    assert {answer.status_code for answer in answers} == {200}
    async with process.database.read() as session:
        _, tried = await read_step_sums(session, rollout.id, 0)
    assert (tried.errors, tried.requests) == (0, len(seen))
    assert tried.log_latency.total / tried.log_latency.count > math.log(1_000)


async def hang(exchange: Exchange) -> None:
    """Answer nothing, or, as a stream, no more than the beginning."""
    if exchange.json().get("stream"):
        await exchange.begin_stream()
        is_mute = "mute" in exchange.json()["messages"][-1]["content"]
        await exchange.send_chunks(PART.replace(b'"content": "2 + 3"', b'"role": "assistant"')
                                   if is_mute else PART)  # fmt: skip
    await exchange.wait_until_left()


async def test_callers_who_leave_a_canary_that_hangs_count(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    async with http_peer(hang) as peer:
        board = await make_leaderboard(process, tenant.workspace_id)
        models = [await make_candidate(process, board, endpoint_url=url)
                  for url in (None, f"{peer.url}/chat/completions")]  # fmt: skip
        await make_ranked_run(process, board, models)
        ctx = process.system_context(tenant.workspace_id)
        rollout = await start_rollout(ctx, board.id, models[1].id, settings(steps=[0.999999, 1]))
        with pytest.raises(httpx2.ReadTimeout):
            await client.post(
                f"/v1/leaderboard/{board.id}/inference", json={"input": "2 + 3?"}, timeout=1.5
            )
        for question, seconds in (("What is 2 + 3?", 0), ("Be mute", 1.2)):
            body = {
                "model": f"leaderboard/{board.id}", "stream": True,
                "messages": [{"role": "user", "content": question}],
            }  # fmt: skip
            async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                parts = answer.aiter_bytes()
                await anext(parts)
                await asyncio.sleep(seconds)
        async with asyncio.timeout(LONGEST_WAIT_SECONDS):
            while True:
                async with process.database.read() as session:
                    _, tried = await read_step_sums(session, rollout.id, 0)
                if tried.requests == 3:
                    break
                await asyncio.sleep(0.02)
    assert (tried.errors, tried.log_latency.count) == (2, 1)


@pytest.mark.parametrize("fallback_models", [0, 2])
async def test_production_stands_in_for_a_canary_that_fails_and_nobody_is_asked_twice(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, fallback_models: int
) -> None:
    serving = {"fallback_models": fallback_models}
    board = await make_leaderboard(process, tenant.workspace_id, serving=serving)
    models = [await make_candidate(process, board, model_id=f"sandbox/fault-{n}", **PRICES)
              for n in (500, 401, 403)]  # fmt: skip
    await make_ranked_run(process, board, models)
    ctx = process.system_context(tenant.workspace_id)
    await start_rollout(ctx, board.id, models[1].id, settings(steps=[0.999999, 1]))
    answer = await infer(client, board)
    assert answer.status_code == 502
    async with process.database.read() as session:
        trace = (await session.scalars(select(Trace).where(Trace.source == "inference"))).one()
    assert trace.trace_metadata["rollout"]["arm"] == "canary"
    asked = [each["model"] for each in trace.trace_metadata["failed"]]
    others = ["sandbox/fault-403"] if fallback_models else []
    assert [*asked, trace.model] == ["sandbox/fault-401", "sandbox/fault-500", *others]


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_challenger_is_asked_besides_and_never_answers(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, *, is_streamed: bool
) -> None:
    board, challenger = await make_board(process, tenant)
    ctx = process.system_context(tenant.workspace_id)
    asked = NewShadow.model_validate(
        {"challenger_id": str(challenger.id), "share": 1, "budget_usd": "1"}
    )
    shadow = await start_shadow(ctx, board.id, asked)
    if is_streamed:
        model = f"leaderboard/{board.id}"
        messages = [{"role": "user", "content": "What is 2 + 3?"}]
        body = {"model": model, "messages": messages, "stream": True}
        answer = await client.post("/v1/chat/completions", json=body)
    else:
        answer = await infer(client, board)
    assert answer.headers["X-Dr.Gero-Selected-Model"] == "sandbox/balanced-medium"
    async with asyncio.timeout(LONGEST_WAIT_SECONDS):
        while True:
            async with process.database.read() as session:
                row = await session.get_one(Shadow, shadow.id, populate_existing=True)
            if row.call_count:
                break
            await asyncio.sleep(0.02)
    async with process.database.read() as session:
        found = await session.scalars(select(Trace).where(Trace.source != "run"))
        traces = {each.source: each for each in found}
        charges = list(await session.scalars(select(Charge)))
    assert traces.keys() == {"inference", "shadow"}
    tried, served = traces["shadow"], traces["inference"]
    assert tried.candidate_id == challenger.id != served.candidate_id
    assert tried.trace_metadata["shadow"] == {"id": str(shadow.id), "trace_id": str(served.id)}
    assert (tried.status, tried.token_id) == ("ok", None)
    assert (row.spent_usd, row.held_usd) == (tried.cost_usd, Decimal(0))
    assert [charge.id for charge in charges] == [served.id]
    counted = {
        source: process.meters.registry.get_sample_value(
            "gero_model_calls_total",
            {"source": source, "provider": "openrouter", "outcome": "ok"},
        )
        for source in ("inference", "shadow")
    }
    assert counted == {"inference": 1, "shadow": 1}
