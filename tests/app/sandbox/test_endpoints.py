"""The custom endpoints over HTTP: completions, the other answer shapes, and their headers."""

import json
from decimal import Decimal
from typing import Any

import httpx2
import pytest

from app.sandbox.models import BALANCED, MODELS
from app.sandbox.simulation import complete
from app.sandbox.tasks import list_task_rows
from tests.app.sandbox.serving import chat_body

QUESTION = list_task_rows()[2]["question"]
BALANCED_TEXT = complete(BALANCED, QUESTION, prompt_tokens=1, max_tokens=None).text


@pytest.mark.parametrize("name", MODELS)
async def test_an_endpoint_answers_a_completion_with_usage_and_cost(
    client: httpx2.AsyncClient, name: str
) -> None:
    body = chat_body(QUESTION, temperature=0.2, max_tokens=500)
    answer = await client.post(f"/endpoints/{name}", json=body, headers={"Authorization": ""})
    assert answer.status_code == 200
    completion = json.loads(answer.text, parse_float=Decimal)
    expected = complete(
        MODELS[name], QUESTION, prompt_tokens=-(-len(QUESTION) // 4), max_tokens=500
    )
    assert completion["object"] == "chat.completion"
    assert completion["choices"][0]["message"]["content"] == expected.text
    assert completion["cost_usd"] == expected.cost_usd
    assert completion["usage"] == {
        "prompt_tokens": expected.prompt_tokens,
        "completion_tokens": expected.completion_tokens,
        "total_tokens": expected.prompt_tokens + expected.completion_tokens,
    }


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("output", {"output": BALANCED_TEXT}),
        ("text", {"text": BALANCED_TEXT}),
        ("generated_text", {"generated_text": BALANCED_TEXT}),
        ("response", {"response": BALANCED_TEXT}),
        ("content", {"content": BALANCED_TEXT}),
        ("list", [{"generated_text": BALANCED_TEXT}]),
        ("string", BALANCED_TEXT),
    ],
)
async def test_a_shape_endpoint_answers_json_of_that_shape(
    client: httpx2.AsyncClient, shape: str, expected: Any
) -> None:
    answer = await client.post(f"/endpoints/shape-{shape}", json=chat_body(QUESTION))
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == expected


async def test_the_plain_endpoint_answers_bare_text(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/endpoints/shape-plain", json=chat_body(QUESTION))
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text == BALANCED_TEXT


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("x-api-key", "secret:1", 200),
        ("X-API-Key", "secret:1", 200),
        ("x-api-key", "secret", 401),
        ("x-api-key", "Bearer secret:1", 401),
        ("authorization", "secret:1", 401),
    ],
)
async def test_a_required_header_must_be_there_exactly(
    client: httpx2.AsyncClient, header: str, value: str, status: int
) -> None:
    url = "/endpoints/quick-small?require=x-api-key:secret:1"
    answer = await client.post(url, json=chat_body("Hi"), headers={header: value})
    assert answer.status_code == status


async def test_a_bearer_token_can_be_required(client: httpx2.AsyncClient) -> None:
    url = "/endpoints/quick-small?require=authorization:Bearer%20t"
    answer = await client.post(url, json=chat_body("Hi"), headers={"Authorization": "Bearer t"})
    assert answer.status_code == 200


async def test_the_redirect_fault_points_at_a_working_endpoint(
    client: httpx2.AsyncClient,
) -> None:
    answer = await client.post("/endpoints/fault-redirect", json=chat_body("Hi"))
    assert answer.status_code == 302
    assert answer.headers["location"] == "/endpoints/balanced-medium"


async def test_an_unknown_endpoint_is_404_and_names_those_there_are(
    client: httpx2.AsyncClient,
) -> None:
    answer = await client.post("/endpoints/nobody", json=chat_body("Hi"))
    assert answer.status_code == 404
    assert answer.json()["error"]["message"].startswith("No endpoint 'nobody'; there are careful-")


async def test_a_wrong_body_is_400(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/endpoints/quick-small", json={"input": "Hi"})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("messages: ")
