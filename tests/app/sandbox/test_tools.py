"""What the sandbox answers with besides text: tool calls, JSON of a schema; and to pictures."""

import json
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.sandbox.chat_requests import IMAGE_TOKENS
from app.sandbox.json_answers import write_json_answer
from app.sandbox.models import MODELS
from app.sandbox.simulation import complete
from app.sandbox.tasks import list_task_rows
from app.sandbox.tools import ToolCall, find_tool_calls
from providers.chat_tally import ChatTally
from tests.app.sandbox.serving import chat_body
from tests.providers.http_peer import chat_provider, target_at

CHAT = "/api/v1/chat/completions"
MODEL = "sandbox/careful-large"
NAMES = ["get_weather", "get_time", "get"]
TOOLS = [{"type": "function", "function": {"name": name}} for name in NAMES]
OSLO = ToolCall("get_weather", '{"city": "Oslo {}"}')
TIME = ToolCall("get_time", "{}")


@pytest.mark.parametrize(
    ("text", "choice", "calls"),
    [
        ("What is the weather?", None, []),
        ("Call get_time", None, [TIME]),
        ('call `get_weather` with {"city": "Oslo {}"}, please.', "auto", [OSLO]),
        ('CALL get_weather  with {"city": "Oslo {}"} and call get_time', None, [OSLO, TIME]),
        ("call get_times, call get-time, recall get_time", None, []),
        ("call get_time with {no JSON}", None, [TIME]),
        ("call get_time with {", None, [TIME]),
        ("call get_time", "none", []),
        ("Hello", "required", [ToolCall("get_weather", "{}")]),
        ("call get_time", "required", [TIME]),
        ("Hello", {"type": "function", "function": {"name": "get_time"}}, [TIME]),
        ("call get", {"type": "function", "function": {"name": "get_time"}}, [TIME]),
    ],
)
def test_a_tool_is_called_when_the_message_says_so(
    text: str, choice: object, calls: list[ToolCall]
) -> None:
    assert list(find_tool_calls(NAMES, choice, text)) == calls


@given(st.lists(st.text()), st.none() | st.text(), st.text())
def test_only_tools_that_there_are_are_called(names: list[str], choice: object, text: str) -> None:
    calls = find_tool_calls(names, choice, f"call {text}")
    assert {call.name for call in calls} <= set(names)
    for call in calls:
        json.loads(call.arguments)


async def test_tool_calls_are_answered_whole_and_streamed(
    client: httpx2.AsyncClient, sandbox_url: str
) -> None:
    text = 'Call get_weather with {"city": "Oslo {}"} and call get_time.'
    body = chat_body(text, model=MODEL, tools=TOOLS)
    (choice,) = (await client.post(CHAT, json=body)).json()["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "tool_calls": [
            {
                "id": f"call_sandbox_{index}",
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for index, call in enumerate([OSLO, TIME])
        ],
    }
    target = target_at(None, model_id=MODEL)
    tally = ChatTally(target)
    async with (
        chat_provider(sandbox_url=sandbox_url) as provider,
        provider.open_stream(target, body["messages"], {"tools": TOOLS}) as stream,  # type: ignore[arg-type]
    ):
        async for chunk in stream:
            tally.add(chunk)
    completion = tally.answer().completion
    assert completion is not None
    (streamed,) = completion["choices"]
    assert streamed["finish_reason"] == "tool_calls"
    assert {**streamed["message"], "refusal": None} == choice["message"]


async def test_what_a_tool_answers_is_told_on(client: httpx2.AsyncClient) -> None:
    messages = [
        {"role": "user", "content": "Call get_time"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
        {"role": "tool", "tool_call_id": "1", "content": "12:00"},
    ]
    body = {"model": MODEL, "messages": messages, "tools": TOOLS}
    (choice,) = (await client.post(CHAT, json=body)).json()["choices"]
    assert choice["message"]["content"] == "The tool answered: 12:00"
    assert choice["finish_reason"] == "stop"


SCHEMA = {
    "type": "object",
    "properties": {
        "answer": {"type": "string"},
        "value": {"type": ["integer", "null"]},
        "ratio": {"type": "number"},
        "sure": {"type": "boolean"},
        "unit": {"enum": ["none", "m"]},
        "kind": {"const": "sum"},
        "steps": {"type": "array", "items": {"$ref": "#/$defs/step"}},
        "note": {"anyOf": [{"type": "null"}, {"type": "string"}]},
    },
    "$defs": {"step": {"type": "object", "properties": {"text": {"type": "string"}}}},
}


def test_an_answer_is_put_into_its_schema() -> None:
    assert json.loads(write_json_answer("Let us see.\nAnswer: 1,042 m", SCHEMA)) == {
        "answer": "1,042 m",
        "value": 1042,
        "ratio": 1042.0,
        "sure": True,
        "unit": "none",
        "kind": "sum",
        "steps": [{"text": "1,042 m"}],
        "note": None,
    }
    assert write_json_answer("Answer: yes", {}) == '{"answer": "yes"}'


def test_a_schema_that_holds_itself_comes_to_an_end() -> None:
    schema = {"type": "object", "properties": {"inner": {"$ref": "#"}}}
    assert json.loads(write_json_answer("x", schema))["inner"] is not None


async def test_a_response_format_makes_json(client: httpx2.AsyncClient) -> None:
    question = list_task_rows()[0]["question"]
    said = complete(MODELS["careful-large"], question, prompt_tokens=1, max_tokens=None).text
    answer = said.rpartition("Answer: ")[2]
    schema = {"type": "object", "properties": {"value": {"type": "string"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    for response_format, name in (({"type": "json_object"}, "answer"), (wanted, "value")):
        body = chat_body(question, model=MODEL, response_format=response_format)
        (choice,) = (await client.post(CHAT, json=body)).json()["choices"]
        assert json.loads(choice["message"]["content"]) == {name: answer}


async def test_pictures_are_taken_and_counted(client: httpx2.AsyncClient) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    parts = [{"type": "text", "text": "What is it"}, picture, picture]
    body = {"model": MODEL, "messages": [{"role": "user", "content": parts}]}
    answer = (await client.post(CHAT, json=body)).json()
    assert 'begins: "What is it"' in answer["choices"][0]["message"]["content"]
    assert answer["usage"]["prompt_tokens"] == 3 + 2 * IMAGE_TOKENS


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"tools": {}}, "tools: expected a list"),
        ({"tools": [{"type": "function"}]}, "tools[0]: expected a function"),
        ({"response_format": "json"}, "response_format: expected"),
        ({"response_format": {"type": "json_schema"}}, "response_format: expected"),
        ({"stream": 1}, "stream: expected true or false"),
    ],
)
async def test_a_wrong_field_is_400_and_named(
    client: httpx2.AsyncClient, fields: dict[str, Any], named: str
) -> None:
    answer = await client.post(CHAT, json=chat_body("Hi", model=MODEL, **fields))
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(named)
