"""What OpenAI's clients send and get beside the answer's text: fields go both ways as they are."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import httpx2
import openai
import orjson
import pytest
from sqlalchemy import select

from app.services import Process
from db.models import Candidate
from resolvers.inputs import NewShadow
from resolvers.shadows import start_shadow
from tests.factories import Tenant, make_candidate, make_leaderboard, make_ranked_run
from tests.providers.http_peer import Exchange, HttpPeer, http_peer

SUM: Any = [{"role": "user", "content": "What is 2 + 3?"}]
MODEL = "leaderboard/sums"
FREE = {
    "input_price_per_million_usd": Decimal(0),
    "output_price_per_million_usd": Decimal(0),
}
WHOLE = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "5"}}]}


def event(body: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"


async def answer(exchange: Exchange) -> None:
    if not exchange.json().get("stream"):
        await exchange.answer(orjson.dumps(WHOLE), "Content-Type: application/json")
        return
    await exchange.begin_stream()
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
    chunks = (
        {"choices": [], "prompt_filter_results": [{"prompt_index": 0}]},
        {"choices": [{"index": 0, "delta": {"content": "5"}}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {"choices": [], "usage": usage, "x_timings": {"queue": 0.1}},
    )
    for chunk in chunks:
        await exchange.send_chunks(event(chunk))
    await exchange.send_chunks(b"data: [DONE]\n\n")
    await exchange.end_stream()


@pytest.fixture
async def peer(process: Process, tenant: Tenant) -> AsyncIterator[HttpPeer]:
    async with http_peer(answer) as serving:
        board = await make_leaderboard(process, tenant.workspace_id, slug="sums")
        url = f"{serving.url}/v1"
        models = [await make_candidate(process, board, endpoint_url=url, **FREE) for _ in range(2)]
        await make_ranked_run(process, board, models)
        yield serving


@asynccontextmanager
async def sdk_of(base_url: str, tenant: Tenant) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{base_url}/v1", api_key=tenant.token, max_retries=0
    ) as client:
        yield client


async def test_fields_that_name_an_input_elsewhere_are_the_models_here(
    base_url: str, tenant: Tenant, peer: HttpPeer
) -> None:
    own = {"prompt": {"id": "pmpt_1"}, "input": ["a"], "query": 7, "question": None}
    silent: Any = [*SUM, {"role": "function", "name": "f", "content": None}]
    async with sdk_of(base_url, tenant) as sdk:
        await sdk.chat.completions.create(model=MODEL, messages=silent, extra_body=own)
    (asked,) = peer.requests
    assert asked.json() == {**own, "messages": silent}


async def test_options_of_a_stream_go_to_the_model(
    base_url: str, tenant: Tenant, peer: HttpPeer
) -> None:
    options: Any = {"include_obfuscation": False, "include_usage": False}
    async with sdk_of(base_url, tenant) as sdk:
        stream = await sdk.chat.completions.create(
            model=MODEL, messages=SUM, stream=True, stream_options=options
        )
        chunks = [chunk async for chunk in stream]
    (asked,) = peer.requests
    assert asked.json()["stream_options"] == {"include_obfuscation": False, "include_usage": True}
    assert [chunk.usage for chunk in chunks] == [None, None]


async def test_options_of_a_stream_don_t_go_to_a_challenger_which_answers_whole(
    base_url: str, process: Process, tenant: Tenant, peer: HttpPeer
) -> None:
    async with process.database.read() as session:
        _, challenger = await session.scalars(select(Candidate).order_by(Candidate.id))
    ctx = process.system_context(tenant.workspace_id)
    shadow = {"challenger_id": str(challenger.id), "share": 1, "budget_usd": "1"}
    await start_shadow(ctx, challenger.leaderboard_id, NewShadow.model_validate(shadow))
    async with sdk_of(base_url, tenant) as sdk:
        stream = await sdk.chat.completions.create(
            model=MODEL, messages=SUM, stream=True, stream_options={"include_usage": True}, top_p=1
        )
        assert len([chunk async for chunk in stream]) == 3
    async with asyncio.timeout(10):
        while len(peer.requests) < 2:
            await asyncio.sleep(0.02)
    shadowed = peer.requests[1].json()
    assert shadowed == {"messages": SUM, "top_p": 1, "max_tokens": shadowed["max_tokens"]}


async def test_what_comes_without_a_choice_goes_with_the_next_chunk(
    base_url: str, tenant: Tenant, peer: HttpPeer
) -> None:
    async with sdk_of(base_url, tenant) as sdk:
        stream = await sdk.chat.completions.create(
            model=MODEL, messages=SUM, stream=True, stream_options={"include_usage": True}
        )
        first, second, last = [chunk.model_dump() async for chunk in stream]
    assert first["prompt_filter_results"] == [{"prompt_index": 0}]
    assert first["choices"][0]["delta"]["content"] == "5"
    assert "prompt_filter_results" not in second
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], 10)
    assert last["x_timings"] == {"queue": 0.1}
    assert len(peer.requests) == 1


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/leaderboards", "/graphql"])
async def test_a_compressed_body_is_415(
    client: httpx2.AsyncClient, tenant: Tenant, path: str
) -> None:
    body = gzip.compress(orjson.dumps({"model": MODEL, "messages": SUM}))
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    answered = await client.post(path, content=body, headers=headers)
    assert answered.status_code == 415
    assert "Content-Encoding: must be identity (got 'gzip')" in answered.text
    if path == "/v1/chat/completions":
        assert answered.json()["error"]["type"] == "invalid_request_error"
    assert (await client.get("/readyz", headers=headers)).status_code == 200  # it has no body
    plain = await client.post(path, content=b"{}", headers={**headers, "Content-Encoding": ""})
    assert plain.status_code == 400
