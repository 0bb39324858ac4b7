"""What a workspace never stores is nowhere in the database, whichever way it came."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.services import Process
from app.serving import listen, serving, url_of
from tests.conftest import ask, await_run, session_token
from tests.factories import Tenant, make_ranked_run
from tests.jobs.conftest import make_board
from tests.model_peer import ModelPeer, model_peer
from tests.rest_compat.test_spans import PATH, PROTOBUF, encoded, make_spans

EMAIL = "jane.doe@shop.example"
CARD = "4111 1111 1111 1111"
KEY = "sk-ant-9fKq2mX7vLp4RtZw8sYb"
ORDER = "ORD-77310042"
PIN = "pin-91f0c3"
SECRETS = (EMAIL, CARD, CARD.replace(" ", ""), KEY, ORDER, PIN)
RULES = {
    "detectors": ["EMAIL", "CARD", "API_KEY"],
    "patterns": [{"name": "order", "pattern": r"ORD-\d+"}],
    "keys": ["pin"],
}
UPDATE = """mutation ($input: UpdateRedactionInput!) { updateRedaction(input: $input) {
  workspace { redaction { detectors patterns { name pattern } keys } } } }"""
TOOL_CALLS = [
    {
        "id": "call_1",
        "type": "function",
        "function": {"name": "refund", "arguments": json.dumps({"card": CARD, "pin": PIN})},
    }
]
MESSAGES = [
    {"role": "user", "content": f"Refund {ORDER} to {EMAIL}"},
    {"role": "assistant", "content": None, "tool_calls": TOOL_CALLS},
    {"role": "tool", "tool_call_id": "call_1", "content": f'{{"pin": "{PIN}"}}'},
    {"role": "user", "content": f"My key is {KEY}"},
]
JUDGE = "sandbox/quoting-judge"
ANSWER = f"Sent to {EMAIL}, card {CARD}."
# Columns as text, of every table there is but the rows of datasets, which are what they are.
TABLES = """
SELECT relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relkind IN ('r', 'p') AND nspname = 'public' AND NOT relispartition
  AND relname NOT IN ('dataset_row', 'pushed_row')
"""


@pytest.fixture
async def peer() -> AsyncIterator[ModelPeer]:
    async with model_peer(0) as made:
        yield made


async def list_judges(_: Request) -> Response:
    return JSONResponse({"data": [{"id": JUDGE, "pricing": {"prompt": 0, "completion": 0}}]})


async def judge(request: Request) -> Response:
    """Quote what is shown, give full marks where the true answer is, and a wrong one in the end."""
    shown = (await request.json())["messages"][-1]["content"]
    score = 5 if ANSWER in shown else 0
    said = {"reason": f"It says {EMAIL}, for {ORDER}.", "score": score}
    if "question 9" in shown:
        said["score"] = CARD
    message = {"role": "assistant", "content": json.dumps(said)}
    return JSONResponse({"choices": [{"index": 0, "message": message}], "cost_usd": 0})


@pytest.fixture
async def judge_url() -> AsyncIterator[str]:
    app = Starlette(
        routes=[
            Route("/api/v1/models", list_judges),
            Route("/api/v1/chat/completions", judge, methods=["POST"]),
        ]
    )
    listener = listen("127.0.0.1", 0)
    async with serving(app, listener):
        yield url_of(listener)


@pytest.fixture
def setting_overrides(peer: ModelPeer, judge_url: str) -> dict[str, Any]:
    return {"huggingface_url": peer.url, "sandbox_url": judge_url}


def echo(message: str, code: int) -> Response:
    """Fail as OpenRouter does: inside of a 200, with a message that is stored."""
    return JSONResponse({"error": {"message": message, "code": code}})


async def as_owner(client: httpx2.AsyncClient, tenant: Tenant, query: str, **variables: Any) -> Any:
    headers = {"Authorization": f"Bearer {session_token(tenant.owner_id)}"}
    body = {"query": query, "variables": variables}
    return (await client.post("/graphql", json=body, headers=headers)).json()


@pytest.fixture
async def redacting(client: httpx2.AsyncClient, tenant: Tenant) -> None:
    answered = await as_owner(client, tenant, UPDATE, input=RULES)
    assert answered["data"]["updateRedaction"]["workspace"]["redaction"] == RULES


async def find_secrets(database_url: str) -> list[tuple[str, str]]:
    """Return which secrets are in which tables, in whatever column."""
    connection = await asyncpg.connect(database_url.replace("+asyncpg", ""))
    try:
        tables = [row["relname"] for row in await connection.fetch(TABLES)]
        assert {"trace", "trace_text", "run_result", "judge_verdict"} <= set(tables)
        found = []
        for table in tables:
            for row in await connection.fetch(f'SELECT t::text AS written FROM "{table}" AS t'):
                found += [(table, secret) for secret in SECRETS if secret in row["written"]]
        return found
    finally:
        await connection.close()


async def newest_trace(client: httpx2.AsyncClient, board: Any, **query: str) -> Any:
    listed = await client.get(
        f"/v1/leaderboard/{board.id}/traces", params={"format": "json", "limit": 1, **query}
    )
    return listed.json()["rows"][0]


@pytest.mark.usefixtures("redacting")
async def test_inference_answers_with_what_it_does_not_store(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, peer: ModelPeer, database_url: str
) -> None:
    peer.answer = lambda _name, _question: ANSWER
    board, candidates = await make_board(process, tenant, peer, "model")
    await make_ranked_run(process, board, candidates)
    path = f"/v1/leaderboard/{board.id}/inference"
    answer = await client.post(
        path, json={"messages": MESSAGES}, headers={"Idempotency-Key": "once"}
    )
    assert answer.json()["output"] == ANSWER
    assert await find_secrets(database_url) == []
    trace = await newest_trace(client, board, source="inference")
    assert trace["output"] == "Sent to [redacted:email], card [redacted:card]."
    assert trace["messages"][0]["content"] == "Refund [redacted:order] to [redacted:email]"
    (call,) = trace["messages"][1]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {
        "card": "[redacted:card]",
        "pin": "[redacted:key]",
    }
    counts = trace["metadata"]["redacted"]
    assert counts["email"] == 1 + 1 + trace["input"].count("[redacted:email]")
    assert set(counts) == {"email", "card", "order", "api_key", "key"}
    again = await client.post(
        path, json={"messages": MESSAGES}, headers={"Idempotency-Key": "once"}
    )
    assert again.json() == answer.json()


@pytest.mark.usefixtures("redacting")
async def test_the_echo_of_an_endpoint_that_fails_is_not_stored(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, peer: ModelPeer, database_url: str
) -> None:
    def refuse(_name: str, question: str) -> Response:
        return echo(f"can't say {question}", 400)

    peer.answer = refuse
    board, candidates = await make_board(process, tenant, peer, "model")
    await make_ranked_run(process, board, candidates)
    answer = await client.post(
        f"/v1/leaderboard/{board.id}/inference", json={"input": f"my card: {CARD}"}
    )
    assert answer.status_code == 502
    assert CARD in str(answer.json()["details"]["upstream_body"])
    assert await find_secrets(database_url) == []
    trace = await newest_trace(client, board, source="inference")
    assert trace["status"] == "error"
    assert trace["error"].endswith("my card: [redacted:card]")
    assert trace["input"] == "my card: [redacted:card]"


@pytest.mark.usefixtures("redacting")
async def test_why_an_endpoint_is_left_alone_is_told_without_what_it_echoed(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, peer: ModelPeer, database_url: str
) -> None:
    peer.answer = lambda _name, question: echo(f"no {question}", 500)
    board, candidates = await make_board(process, tenant, peer, "model")
    await make_ranked_run(process, board, candidates)
    path, body = f"/v1/leaderboard/{board.id}/inference", {"messages": MESSAGES[:1]}
    for _ in range(12):
        await client.post(path, json=body)
    answer = await client.post(path, json=body)
    assert answer.json()["details"]["reason"] == "circuit_open"
    assert "Refund [redacted:order] to [redacted:email]" in answer.json()["error"]
    connection = await asyncpg.connect(database_url.replace("+asyncpg", ""))
    assert await connection.fetchval("SELECT count(*) FROM provider_state") == 1
    await connection.close()
    assert await find_secrets(database_url) == []


@pytest.mark.usefixtures("redacting", "worker")
async def test_a_run_is_scored_on_what_was_answered_and_stores_none_of_it(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, peer: ModelPeer, database_url: str
) -> None:
    peer.rows = [{"input": f"{n}: who pays {ORDER}?", "expected": EMAIL} for n in range(10)]

    def answer(_name: str, question: str) -> Response | str:
        if question.startswith("9"):
            return echo(f"{question} {KEY}", 400)
        return EMAIL

    peer.answer = answer
    board, _ = await make_board(process, tenant, peer, "model")
    started = await client.post(f"/api/leaderboards/{board.id}/run", json={})
    run = await await_run(client, board.id, started.json()["id"])
    assert run["status"] == "completed"
    query = """query ($id: ID!) { run(id: $id) {
      results(first: 20) { nodes { output score error } } } }"""
    answered = (await ask(client, query, id=run["id"]))["data"]["run"]
    nodes = answered["results"]["nodes"]
    assert [node["output"] for node in nodes if node["error"] is None] == ["[redacted:email]"] * 9
    assert sum(node["score"] for node in nodes) == 9.0
    (error,) = filter(None, (node["error"] for node in nodes))
    assert error.endswith("9: who pays [redacted:order]? [redacted:api_key]")
    assert await find_secrets(database_url) == []


@pytest.mark.usefixtures("redacting", "worker")
async def test_a_judge_sees_the_true_answer_and_what_it_quotes_is_not_stored(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, peer: ModelPeer, database_url: str
) -> None:
    peer.rows = [{"input": f"question {n}"} for n in range(10)]
    peer.answer = lambda _name, _question: ANSWER
    board, _ = await make_board(
        process, tenant, peer, "model", eval_type="judge", judge_provider="openrouter",
        judge_model=JUDGE, evaluation={"match": "exact"},
    )  # fmt: skip
    started = await client.post(f"/api/leaderboards/{board.id}/run", json={})
    run = await await_run(client, board.id, started.json()["id"])
    assert run["status"] == "completed"
    query = """query ($id: ID!) { run(id: $id) {
      results(first: 20) { nodes { output score error judgement } } } }"""
    nodes = (await ask(client, query, id=run["id"]))["data"]["run"]["results"]["nodes"]
    assert [node["score"] for node in nodes if node["error"] is None] == [1.0] * 9
    (error,) = filter(None, (node["error"] for node in nodes))
    assert error.startswith("unreadable_verdict: none of 3 replies could be read: score must be")
    assert "[redacted:card]" in error
    assert {node["output"] for node in nodes} == {"Sent to [redacted:email], card [redacted:card]."}
    reasons = [vote["reason"] for node in nodes for vote in node["judgement"]["votes"]]
    assert reasons == ["It says [redacted:email], for [redacted:order]."] * 9
    assert await find_secrets(database_url) == []


@pytest.mark.usefixtures("redacting")
async def test_spans_and_reported_traces_are_redacted_and_so_is_what_is_said_of_them(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, peer: ModelPeer, database_url: str
) -> None:
    board, _ = await make_board(process, tenant, peer)
    attributes = {
        "drgero.leaderboard_id": str(board.id),
        "gen_ai.input.messages": json.dumps(MESSAGES),
        "gen_ai.output.messages": json.dumps([{"role": "assistant", "content": ANSWER}]),
        "error.type": f"refused {CARD}",
        "gen_ai.request.model": f"tuned for {EMAIL}",
        "customer": EMAIL,
        "tags": [ORDER, KEY],
        "pin": PIN,
    }
    content = encoded(make_spans(attributes=attributes))
    answer = await client.post(PATH, content=content, headers=PROTOBUF)
    assert (answer.status_code, answer.content) == (200, b"")
    trace = await newest_trace(client, board)
    assert trace["model"] == "tuned for [redacted:email]"
    assert trace["error"] == "refused [redacted:card]"
    assert trace["metadata"]["tags"] == ["[redacted:order]", "[redacted:api_key]"]
    assert trace["metadata"]["pin"] == "[redacted:key]"
    reported = {
        "input": EMAIL, "messages": MESSAGES, "output": ANSWER, "expected": CARD, "error": KEY,
        "metadata": {"pin": PIN, "nested": {"order": ORDER, EMAIL: 4111111111111111}},
    }  # fmt: skip
    added = await client.post(f"/v1/leaderboard/{board.id}/traces", json=reported)
    (made,) = added.json()["traces"]
    trace = await newest_trace(client, board)
    assert trace["expected"] == "[redacted:card]"
    assert trace["metadata"]["nested"] == {
        "order": "[redacted:order]",
        "[redacted:email]": "[redacted:card]",
    }
    said = await ask(
        client,
        """mutation ($input: AddFeedbackInput!) { addFeedback(input: $input) {
          feedback { correction comment } } }""",
        input={"traceId": made["id"], "correction": f"to {EMAIL}", "comment": CARD},
    )
    assert said["data"]["addFeedback"]["feedback"] == {
        "correction": "to [redacted:email]",
        "comment": "[redacted:card]",
    }
    assert await find_secrets(database_url) == []


@pytest.mark.usefixtures("redacting")
async def test_no_half_of_a_secret_is_left_in_a_long_attribute_of_a_span(
    client: httpx2.AsyncClient, database_url: str
) -> None:
    long = f"{'word ' * 199_998} {CARD}"  # whose middle is a million bytes from the beginning
    attributes = {"gen_ai.prompt": long, "gen_ai.input.messages": "", "note": long}
    content = encoded(make_spans(attributes=attributes))
    answer = await client.post(PATH, content=content, headers=PROTOBUF)
    assert (answer.status_code, answer.content) == (200, b"")
    listed = await ask(client, "{ traces { nodes { input metadata } } }")
    (trace,) = listed["data"]["traces"]["nodes"]
    assert trace["input"] == trace["metadata"]["note"] == f"{'word ' * 199_998} [redacted:card]"
    assert await find_secrets(database_url) == []


@pytest.mark.usefixtures("redacting")
async def test_a_long_text_is_redacted_while_others_are_answered(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, peer: ModelPeer, database_url: str
) -> None:
    board, _ = await make_board(process, tenant, peer)
    long = f"{CARD} and some words between. " * 50_000
    path = f"/v1/leaderboard/{board.id}/traces"
    adding = asyncio.create_task(client.post(path, json={"output": long}))
    beats = 0
    while not adding.done():
        assert (await client.get("/healthz")).status_code == 200
        beats += 1
    assert adding.result().status_code == 201
    assert beats > 3
    trace = await newest_trace(client, board)
    assert trace["metadata"]["redacted"] == {"card": 50_000}
    assert await find_secrets(database_url) == []


async def test_without_rules_all_is_stored_as_it_came(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, peer: ModelPeer
) -> None:
    board, _ = await make_board(process, tenant, peer)
    reported = {"messages": MESSAGES, "output": ANSWER, "metadata": {"pin": PIN, "redacted": "no"}}
    await client.post(f"/v1/leaderboard/{board.id}/traces", json=reported)
    trace = await newest_trace(client, board)
    assert {name: trace[name] for name in reported} == reported
