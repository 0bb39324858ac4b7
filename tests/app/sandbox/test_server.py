"""The sandbox as a whole over HTTP: its own pages, its mark, and what it counts."""

import httpx2
import pytest

from app.sandbox.ledger import CallLedger, RecentCounts
from app.sandbox.server import create_sandbox
from tests.app.sandbox.serving import chat_body, serve_sandbox


async def test_the_first_page_says_that_it_is_a_simulation(client: httpx2.AsyncClient) -> None:
    page = (await client.get("/")).json()
    assert page["simulated"] is True
    assert page["openrouter"]["base_path"] == "/api/v1"
    assert page["openrouter"]["key"] == "sk-sandbox"
    assert "sandbox/careful-large" in page["openrouter"]["models"]
    assert "/endpoints/shape-plain" in page["custom_endpoints"]
    assert page["huggingface"]["token"] == "hf_sandbox"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/stats", 200),
        ("GET", "/api/v1/models", 200),
        ("GET", "/nowhere", 404),
        ("GET", "/api/v1/models/", 404),
        ("GET", "/endpoints/quick-small", 405),
        ("POST", "/api/v1/chat/completions", 400),
        ("POST", "/endpoints/fault-huge", 400),
        ("GET", "/datasets/gero-sandbox/tasks/resolve/main/tasks.jsonl", 200),
        ("GET", "/datasets/gero-sandbox/faults/resolve/main/server-error.jsonl", 500),
        ("GET", "/datasets/gero-sandbox/sized/resolve/main/rows-9.jsonl", 200),
    ],
)
async def test_every_answer_is_marked_as_simulated(
    client: httpx2.AsyncClient, method: str, path: str, status: int
) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["x-gero-sandbox"] == "simulated"


async def test_a_path_that_is_not_there_is_json_and_names_the_dataset_files(
    client: httpx2.AsyncClient,
) -> None:
    answer = await client.get("/nowhere")
    assert answer.json()["error"] == {"code": 404, "message": "Not Found"}
    files = answer.json()["dataset_files"]
    assert "/datasets/gero-sandbox/tasks/resolve/main/tasks.jsonl" in files


async def test_the_stats_count_calls_and_what_was_answered_twice(
    client: httpx2.AsyncClient,
) -> None:
    assert (await client.delete("/stats")).status_code == 204
    chat = "/api/v1/chat/completions"
    for text in ("one", "two", "one", "one"):
        await client.post(chat, json=chat_body(text, model="sandbox/quick-small"))
    await client.post("/endpoints/quick-small", json=chat_body("one"))
    await client.post(chat, json=chat_body("one", model="sandbox/fault-500"))
    await client.post(chat, json=chat_body("one", model="sandbox/fault-garbage"))
    await client.post(chat, json=chat_body("one", model="no/such-model"))
    assert (await client.get("/stats")).json() == {
        "calls": {
            "sandbox/quick-small": 4,
            "endpoints/quick-small": 1,
            "sandbox/fault-500": 1,
            "sandbox/fault-garbage": 1,
        },
        "answered": 3,
        "answered_more_than_once": 1,
    }


async def test_the_stats_can_be_reset(client: httpx2.AsyncClient) -> None:
    await client.post("/endpoints/quick-small", json=chat_body("one"))
    await client.delete("/stats")
    empty = {"calls": {}, "answered": 0, "answered_more_than_once": 0}
    assert (await client.get("/stats")).json() == empty


async def test_an_answer_nobody_waited_for_does_not_count_as_answered() -> None:
    """The second request outlasts the first: the same message takes the same time."""
    url = "/endpoints/quick-small"
    with serve_sandbox(latency_scale=50) as base_url:
        async with httpx2.AsyncClient(base_url=base_url) as client:
            with pytest.raises(httpx2.ReadTimeout):
                await client.post(url, json=chat_body("one"), timeout=0.05)
            assert (await client.post(url, json=chat_body("one"))).status_code == 200
            assert (await client.get("/stats")).json() == {
                "calls": {"endpoints/quick-small": 2},
                "answered": 1,
                "answered_more_than_once": 0,
            }


def test_the_ledger_remembers_the_latest_questions_only() -> None:
    counts = RecentCounts(max_count=2)
    assert [counts.add("m", text) for text in ("a", "b", "a", "c", "a", "b")] == [1, 1, 2, 1, 1, 1]


def test_the_same_text_to_another_model_is_another_question() -> None:
    ledger = CallLedger()
    ledger.count_answer("m", "text")
    ledger.count_answer("n", "text")
    assert ledger.report() == {"calls": {}, "answered": 2, "answered_more_than_once": 0}


def test_a_negative_latency_scale_is_refused() -> None:
    with pytest.raises(ValueError, match=r"latency_scale must not be negative, but is -1"):
        create_sandbox(latency_scale=-1)
