"""The OpenRouter routes over HTTP: catalogue, key check, completions and refusals."""

import json
from decimal import Decimal
from typing import Any

import httpx2
import pytest

from app.sandbox.chat_requests import REQUEST_MAX_BYTES
from app.sandbox.models import MODELS
from app.sandbox.simulation import complete
from app.sandbox.tasks import list_task_rows
from tests.app.sandbox.serving import chat_body

CHAT = "/api/v1/chat/completions"
QUESTION = list_task_rows()[0]["question"]


async def test_the_catalogue_has_openrouters_shape_and_no_faults(
    client: httpx2.AsyncClient,
) -> None:
    answer = await client.get("/api/v1/models", headers={"Authorization": ""})
    assert answer.status_code == 200
    entries = answer.json()["data"]
    assert [entry["id"] for entry in entries] == [
        "sandbox/careful-large",
        "sandbox/balanced-medium",
        "sandbox/steady-medium",
        "sandbox/rambling-medium",
        "sandbox/quick-small",
        "sandbox/erratic-mini",
        "sandbox/fair-judge",
        "sandbox/labeller",
    ]
    erratic = entries[-3]
    assert erratic["pricing"] == {
        "prompt": "0.00000005",
        "completion": "0.0000002",
        "request": "0",
        "image": "0",
    }
    assert erratic["context_length"] == erratic["top_provider"]["context_length"] == 16_000
    assert erratic["top_provider"]["max_completion_tokens"] == 2048
    assert erratic["architecture"]["modality"] == "text->text"
    assert erratic["supported_parameters"] == [
        *("max_tokens", "temperature", "top_p", "seed"),
        *("tools", "tool_choice", "response_format", "structured_outputs"),
    ]
    assert erratic["created"] == 1_767_225_600


@pytest.mark.parametrize("key", ["sk-sandbox", "sk-sandbox-of-somebody"])
async def test_a_sandbox_key_is_valid(client: httpx2.AsyncClient, key: str) -> None:
    answer = await client.get("/api/v1/key", headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 200
    assert answer.json()["data"]["is_free_tier"] is False


@pytest.mark.parametrize("path", ["/api/v1/key", CHAT])
@pytest.mark.parametrize(
    ("authorization", "message"),
    [
        ("", "No auth credentials found"),
        ("sk-sandbox", "No auth credentials found"),
        ("Bearer sk-other", "User not found."),
    ],
)
async def test_any_other_key_is_401_in_openrouters_shape(
    client: httpx2.AsyncClient, path: str, authorization: str, message: str
) -> None:
    method = "POST" if path == CHAT else "GET"
    answer = await client.request(method, path, headers={"Authorization": authorization})
    assert answer.status_code == 401
    assert answer.json() == {"error": {"code": 401, "message": message}}


async def test_a_completion_carries_text_usage_and_exact_cost(client: httpx2.AsyncClient) -> None:
    answer = await client.post(CHAT, json=chat_body(QUESTION, model="sandbox/careful-large"))
    assert answer.status_code == 200
    body = json.loads(answer.text, parse_float=Decimal)
    expected = complete(
        MODELS["careful-large"], QUESTION, prompt_tokens=-(-len(QUESTION) // 4), max_tokens=None
    )
    assert body["object"] == "chat.completion"
    assert body["model"] == "sandbox/careful-large"
    assert body["choices"] == [
        {
            "index": 0,
            "logprobs": None,
            "finish_reason": "stop",
            "native_finish_reason": "stop",
            "message": {"role": "assistant", "content": expected.text, "refusal": None},
        }
    ]
    assert body["usage"] == {
        "prompt_tokens": expected.prompt_tokens,
        "completion_tokens": expected.completion_tokens,
        "total_tokens": expected.prompt_tokens + expected.completion_tokens,
        "cost": expected.cost_usd,
    }


async def test_two_completions_have_different_ids(client: httpx2.AsyncClient) -> None:
    body = chat_body(QUESTION, model="sandbox/quick-small")
    first, second = [(await client.post(CHAT, json=body)).json() for _ in range(2)]
    assert first["id"] != second["id"]
    assert first["choices"] == second["choices"]


async def test_max_tokens_ends_the_answer_with_length(client: httpx2.AsyncClient) -> None:
    body = chat_body(QUESTION, model="sandbox/rambling-medium", max_tokens=3)
    answer = (await client.post(CHAT, json=body)).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["choices"][0]["message"]["content"] == "Taking the q"
    assert answer["usage"]["completion_tokens"] == 3


async def test_the_last_user_message_is_answered_and_every_message_is_billed(
    client: httpx2.AsyncClient,
) -> None:
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Good morning"},
        {"role": "assistant", "content": None},
        {"role": "user", "content": [{"type": "text", "text": "Good "}, {"text": "night"}]},
        {"role": "assistant", "content": "Answer:"},
    ]
    body = {"model": "sandbox/quick-small", "messages": messages}
    answer = (await client.post(CHAT, json=body)).json()
    assert 'begins: "Good night"' in answer["choices"][0]["message"]["content"]
    assert answer["usage"]["prompt_tokens"] == 2 + 3 + 0 + 3 + 2


@pytest.mark.parametrize(
    "model", ["openai/gpt-5.2", "careful-large", "sandbox/", "sandbox/fault-redirect", None, 7]
)
async def test_an_unknown_model_is_400_and_named(client: httpx2.AsyncClient, model: object) -> None:
    answer = await client.post(CHAT, json=chat_body("Hi", model=model))
    assert answer.status_code == 400
    assert answer.json() == {"error": {"code": 400, "message": f"{model} is not a valid model ID"}}


USER = {"role": "user", "content": "Hi"}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": [USER, "Hi"]}, "messages[1]"),
        ({"messages": [{"content": "Hi"}]}, "messages[0]"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0]"),
        ({"messages": [USER], "max_tokens": 0}, "max_tokens"),
        ({"messages": [USER], "max_tokens": True}, "max_tokens"),
        ({"messages": [USER], "max_tokens": "9"}, "max_tokens"),
        ({"messages": [USER], "temperature": "hot"}, "temperature"),
        ({"messages": [USER], "stream": "yes"}, "stream"),
    ],
)
async def test_a_wrong_field_is_400_and_named(
    client: httpx2.AsyncClient, fields: dict[str, Any], named: str
) -> None:
    answer = await client.post(CHAT, json={"model": "sandbox/quick-small", **fields})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == 400
    assert answer.json()["error"]["message"].startswith(named)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff"])
async def test_a_body_that_is_no_json_object_is_400(
    client: httpx2.AsyncClient, content: bytes
) -> None:
    answer = await client.post(CHAT, content=content)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("The body is not ")


async def test_a_prompt_beyond_the_context_is_400_and_says_how_long_it_may_be(
    client: httpx2.AsyncClient,
) -> None:
    fits, passes = ("x" * 64_000, "x" * 64_001)
    model = "sandbox/erratic-mini"
    assert (await client.post(CHAT, json=chat_body(fits, model=model))).status_code == 200
    answer = await client.post(CHAT, json=chat_body(passes, model=model))
    assert answer.status_code == 400
    assert "maximum context length is 16000 tokens" in answer.json()["error"]["message"]


async def test_a_body_over_the_limit_is_413(client: httpx2.AsyncClient) -> None:
    answer = await client.post(CHAT, content=b" " * (REQUEST_MAX_BYTES + 1))
    assert answer.status_code == 413
