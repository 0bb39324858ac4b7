"""However a call of production goes wrong, it leaves its trace and its charge, and nothing else."""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import httpx2
import orjson
import pytest
from sqlalchemy import func, select

from app.services import Process
from db.models import ApiToken, BudgetHold, Charge, Leaderboard, Trace
from resolvers.context import Context
from resolvers.inference import infer, open_answer_stream
from resolvers.inference_request import InferenceRequest
from tests.conftest import NO_TLS
from tests.factories import Tenant, make_candidate, make_leaderboard, make_ranked_run, make_token
from tests.providers.http_peer import Answer, Exchange, HttpPeer, http_peer

PRICES = {
    "input_price_per_million_usd": Decimal("0.8"),
    "output_price_per_million_usd": Decimal(4),
}
LIMIT = Decimal(1)
WITHIN_SECONDS = 10
MODEL = "leaderboard/sums"
CHUNK = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "5"}}]}
USAGE = {"prompt_tokens": 10, "completion_tokens": 2}
WHOLE = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "5"}}]}


def event(value: object) -> bytes:
    return b"data: " + (value if isinstance(value, bytes) else orjson.dumps(value)) + b"\n\n"


async def answer_plainly(exchange: Exchange) -> None:
    """Answer as a model does, in parts when that is asked for."""
    if not exchange.json().get("stream"):
        await exchange.answer(orjson.dumps({**WHOLE, "usage": USAGE}))
        return
    await exchange.begin_stream()
    await exchange.send_chunks(event(CHUNK), event({"choices": [], "usage": USAGE}))
    await exchange.send_chunks(event(b"[DONE]"))
    await exchange.end_stream()


async def hang_up(exchange: Exchange) -> None:
    exchange.writer.transport.abort()


@dataclass
class Scene:
    """A leaderboard whose models are peers of the test, and the holder of a budgeted token."""

    process: Process
    board: Leaderboard
    base_url: str
    headers: dict[str, str]

    def body(self, **fields: Any) -> dict[str, Any]:
        messages = [{"role": "user", "content": "What is 2 + 3?"}]
        return {"model": MODEL, "messages": messages, "max_tokens": 50, **fields}

    async def post(self, **sent: Any) -> httpx2.Response:
        async with httpx2.AsyncClient(
            base_url=self.base_url, headers=self.headers, timeout=30, verify=NO_TLS
        ) as client:
            return await client.post("/v1/chat/completions", **sent)

    async def ask(self, **fields: Any) -> httpx2.Response:
        return await self.post(json=self.body(**fields))

    async def ask_for(self, name: str, **fields: Any) -> httpx2.Response:
        return await self.ask(messages=[{"role": "user", "content": name}], **fields)

    def request(self, **fields: Any) -> bytes:
        """Return a request as it is sent."""
        body = json.dumps(self.body(**fields)).encode()
        lines = (
            "POST /v1/chat/completions HTTP/1.1",
            "Host: test",
            f"Authorization: {self.headers['Authorization']}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
        )
        return "\r\n".join((*lines, "", "")).encode() + body

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        parts = urlsplit(self.base_url)
        return await asyncio.open_connection(parts.hostname, parts.port)

    async def settles(self, *, calls: int | None = 1) -> list[Trace]:
        """Wait until nothing is under way, and return the traces: each is charged, once.

        The budget has used what the charges say, and holds nothing.
        """
        async with asyncio.timeout(WITHIN_SECONDS):
            while True:
                async with self.process.database.read() as session:
                    inferences = select(Trace).where(Trace.source == "inference").order_by(Trace.id)
                    traces = list(await session.scalars(inferences))
                    holds = await session.scalar(select(func.count()).select_from(BudgetHold))
                    charges = list(await session.scalars(select(Charge).order_by(Charge.id)))
                    budgeted = select(ApiToken).where(ApiToken.name == "budgeted")
                    token = (await session.scalars(budgeted)).one()
                under_way = self.process.services.admission.count
                if len(traces) >= (calls or 0) and not holds and not under_way:
                    break
                await asyncio.sleep(0.02)
        assert calls in {None, len(traces)}
        assert [charge.id for charge in charges] == [trace.id for trace in traces]
        charged = sum((charge.amount_usd for charge in charges), Decimal(0))
        assert (token.budget_used_usd, token.budget_held_usd) == (charged, Decimal(0))
        return traces


async def make_scene(
    process: Process,
    tenant: Tenant,
    base_url: str,
    *peers: HttpPeer,
    names: list[str] | None = None,
) -> Scene:
    """Make a leaderboard that the first of *peers* serves, and the others stand in for."""
    board = await make_leaderboard(
        process, tenant.workspace_id, slug="sums", serving={"fallback_models": len(peers) - 1}
    )
    candidates = [
        await make_candidate(
            process, board, endpoint_url=f"{peer.url}/chat/completions", **PRICES,
            **({} if names is None else {"display_name": names[place]}),
        )
        for place, peer in enumerate(peers)
    ]  # fmt: skip
    await make_ranked_run(process, board, candidates)
    token = await make_token(process, tenant.workspace_id, name="budgeted", budget_limit_usd=LIMIT)
    return Scene(process, board, base_url, {"Authorization": f"Bearer {token}"})


def answers(body: bytes) -> Answer:
    """Return a peer that answers *body*, whatever it is asked."""

    async def answer(exchange: Exchange) -> None:
        await exchange.answer(body)

    return answer


def answer_by_name(bodies: Mapping[str, bytes]) -> Answer:
    """Return a peer that answers what it is asked for by name."""

    async def answer(exchange: Exchange) -> None:
        await exchange.answer(bodies[exchange.json()["messages"][0]["content"]])

    return answer


async def test_who_leaves_before_the_first_part_hangs_up_on_the_model(
    process: Process, tenant: Tenant, base_url: str
) -> None:
    async def begin_and_wait(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.wait_until_left()
        left.set()

    left = asyncio.Event()
    async with http_peer(begin_and_wait) as peer:
        scene = await make_scene(process, tenant, base_url, peer)
        _, writer = await scene.connect()
        writer.write(scene.request(stream=True))
        async with asyncio.timeout(WITHIN_SECONDS):
            while not peer.requests:
                await asyncio.sleep(0.01)
            writer.transport.abort()
            await left.wait()
        (trace,) = await scene.settles()
    assert (trace.status, trace.error) == ("cancelled", "cancelled: the caller went away")


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_who_leaves_between_two_attempts_owes_nothing(
    process: Process, tenant: Tenant, base_url: str, *, is_streamed: bool
) -> None:
    async def ask_for_time(exchange: Exchange) -> None:
        await exchange.answer(b"{}", "Retry-After: 2", status="503 Service Unavailable")

    async with http_peer(ask_for_time) as peer:
        scene = await make_scene(process, tenant, base_url, peer)
        _, writer = await scene.connect()
        writer.write(scene.request(stream=is_streamed))
        async with asyncio.timeout(WITHIN_SECONDS):
            while not peer.requests:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        writer.transport.abort()
        (trace,) = await scene.settles()
    assert (trace.status, trace.cost_usd) == ("cancelled", Decimal(0))
    assert trace.trace_metadata["attempts"] == 1


CANCELLATIONS = 120
STEP_SECONDS = 0.0003


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_who_leaves_at_any_moment_leaves_nothing_behind(
    process: Process, tenant: Tenant, base_url: str, *, is_streamed: bool
) -> None:
    """From before it is known who asks until behind the end, with a model that fails first."""
    async with http_peer(hang_up) as first, http_peer(answer_plainly) as second:
        scene = await make_scene(process, tenant, base_url, first, second)
        credential = scene.headers["Authorization"].removeprefix("Bearer ")
        principal = await process.authenticator.authenticate(credential, workspace=None)
        ctx = Context(process.services, principal, "request")
        request = InferenceRequest.model_validate(scene.body())

        async def read() -> None:
            stream = await open_answer_stream(ctx, scene.board.id, request)
            async with stream:
                async for _ in stream.chunks():
                    pass

        seen: Counter[str] = Counter()
        for number in range(CANCELLATIONS):
            call = read() if is_streamed else infer(ctx, scene.board.id, request)
            asking = asyncio.ensure_future(call)
            await asyncio.sleep(number * STEP_SECONDS)
            asking.cancel()
            await asyncio.wait({asking})
            seen["cancelled" if asking.cancelled() else "ended"] += 1
        assert min(seen["cancelled"], seen["ended"]) > 0
        traces = await scene.settles(calls=None)
    assert len({trace.status for trace in traces} & {"ok", "cancelled"}) == 2


CONTROL = "\x1b[31mno\r\nX-Evil: 1\x7f"


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_what_a_failing_model_says_makes_no_header_that_can_not_be_sent(
    process: Process, tenant: Tenant, base_url: str, *, is_streamed: bool
) -> None:
    said = orjson.dumps({"error": {"message": CONTROL}})
    async with http_peer(answers(said)) as first, http_peer(answer_plainly) as second:
        scene = await make_scene(process, tenant, base_url, first, second)
        answer = await scene.ask(stream=is_streamed)
        await scene.settles()
    assert answer.status_code == 200, answer.text
    assert "X-Evil" not in answer.headers
    assert answer.headers["X-Dr.Gero-Fallback-Reason"].isprintable()


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_models_name_makes_no_header_that_can_not_be_sent(
    process: Process, tenant: Tenant, base_url: str, *, is_streamed: bool
) -> None:
    async with http_peer(answer_plainly) as peer:
        scene = await make_scene(process, tenant, base_url, peer, names=[CONTROL])
        answer = await scene.ask(stream=is_streamed)
        await scene.settles()
    assert answer.status_code == 200, answer.text
    assert "X-Evil" not in answer.headers
    assert answer.headers["X-Dr.Gero-Selected-Model"].isprintable()


async def test_who_takes_no_answers_and_leaves_leaves_nothing_behind(
    process: Process, tenant: Tenant, base_url: str
) -> None:
    """Asks again while the last answer is not taken, and hangs up before the next one begins."""
    long = {"choices": [{"index": 0, "message": {"content": "x" * 9_000_000}}], "usage": USAGE}

    async def answer_long(exchange: Exchange) -> None:
        if exchange.json().get("stream"):
            await answer_plainly(exchange)
        else:
            await exchange.answer(orjson.dumps(long))

    async with http_peer(answer_long) as peer:
        scene = await make_scene(process, tenant, base_url, peer)
        _, writer = await scene.connect()
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(scene.request() + scene.request(stream=True))
        async with asyncio.timeout(WITHIN_SECONDS):
            while len(peer.requests) < 2:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.3)  # for the server to begin to answer, which it can't
        writer.transport.abort()
        await scene.settles(calls=2)


ODD_ANSWERS = {
    "nul": orjson.dumps({"choices": [{"message": {"content": "a\x00b", "tool_calls": ["\x00"]}}]}),
    "surrogate": rb'{"choices":[{"message":{"content":"a\ud800b"}}]}',
    "no text": b"\xff\xfe\x00",
    "said nul": orjson.dumps({"error": {"message": "a\x00b", "code": "\x00"}}),
    "deep": b'{"output":"x","y":' + b"[" * 500 + b"]" * 500 + b"}",
    "many tokens": orjson.dumps(
        {**WHOLE, "usage": {"prompt_tokens": 2**62, "completion_tokens": 1}}
    ),
    "negative": orjson.dumps({**WHOLE, "usage": {"prompt_tokens": -5, "cost": -1}}),
    "dear": orjson.dumps({**WHOLE, "usage": {"cost": 1e300}}),
    "infinite": b'{"output":"x","cost_usd":"Infinity"}',
    "not a number": b'{"output":"x","cost_usd":"NaN"}',
    "tiny": b'{"output":"x","cost_usd":"1e-300"}',
    "long number": b'{"output":"x","usage":{"prompt_tokens":' + b"9" * 400 + b"}}",
    "odd types": orjson.dumps({**WHOLE, "usage": [1], "id": {}, "created": "\x00"}),
    "no choices": b'{"choices":[],"usage":{"prompt_tokens":1}}',
    "empty": b"",
    # The last, since it leaves nothing of the budget.
    "most tokens": orjson.dumps(
        {**WHOLE, "usage": {"prompt_tokens": 2**31 - 1, "completion_tokens": 2**31 - 1}}
    ),
}


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_whatever_a_model_answers_its_call_is_stored_and_charged(
    process: Process, tenant: Tenant, base_url: str, *, is_streamed: bool
) -> None:
    async with http_peer(answer_by_name(ODD_ANSWERS)) as peer:
        scene = await make_scene(process, tenant, base_url, peer)
        for calls, name in enumerate(ODD_ANSWERS, start=1):
            answer = await scene.ask_for(name, stream=is_streamed)
            assert answer.status_code in {200, 502}, (name, answer.text)
            await scene.settles(calls=calls)


ODD_CHUNKS = {
    "nul": {"choices": [{"index": 0, "delta": {"content": "a\x00b", "x\x00": "\x00"}}]},
    "index": {"choices": [{"index": 10**18, "delta": {"content": "a"}}]},
    "types": {"choices": [{"index": "x", "delta": "text"}], "id": [1], "model": {"a": "\x00"}},
    "no choices": {"choices": "none"},
    "negative": {"choices": [], "usage": {"cost": -3, "prompt_tokens": -1}},
    "error": {"error": {"message": "a\x00b", "code": 429}},
    "break": {"choices": [{"index": 0, "delta": {"content": "a\n\ndata: evil\n\n"}}]},
}


async def test_whatever_a_model_streams_its_call_is_stored_and_charged(
    process: Process, tenant: Tenant, base_url: str
) -> None:
    async def stream_by_name(exchange: Exchange) -> None:
        chunk = ODD_CHUNKS[exchange.json()["messages"][0]["content"]]
        await exchange.begin_stream()
        await exchange.send_chunks(event(CHUNK), event(chunk), event(b"[DONE]"))
        await exchange.end_stream()

    async with http_peer(stream_by_name) as peer:
        scene = await make_scene(process, tenant, base_url, peer)
        for calls, name in enumerate(ODD_CHUNKS, start=1):
            answer = await scene.ask_for(name, stream=True)
            assert answer.status_code == 200
            lines = answer.text.split("\n")
            assert {line[:6] for line in lines} == {"", "data: "}
            assert "data: evil" not in lines
            await scene.settles(calls=calls)


ODD_REQUESTS: dict[str, dict[str, Any]] = {
    "nul": {"messages": [{"role": "user", "content": "a\x00b"}]},
    "nul in a name": {"messages": [{"role": "user", "content": "a", "x\x00": 1}]},
    "surrogate": {"messages": [{"role": "user", "content": "a\ud800b"}]},
    "surrogate user": {"user": "a\ud800b"},
    "nul user": {"user": "a\x00"},
    "long number": {"messages": [{"role": "user", "content": "a", "n": 10**30}]},
    "long parameter": {"seed": 10**30},
    "not a number": {"temperature": float("nan")},
    "deep": {
        "messages": [{"role": "user", "content": "a", "x": json.loads("[" * 300 + "]" * 300)}]
    },
    "deep parameter": {"x": json.loads("[" * 300 + "]" * 300)},
    "role": {"messages": [{"role": "a\x00", "content": "a"}]},
}


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_what_can_not_be_stored_is_refused_before_it_is_sent(
    process: Process, tenant: Tenant, base_url: str, *, is_streamed: bool
) -> None:
    async with http_peer(answer_plainly) as peer:
        scene = await make_scene(process, tenant, base_url, peer)
        for name, fields in ODD_REQUESTS.items():
            # Not as a careful client would write it, which has no words for some of it.
            body = json.dumps(scene.body(stream=is_streamed, **fields))
            answer = await scene.post(content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code == 400, (name, answer.text)
        assert peer.requests == []
        await scene.settles(calls=0)
