"""The fault models over HTTP: each fails in its own way, by either kind of route."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx2
import orjson
import pytest

from app.sandbox.faults import FAULTS, HUGE_BODY_BYTES
from app.sandbox.models import BALANCED
from app.sandbox.simulation import complete
from app.sandbox.tasks import list_task_rows
from tests.app.sandbox.serving import chat_body, serve_sandbox

QUESTION = list_task_rows()[1]["question"]
BALANCED_TEXT = complete(BALANCED, QUESTION, prompt_tokens=1, max_tokens=None).text

Call = Callable[[str], dict[str, Any]]


@pytest.fixture(params=["openrouter", "custom"])
def call(request: pytest.FixtureRequest) -> Call:
    """Make the URL and body that ask a fault the question, by the one route or the other."""

    def make_call(fault: str) -> dict[str, Any]:
        if request.param == "custom":
            return {"url": f"/endpoints/{fault}", "json": chat_body(QUESTION)}
        body = chat_body(QUESTION, model=f"sandbox/{fault}")
        return {"url": "/api/v1/chat/completions", "json": body}

    return make_call


@pytest.mark.parametrize(
    ("fault", "status", "retry_after"),
    [
        ("fault-401", 401, None),
        ("fault-402", 402, None),
        ("fault-429", 429, "1"),
        ("fault-500", 500, None),
    ],
)
async def test_a_status_fault_fails_every_time(
    client: httpx2.AsyncClient, call: Call, fault: str, status: int, retry_after: str | None
) -> None:
    for _ in range(2):
        answer = await client.post(**call(fault))
        assert answer.status_code == status
        assert answer.headers.get("retry-after") == retry_after
        assert answer.json()["error"]["code"] == status
        assert answer.json()["error"]["message"].startswith("Simulated fault: ")


@pytest.mark.parametrize(
    ("fault", "status", "retry_after"),
    [("fault-429-once", 429, "0"), ("fault-503-once", 503, None)],
)
async def test_a_once_fault_fails_the_first_time_and_then_answers_like_balanced(
    client: httpx2.AsyncClient, call: Call, fault: str, status: int, retry_after: str | None
) -> None:
    await client.delete("/stats")
    first, second, third = [await client.post(**call(fault)) for _ in range(3)]
    assert first.status_code == status
    assert first.headers.get("retry-after") == retry_after
    assert second.json()["choices"][0]["message"]["content"] == BALANCED_TEXT
    assert third.json()["choices"] == second.json()["choices"]


async def test_a_once_fault_fails_once_for_every_message(client: httpx2.AsyncClient) -> None:
    await client.delete("/stats")
    texts = ["one", "two", "one", "two"]
    answers = [await client.post("/endpoints/fault-503-once", json=chat_body(t)) for t in texts]
    assert [answer.status_code for answer in answers] == [503, 503, 200, 200]


async def test_a_timeout_outlasts_the_client(client: httpx2.AsyncClient, call: Call) -> None:
    with pytest.raises(httpx2.ReadTimeout):
        await client.post(**call("fault-timeout"), timeout=0.2)


async def test_a_server_stops_while_a_timeout_fault_holds_a_client() -> None:
    """The block of `serve_sandbox` fails when the server does not stop."""
    async with httpx2.AsyncClient(timeout=30) as client:
        with serve_sandbox() as url:
            held = asyncio.create_task(
                client.post(f"{url}/endpoints/fault-timeout", json=chat_body("x"))
            )
            while not (await client.get(f"{url}/stats")).json()["calls"]:
                pass
            assert not held.done()
        (outcome,) = await asyncio.gather(held, return_exceptions=True)
    assert isinstance(outcome, httpx2.TransportError | httpx2.Response)


async def test_garbage_is_a_200_that_claims_to_be_json_and_is_not(
    client: httpx2.AsyncClient, call: Call
) -> None:
    answer = await client.post(**call("fault-garbage"))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(answer.content)


async def test_empty_is_a_200_without_choices(client: httpx2.AsyncClient, call: Call) -> None:
    answer = await client.post(**call("fault-empty"))
    assert answer.status_code == 200
    assert answer.json()["choices"] == []


async def test_huge_sends_100_megabytes_without_saying_so_before(
    client: httpx2.AsyncClient,
) -> None:
    received_bytes = 0
    async with client.stream("POST", "/endpoints/fault-huge", json=chat_body("x")) as answer:
        assert answer.status_code == 200
        assert "content-length" not in answer.headers
        async for chunk in answer.aiter_raw():
            received_bytes += len(chunk)
    assert received_bytes == HUGE_BODY_BYTES == 100_000_000


async def test_a_client_may_leave_a_huge_answer(client: httpx2.AsyncClient, call: Call) -> None:
    async with client.stream(**call("fault-huge"), method="POST") as answer:
        async for chunk in answer.aiter_raw():
            assert chunk.startswith(b'{"choices":[{')
            break
    assert (await client.get("/stats")).status_code == 200


async def test_no_usage_is_a_completion_without_usage_or_cost(
    client: httpx2.AsyncClient, call: Call
) -> None:
    answer = (await client.post(**call("fault-no-usage"))).json()
    assert answer["choices"][0]["message"]["content"] == BALANCED_TEXT
    assert not {"usage", "cost_usd"} & set(answer)


async def test_disconnect_hangs_up_in_the_middle_of_the_body(
    client: httpx2.AsyncClient, call: Call
) -> None:
    with pytest.raises(httpx2.RemoteProtocolError):
        await client.post(**call("fault-disconnect"))


async def test_no_fault_is_in_the_catalogue(client: httpx2.AsyncClient) -> None:
    listed = {entry["id"] for entry in (await client.get("/api/v1/models")).json()["data"]}
    assert not listed & {f"sandbox/{fault}" for fault in FAULTS}
