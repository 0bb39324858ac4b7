"""Production as OpenAI's own Python SDK calls it: whole, in parts, and as it fails."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import httpx2
import openai
import orjson
import pytest
from sqlalchemy import select
from starlette.responses import JSONResponse

from app.services import Process
from db.models import (
    ApiToken,
    BudgetHold,
    Candidate,
    Charge,
    Leaderboard,
    ProviderState,
    Trace,
)
from tests.factories import Tenant, make_candidate, make_leaderboard, make_ranked_run, make_token
from tests.faulty_model import faulty_model
from tests.model_peer import model_peer
from tests.providers.http_peer import Exchange, http_peer

PRICES = {
    "input_price_per_million_usd": Decimal("0.8"),
    "output_price_per_million_usd": Decimal(4),
}
SUM: Any = [{"role": "user", "content": "What is 2 + 3?"}]
MODEL = "leaderboard/sums"
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
WITHIN_SECONDS = 10


async def serve(
    process: Process, tenant: Tenant, *models: dict[str, Any], **columns: Any
) -> tuple[Leaderboard, list[Candidate]]:
    """Make a leaderboard whose models are ranked in this order, and the first serves."""
    board = await make_leaderboard(process, tenant.workspace_id, slug="sums", **columns)
    candidates = [await make_candidate(process, board, **{**PRICES, **each}) for each in models]
    await make_ranked_run(process, board, candidates)
    return board, candidates


async def the_trace(process: Process) -> Trace:
    """Return the one trace of an inference, once it is stored."""
    async with asyncio.timeout(WITHIN_SECONDS):
        while True:
            async with process.database.read() as session:
                found = list(
                    await session.scalars(select(Trace).where(Trace.source == "inference"))
                )
            if found:
                (trace,) = found
                return trace
            await asyncio.sleep(0.02)


async def the_charge(process: Process) -> Charge:
    async with process.database.read() as session:
        return (await session.scalars(select(Charge))).one()


async def read_into(parts: list[str], stream: Any) -> None:
    async for chunk in stream:
        parts.append(chunk.choices[0].delta.content or "")  # noqa: PERF401 - kept when it breaks off


@pytest.fixture
async def sdk(base_url: str, tenant: Tenant) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{base_url}/v1", api_key=tenant.token, max_retries=0
    ) as client:
        yield client


async def test_leaderboards_with_a_model_in_production_are_models(
    sdk: openai.AsyncOpenAI, process: Process, tenant: Tenant
) -> None:
    await make_leaderboard(process, tenant.workspace_id, slug="not-ranked")
    await serve(process, tenant, {})
    assert [model.id async for model in sdk.models.list()] == [MODEL]
    assert (await sdk.models.retrieve(MODEL)).object == "model"
    with pytest.raises(openai.NotFoundError):
        await sdk.models.retrieve("leaderboard/not-ranked")


async def test_a_whole_answer_by_slug_and_by_id_is_traced_and_charged(
    sdk: openai.AsyncOpenAI, process: Process, tenant: Tenant
) -> None:
    board, (candidate,) = await serve(process, tenant, {})
    answer = await sdk.chat.completions.with_raw_response.create(
        model=MODEL, messages=SUM, user="u-1", temperature=0
    )
    completion = answer.parse()
    assert "5" in (completion.choices[0].message.content or "")
    trace = await the_trace(process)
    assert answer.headers["X-Dr.Gero-Trace-Id"] == str(trace.id)
    assert completion.usage is not None
    assert (trace.prompt_tokens, trace.completion_tokens) == (
        completion.usage.prompt_tokens, completion.usage.completion_tokens,
    )  # fmt: skip
    assert (trace.status, trace.candidate_id, trace.price_version) == ("ok", candidate.id, 1)
    assert (trace.input, trace.trace_metadata["user"]) == ("What is 2 + 3?", "u-1")
    charge = await the_charge(process)
    assert (charge.id, charge.amount_usd, charge.source) == (trace.id, trace.cost_usd, "provider")
    by_id = await sdk.chat.completions.create(model=f"leaderboard/{board.id}", messages=SUM)
    assert by_id.choices[0].message.content == completion.choices[0].message.content


async def test_the_blocking_client_asks_and_streams_as_well(
    base_url: str, process: Process, tenant: Tenant
) -> None:
    await serve(process, tenant, {})

    def ask() -> tuple[str | None, list[str]]:
        with openai.OpenAI(base_url=f"{base_url}/v1", api_key=tenant.token, max_retries=0) as sdk:
            whole = sdk.chat.completions.create(model=MODEL, messages=SUM)
            stream = sdk.chat.completions.create(model=MODEL, messages=SUM, stream=True)
            parts = [chunk.choices[0].delta.content or "" for chunk in stream]
        return whole.choices[0].message.content, parts

    whole, parts = await asyncio.to_thread(ask)
    assert "".join(parts) == whole
    assert len(parts) > 2


async def test_a_stream_ends_with_its_usage_once_it_is_stored(
    sdk: openai.AsyncOpenAI, process: Process, tenant: Tenant
) -> None:
    await serve(process, tenant, {})
    stream = await sdk.chat.completions.create(
        model=MODEL, messages=SUM, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    async with process.database.read() as session:  # at once: it was stored before the end
        trace = (await session.scalars(select(Trace).where(Trace.source == "inference"))).one()
    last = chunks[-1]
    assert (last.choices, [chunk.usage for chunk in chunks[:-1]]) == ([], [None] * len(chunks[:-1]))
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (
        trace.prompt_tokens, trace.completion_tokens,
    )  # fmt: skip
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
    assert trace.output == text
    assert trace.first_byte_ms is not None
    assert trace.first_byte_ms <= trace.latency_ms
    assert (trace.status, (await the_charge(process)).amount_usd) == ("ok", trace.cost_usd)


async def test_tools_structured_outputs_and_images_pass_through(
    sdk: openai.AsyncOpenAI, process: Process, tenant: Tenant
) -> None:
    await serve(process, tenant, {})
    ask: Any = [{"role": "user", "content": 'Call get_weather with {"city": "Oslo"}.'}]
    called = await sdk.chat.completions.create(model=MODEL, messages=ask, tools=[WEATHER])
    (call,) = called.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == (
        "get_weather", {"city": "Oslo"},
    )  # fmt: skip
    stream = await sdk.chat.completions.create(
        model=MODEL, messages=ask, tools=[WEATHER], stream=True
    )
    deltas = [
        delta.function
        async for chunk in stream
        for delta in chunk.choices[0].delta.tool_calls or []
    ]
    arguments = "".join((delta and delta.arguments) or "" for delta in deltas)
    assert json.loads(arguments) == {"city": "Oslo"}

    schema = {"type": "object", "properties": {"total": {"type": "number"}}, "required": ["total"]}
    structured: Any = {
        "type": "json_schema", "json_schema": {"name": "sum", "schema": schema, "strict": True},
    }  # fmt: skip
    shaped = await sdk.chat.completions.create(
        model=MODEL, messages=SUM, response_format=structured
    )
    assert json.loads(shaped.choices[0].message.content or "") == {"total": 5}

    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    question: Any = [
        {"role": "user", "content": [{"type": "text", "text": "What is 2 + 3?"}, picture]}
    ]
    seen = await sdk.chat.completions.create(model=MODEL, messages=question)
    assert seen.usage is not None
    assert seen.usage.prompt_tokens > 85


async def test_errors_are_those_that_the_sdk_knows(
    sdk: openai.AsyncOpenAI, base_url: str, process: Process, tenant: Tenant
) -> None:
    await make_leaderboard(process, tenant.workspace_id, slug="not-ranked")
    await serve(process, tenant, {})
    with pytest.raises(openai.NotFoundError) as unknown:
        await sdk.chat.completions.create(model="gpt-5", messages=SUM)
    assert unknown.value.code == "not_found"
    assert "name it leaderboard/<id or slug>" in unknown.value.message
    with pytest.raises(openai.ConflictError) as unready:
        await sdk.chat.completions.create(model="leaderboard/not-ranked", messages=SUM)
    assert unready.value.code == "ranking_not_ready"
    with pytest.raises(openai.BadRequestError) as wrong:
        await sdk.chat.completions.create(model=MODEL, messages=SUM, max_tokens=-1)
    assert "max_tokens" in wrong.value.message
    poor = await make_token(process, tenant.workspace_id, budget_limit_usd=Decimal("0.00001"))
    for token, error, code in (
        ("drgero_nobody", openai.AuthenticationError, "unauthenticated"),
        (poor, openai.APIStatusError, "budget_exceeded"),
    ):
        async with openai.AsyncOpenAI(
            base_url=f"{base_url}/v1", api_key=token, max_retries=0
        ) as other:
            with pytest.raises(error) as refused:
                await other.chat.completions.create(model=MODEL, messages=SUM, stream=True)
            assert refused.value.code == code


@pytest.mark.parametrize("fault", ["fault-error", "fault-disconnect", "fault-garbage"])
async def test_a_stream_that_breaks_off_says_so_and_leaves_what_had_come(
    sdk: openai.AsyncOpenAI, process: Process, tenant: Tenant, fault: str
) -> None:
    await serve(process, tenant, {"model_id": f"sandbox/{fault}"})
    parts: list[str] = []
    stream = await sdk.chat.completions.create(model=MODEL, messages=SUM, stream=True)
    with pytest.raises(openai.APIError, match="the model in production failed"):
        await read_into(parts, stream)
    text = "".join(parts)
    trace = await the_trace(process)
    assert text
    assert (trace.status, trace.output) == ("error", text)
    assert (trace.completion_tokens or 0) > 0


async def test_streams_that_an_open_circuit_refuses_tell_nothing_of_the_endpoint(
    sdk: openai.AsyncOpenAI, process: Process, tenant: Tenant
) -> None:
    await serve(process, tenant, {"model_id": "sandbox/fault-500"})
    refused = 0
    async with asyncio.timeout(60):
        while refused < 3:
            with pytest.raises(openai.APIStatusError) as failed:
                await sdk.chat.completions.create(model=MODEL, messages=SUM, stream=True)
            refused += "in a row" in str(failed.value)
    async with process.database.read() as session:
        left_alone = list(await session.scalars(select(ProviderState.endpoint)))
    assert left_alone == ["serving openrouter sandbox/fault-500"]


async def test_every_failure_has_openai_s_form(
    sdk: openai.AsyncOpenAI, process: Process, tenant: Tenant
) -> None:
    board, _ = await serve(process, tenant, {"model_id": "sandbox/careful-large"})
    huge: Any = [{"role": "user", "content": "x" * 11_000_000}]
    with pytest.raises(openai.APIStatusError) as too_large:
        await sdk.chat.completions.create(model=MODEL, messages=huge)
    assert (too_large.value.status_code, too_large.value.code) == (413, "body_too_large")
    with pytest.raises(openai.NotFoundError) as unknown:
        await sdk.models.retrieve("leaderboard/nothing")
    assert (unknown.value.code, unknown.value.type) == ("not_found", "not_found_error")
    assert unknown.value.param == "model"
    with pytest.raises(openai.NotFoundError) as unserved:
        await sdk.chat.completions.create(model="leaderboard/nothing", messages=SUM)
    assert (unserved.value.code, unserved.value.param) == ("not_found", "model")
    with pytest.raises(openai.APIStatusError) as not_taken:
        await sdk.post("/models", cast_to=object)
    assert (not_taken.value.status_code, not_taken.value.code) == (405, "method_not_allowed")
    with pytest.raises(openai.BadRequestError) as wrong:
        await sdk.chat.completions.create(model=MODEL, messages=SUM, max_tokens=0)
    assert (wrong.value.code, wrong.value.param) == ("invalid_input", "max_tokens")
    asked = {"model": MODEL, "messages": SUM, "stream": None}
    answer: Any = await sdk.post("/chat/completions", cast_to=object, body=asked)
    assert answer["object"] == "chat.completion"
    trace = await the_trace(process)
    assert (trace.leaderboard_id, trace.input) == (board.id, SUM[0]["content"])


async def test_the_input_of_a_trace_is_what_the_model_was_sent(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board, _ = await serve(process, tenant, {"model_id": "sandbox/careful-large"})
    both = {"input": "What is 7 + 8?", "messages": SUM}
    answer = await client.post(f"/v1/leaderboard/{board.id}/inference", json=both)
    assert answer.status_code == 200
    assert (await the_trace(process)).input == SUM[0]["content"]


async def test_streams_that_break_off_open_a_circuit_as_other_failures_do(
    sdk: openai.AsyncOpenAI, process: Process, tenant: Tenant
) -> None:
    async with faulty_model(random.Random(1), {"reset half way": 100}) as model:
        await serve(process, tenant, {"endpoint_url": model.url})
        for _ in range(10):
            stream = await sdk.chat.completions.create(model=MODEL, messages=SUM, stream=True)
            with pytest.raises(openai.APIError):
                await read_into([], stream)
        with pytest.raises(openai.APIStatusError, match="failed 10 times in a row"):
            await sdk.chat.completions.create(model=MODEL, messages=SUM, stream=True)
        assert model.calls.total() == 10


async def test_a_stream_that_nobody_reads_any_longer_is_hung_up_and_settled(
    sdk: openai.AsyncOpenAI, base_url: str, process: Process, tenant: Tenant
) -> None:
    await serve(process, tenant, {"model_id": "sandbox/fault-slow"})
    token = await make_token(
        process, tenant.workspace_id, name="leaver", budget_limit_usd=Decimal(1)
    )
    async with openai.AsyncOpenAI(base_url=f"{base_url}/v1", api_key=token) as client:
        stream = await client.chat.completions.create(model=MODEL, messages=SUM, stream=True)
        text = ""
        async for chunk in stream:
            text += chunk.choices[0].delta.content or ""
            if text:
                break
        await stream.close()
    trace = await the_trace(process)
    assert (trace.status, trace.error) == ("cancelled", "cancelled: the caller went away")
    assert (trace.output or "").startswith(text)
    assert trace.completion_tokens is not None
    charge = await the_charge(process)
    assert (charge.source, charge.amount_usd) == ("computed", trace.cost_usd)
    async with process.database.read() as session:
        used = (await session.scalars(select(ApiToken).where(ApiToken.name == "leaver"))).one()
        assert list(await session.scalars(select(BudgetHold))) == []
    assert (used.budget_used_usd, used.budget_held_usd) == (trace.cost_usd, Decimal(0))


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "word " * 400},
        {"reasoning": "word " * 400, "reasoning_details": [{"text": "word " * 400}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "word " * 400}}]},
    ],
    ids=["text", "thoughts", "tools"],
)
@pytest.mark.parametrize("index", [0, 1])
async def test_all_that_a_broken_stream_has_said_is_counted(
    sdk: openai.AsyncOpenAI, process: Process, tenant: Tenant, delta: dict[str, Any], index: int
) -> None:
    async def say_and_wait(exchange: Exchange) -> None:
        chunk = {"choices": [{"index": index, "delta": delta}]}
        await exchange.begin_stream()
        await exchange.send_chunks(b"data: " + orjson.dumps(chunk) + b"\n\n")
        await exchange.wait_until_left()

    tool: Any = {"type": "function", "function": {"name": "f", "description": "x" * 4_000}}
    async with http_peer(say_and_wait) as model:
        await serve(process, tenant, {"endpoint_url": f"{model.url}/v1"})
        stream = await sdk.chat.completions.create(
            model=MODEL, messages=SUM, stream=True, tools=[tool], n=2
        )
        async for _ in stream:
            break
        await stream.close()
        trace = await the_trace(process)
    assert trace.status == "cancelled"
    assert trace.completion_tokens == 500
    assert (trace.prompt_tokens or 0) > 1_000


@pytest.mark.parametrize("is_bounded", [True, False])
async def test_a_stream_that_tells_no_usage_is_counted(
    base_url: str, process: Process, tenant: Tenant, *, is_bounded: bool
) -> None:
    """It is charged its whole hold only where more than its tokens may cost something."""
    further: dict[str, Any] = {} if is_bounded else {"web_search_options": {}}

    async def tell_no_usage(exchange: Exchange) -> None:
        await exchange.begin_stream()
        for _ in range(3):
            part = b'{"choices": [{"index": 0, "delta": {"content": "five hundred "}}]}'
            await exchange.send_chunks(b"data: " + part + b"\n\n")
        await exchange.send_chunks(b"data: [DONE]\n\n")
        await exchange.end_stream()

    token = await make_token(process, tenant.workspace_id, budget_limit_usd=Decimal(1))
    async with (
        http_peer(tell_no_usage) as peer,
        openai.AsyncOpenAI(base_url=f"{base_url}/v1", api_key=token) as client,
    ):
        serving = {"unknown_price": "allow", "hold_usd": "0.05"}
        # It fails, and what can't be told of it is nothing of the one that stands in.
        unpriced: dict[str, Any] = {
            "model_id": "sandbox/fault-401",
            "output_price_per_million_usd": None,
        }
        models = [unpriced, {"endpoint_url": f"{peer.url}/v1"}]
        await serve(process, tenant, *models, serving={**serving, "fallback_models": 1})
        stream = await client.chat.completions.create(
            model=MODEL, messages=SUM, stream=True, stream_options={"include_usage": True},
            extra_body=further,
        )  # fmt: skip
        *_, last = [chunk async for chunk in stream]
    trace = await the_trace(process)
    source = "computed" if is_bounded else "unknown"
    assert (trace.status, trace.cost_source) == ("ok", source)
    assert trace.completion_tokens == -(-len("five hundred " * 3) // 4)
    assert last.usage is not None
    assert last.usage.prompt_tokens == trace.prompt_tokens
    assert last.usage.completion_tokens == trace.completion_tokens
    charge = await the_charge(process)
    charged = trace.cost_usd if is_bounded else Decimal("0.05")
    assert (charge.source, charge.amount_usd) == (source, charged)


async def test_what_is_counted_of_a_broken_stream_costs_no_more_than_was_held(
    base_url: str, process: Process, tenant: Tenant
) -> None:
    token = await make_token(
        process, tenant.workspace_id, name="held", budget_limit_usd=Decimal("0.02")
    )
    long: Any = [{"role": "user", "content": "x" * 20_000}]
    async with faulty_model(random.Random(1), {"reset half way": 100}) as model:
        await serve(
            process, tenant, {"endpoint_url": model.url, "output_price_per_million_usd": 1_000}
        )
        async with openai.AsyncOpenAI(base_url=f"{base_url}/v1", api_key=token) as client:
            stream = await client.chat.completions.create(
                model=MODEL, messages=long, stream=True, max_tokens=1
            )
            with pytest.raises(openai.APIError):
                await read_into([], stream)
    trace = await the_trace(process)
    charge = await the_charge(process)
    assert (trace.completion_tokens or 0) > 1_000
    assert Decimal(0) < charge.amount_usd <= Decimal("0.02")  # of five dollars
    async with process.database.read() as session:
        used = (await session.scalars(select(ApiToken).where(ApiToken.name == "held"))).one()
    assert used.budget_used_usd == charge.amount_usd


async def test_a_whole_answer_that_nobody_waits_for_is_charged_its_hold(
    base_url: str, process: Process, tenant: Tenant
) -> None:
    board, _ = await serve(process, tenant, {"model_id": "sandbox/fault-timeout"})
    token = await make_token(
        process, tenant.workspace_id, name="leaver", budget_limit_usd=Decimal(1)
    )
    async with httpx2.AsyncClient(base_url=base_url, timeout=0.5) as client:
        with pytest.raises(httpx2.ReadTimeout):
            await client.post(
                f"/v1/leaderboard/{board.id}/inference",
                json={"input": "hello", "max_tokens": 10},
                headers={"Authorization": f"Bearer {token}"},
            )
    trace = await the_trace(process)
    assert (trace.status, trace.cost_usd) == ("cancelled", None)
    charge = await the_charge(process)
    assert charge.source == "unknown"
    async with process.database.read() as session:
        used = (await session.scalars(select(ApiToken).where(ApiToken.name == "leaver"))).one()
    assert (used.budget_used_usd, used.budget_held_usd) == (charge.amount_usd, Decimal(0))
    assert charge.amount_usd > 0


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_the_next_of_the_ranking_stands_in_when_that_is_allowed(
    sdk: openai.AsyncOpenAI, process: Process, tenant: Tenant, *, is_streamed: bool
) -> None:
    _, (_, second) = await serve(
        process, tenant, {"model_id": "sandbox/fault-500"}, {}, serving={"fallback_models": 1}
    )
    answer = await sdk.chat.completions.with_raw_response.create(
        model=MODEL, messages=SUM, stream=is_streamed
    )
    reason = "sandbox/fault-500: server_error: the endpoint answered 500"
    assert answer.headers["X-Dr.Gero-Fallback-Reason"] == reason
    assert answer.headers["X-Dr.Gero-Selected-Model"] == "sandbox/balanced-medium"
    if is_streamed:
        await read_into([], answer.parse())
    trace = await the_trace(process)
    assert (trace.status, trace.candidate_id) == ("ok", second.id)
    assert trace.trace_metadata["failed"] == [
        {
            "model": "sandbox/fault-500",
            "error": "server_error: the endpoint answered 500",
        }
    ]


async def test_nobody_stands_in_unless_that_is_allowed(
    sdk: openai.AsyncOpenAI, process: Process, tenant: Tenant
) -> None:
    await serve(process, tenant, {"model_id": "sandbox/fault-500"}, {})
    with pytest.raises(openai.APIStatusError) as failed:
        await sdk.chat.completions.create(model=MODEL, messages=SUM)
    assert failed.value.status_code == 502
    assert failed.value.code == "upstream_error"
    assert (await the_trace(process)).status == "error"


@pytest.mark.parametrize(
    ("status", "reason", "calls"),
    [(400, "rejected", 1), (401, "credential_refused", 1), (404, "not_found", 1), (500, "", 6)],
)
async def test_the_sdk_hears_what_the_model_said_and_asks_again_only_where_that_is_of_use(
    sdk: openai.AsyncOpenAI, process: Process, tenant: Tenant, status: int, reason: str, calls: int
) -> None:
    told = {"error": {"message": "the maximum context length is 10", "code": "context"}}
    async with model_peer(1) as peer:
        peer.answer = lambda _name, _question: JSONResponse(told, status)
        await serve(process, tenant, {"endpoint_url": peer.endpoint("model")})
        with pytest.raises(openai.InternalServerError) as failed:
            await sdk.with_options(max_retries=2).chat.completions.create(model=MODEL, messages=SUM)
        assert peer.call_count == calls
    assert failed.value.status_code == 502
    assert failed.value.response.headers.get("X-Should-Retry") == ("false" if reason else None)
    assert f"the endpoint answered {status}: the maximum context length is 10" in str(failed.value)
    if reason:
        assert failed.value.body["details"]["reason"] == reason  # type: ignore[index]


async def test_fields_of_the_endpoints_own_pass_through(
    sdk: openai.AsyncOpenAI, process: Process, tenant: Tenant
) -> None:
    message = {"role": "assistant", "content": "4"}
    told = {"choices": [{"index": 0, "message": message}], "citations": ["https://four.example"]}
    async with model_peer(1) as peer:
        peer.answer = lambda _name, _question: JSONResponse(told)
        await serve(process, tenant, {"endpoint_url": peer.endpoint("model")})
        answer = await sdk.chat.completions.create(model=MODEL, messages=SUM)
    assert answer.model_extra == {"citations": ["https://four.example"]}


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_all_that_failed_are_told_when_nobody_is_left(
    sdk: openai.AsyncOpenAI, process: Process, tenant: Tenant, *, is_streamed: bool
) -> None:
    models = [{"model_id": "sandbox/fault-500"}, {"model_id": "sandbox/fault-401"}]
    await serve(process, tenant, *models, serving={"fallback_models": 1})
    with pytest.raises(openai.APIStatusError) as failed:
        await sdk.chat.completions.create(model=MODEL, messages=SUM, stream=is_streamed)
    assert failed.value.status_code == 502
    told: Any = failed.value.body
    assert told["message"].startswith("2 models failed, sandbox/fault-401 at last: ")
    assert told["details"]["reason"] == "credential_refused"
    assert told["details"]["failed"] == [
        {"model": "sandbox/fault-500", "error": "server_error: the endpoint answered 500"}
    ]


async def test_who_was_not_asked_for_want_of_room_has_not_failed(
    base_url: str, process: Process, tenant: Tenant
) -> None:
    dear: dict[str, Any] = {
        "output_price_per_million_usd": Decimal(900_000),
        "params": {"max_tokens": 100},
    }
    models = [{"model_id": "sandbox/fault-401", "params": {"max_tokens": 1}}, dear]
    await serve(process, tenant, *models, serving={"fallback_models": 1})
    token = await make_token(process, tenant.workspace_id, budget_limit_usd=Decimal(1))
    async with openai.AsyncOpenAI(base_url=f"{base_url}/v1", api_key=token) as client:
        with pytest.raises(openai.APIStatusError) as failed:
            await client.chat.completions.create(model=MODEL, messages=SUM)
    told: Any = failed.value.body
    assert told["message"].startswith("the model in production failed: ")
    assert "failed" not in told["details"]


async def test_a_repeat_of_a_stream_is_refused(
    base_url: str, process: Process, tenant: Tenant
) -> None:
    await serve(process, tenant, {})
    async with httpx2.AsyncClient(base_url=base_url, headers=tenant.headers) as client:
        refused = await client.post(
            "/v1/chat/completions",
            json={"model": MODEL, "messages": SUM, "stream": True},
            headers={"Idempotency-Key": "k"},
        )
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "unsupported_option")
