"""Candidates that can no longer win stop being asked, and the ranking says what that saved."""

import hashlib

import httpx2
import pytest

from app.services import Process
from tests.conftest import ask, await_run
from tests.factories import Tenant
from tests.jobs.conftest import make_board
from tests.jobs.test_run_lifecycle import start
from tests.model_peer import ModelPeer

ACCURACY = {"best": 95, "fair": 40, "poor": 20, "bad": 5}
# In the order of some other seed the poor one's first rows may happen to be the bad one's best.
SEEDED = {"mode": "ALL", "seed": 7}


def answer(name: str, question: str) -> str:
    """Answer right to a share of the questions that does not depend on their order."""
    draw = hashlib.sha256(f"{name}:{question}".encode()).digest()[0] * 100 // 256
    return question if draw < ACCURACY[name] else "wrong"


@pytest.fixture
async def long_peer(peer: ModelPeer) -> ModelPeer:
    peer.rows = [{"input": str(n), "expected": str(n)} for n in range(600)]
    peer.answer = answer
    return peer


async def test_who_can_no_longer_win_is_asked_no_more_and_the_winner_is_the_same(
    client: httpx2.AsyncClient,
    worker: None,
    process: Process,
    tenant: Tenant,
    long_peer: ModelPeer,
) -> None:
    board, _ = await make_board(process, tenant, long_peer, *ACCURACY)
    run_id = await start(client, board.id, earlyStopping=True, dataset=SEEDED)
    run = await await_run(client, board.id, run_id)
    assert run["status"] == "completed", run["error"]
    assert run["early_stopping"] is True
    ranking = run["ranking"]
    names = (await client.get(f"/api/leaderboards/{board.id}/models")).json()["models"]
    name_of = {model["id"]: model["display_name"] for model in names}
    ranked = [name_of[entry["leaderboard_model_id"]] for entry in ranking["entries"]]
    assert ranked == list(ACCURACY)
    asked = {
        name: entry["row_count"] for name, entry in zip(ranked, ranking["entries"], strict=True)
    }
    assert all(count % 50 == 0 for count in asked.values()), asked
    assert asked["bad"] <= asked["fair"] <= asked["best"] < 600
    assert ranking["saved_call_count"] == 4 * 600 - sum(asked.values())
    assert ranking["saved_call_count"] > 0.4 * 4 * 600
    assert ranking["saved_cost_usd"] == pytest.approx(0.001 * ranking["saved_call_count"])
    assert run["progress"]["done"] == run["progress"]["total"] == long_peer.call_count
    assert set(long_peer.calls.values()) == {1}


async def test_the_same_seed_stops_at_the_same_rows(
    client: httpx2.AsyncClient,
    worker: None,
    process: Process,
    tenant: Tenant,
    long_peer: ModelPeer,
) -> None:
    board, _ = await make_board(process, tenant, long_peer, *ACCURACY)
    found = []
    for _ in range(2):
        run_id = await start(client, board.id, earlyStopping=True, dataset=SEEDED)
        run = await await_run(client, board.id, run_id)
        found.append([(e["row_count"], e["score"]) for e in run["ranking"]["entries"]])
    assert found[0] == found[1]


async def test_early_stopping_is_refused_where_candidates_are_not_scored_on_the_same_rows(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, peer: ModelPeer
) -> None:
    evaluation = {"match": "exact", "errors": "leave_out"}
    board, _ = await make_board(process, tenant, peer, "best", evaluation=evaluation)
    refused = await ask(
        client,
        """mutation($id: ID!) {
             startRun(input: {leaderboardId: $id, earlyStopping: true}) { run { id } } }""",
        id=str(board.id),
    )
    assert refused["errors"][0]["extensions"]["code"] == "invalid_input"
    assert refused["errors"][0]["message"].startswith("early_stopping: ")
