"""Real answers of real models: the ranking of GSM8K that is known beforehand."""

import json
from collections.abc import AsyncIterator
from math import comb
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.serving import listen, serving, url_of
from tests.conftest import REPLAY_DATA, await_run

pytestmark = pytest.mark.skipif(
    not REPLAY_DATA.exists(), reason="the recorded GSM8K answers are not beside the checkout"
)
SCORES = {
    "175b_verification": 0.56,
    "6b_verification": 0.39,
    "175b_finetuning": 0.365,
    "6b_finetuning": 0.2225,
}


@pytest.fixture(scope="module")
def recorded() -> list[dict[str, Any]]:
    return [json.loads(line) for line in REPLAY_DATA.read_text().splitlines()]


@pytest.fixture
async def replay_url(recorded: list[dict[str, Any]]) -> AsyncIterator[str]:
    """Serve the questions as the hub would, and each model's recorded answers."""
    answers = {row["question"]: row["solutions"] for row in recorded}

    async def rows(_: Request) -> Response:
        lines = [{k: row[k] for k in ("id", "question", "answer")} for row in recorded]
        return Response("".join(json.dumps(line) + "\n" for line in lines))

    async def model(request: Request) -> Response:
        question = (await request.json())["messages"][-1]["content"].removeprefix("Q: ")
        content = answers[question][request.path_params["name"]]
        message = {"role": "assistant", "content": content}
        return JSONResponse({"choices": [{"index": 0, "message": message}], "cost_usd": 0.001})

    app = Starlette(
        routes=[
            Route("/datasets/openai/gsm8k/resolve/main/test.jsonl", rows),
            Route("/models/{name}", model, methods=["POST"]),
        ]
    )
    listener = listen("127.0.0.1", 0)
    async with serving(app, listener):
        yield url_of(listener)


@pytest.fixture
def setting_overrides(replay_url: str) -> dict[str, Any]:
    return {"huggingface_url": replay_url}


async def test_the_four_recorded_models_rank_as_published(
    client: httpx2.AsyncClient, worker: None, replay_url: str, recorded: list[dict[str, Any]]
) -> None:
    body = {
        "name": "gsm8k",
        "system_prompt": "Q: {question}",
        "dataset_url": f"{replay_url}/datasets/openai/gsm8k/resolve/main/test.jsonl",
        "evaluation": {"match": "number"},
    }
    board = (await client.post("/api/leaderboards", json=body)).json()["id"]
    for name in sorted(SCORES):
        added = await client.post(
            f"/api/leaderboards/{board}/models",
            json={
                "provider": "custom",
                "endpoint_url": f"{replay_url}/models/{name}",
                "display_name": name,
            },
        )
        assert added.status_code == 201, added.text
    models = (await client.get(f"/api/leaderboards/{board}/models")).json()["models"]
    names = {model["id"]: model["display_name"] for model in models}
    run = (await client.post(f"/api/leaderboards/{board}/run", json={})).json()
    ranking = (await await_run(client, board, run["id"]))["ranking"]
    entries = ranking["entries"]
    ranked = {names[entry["leaderboard_model_id"]]: entry["score"] for entry in entries}
    assert list(ranked.items()) == list(SCORES.items())
    assert ranking["confidence"] == 0.95
    for entry in entries:
        assert entry["score"] - 0.06 < entry["score_low"] < entry["score"] - 0.03
        assert entry["score"] + 0.03 < entry["score_high"] < entry["score"] + 0.06
    # Only the two in the middle can't be told apart: they differ on 98 rows, 54 to 44.
    assert [entry["band"] for entry in entries] == [1, 2, 2, 3]
    compared = entries[1]["next_comparison"]
    assert compared["method"] == "mcnemar_exact"
    assert compared["p_value"] == pytest.approx(2 * sum(comb(98, k) for k in range(54, 99)) / 2**98)
    assert compared["p_value"] == pytest.approx(0.36335, abs=1e-5)
    assert compared["difference"] == pytest.approx(0.025)
    assert compared["low"] < 0 < compared["high"]
    for entry in (entries[0], entries[2]):
        assert entry["next_comparison"]["p_value_adjusted"] < 1e-6
    assert [entry["is_on_pareto_front"] for entry in entries] == [True, False, False, False]
    answer = await client.post(
        f"/v1/leaderboard/{board}/inference", json={"question": recorded[0]["question"]}
    )
    assert answer.json()["output"] == recorded[0]["solutions"]["175b_verification"]
