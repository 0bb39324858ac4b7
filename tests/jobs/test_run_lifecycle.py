"""Runs queue, are cancelled, hold their ceiling, are estimated, scored again and replayed."""

import asyncio
from decimal import Decimal
from typing import Any

import httpx2
from sqlalchemy import func, select

from app.services import Process
from db.models import Run, RunResult
from tests.conftest import ask, await_run
from tests.factories import Tenant
from tests.jobs.conftest import PEER_ROWS, make_board
from tests.model_peer import ModelPeer

START = """mutation($input: StartRunInput!) {
  startRun(input: $input) { run { id status earlyStopping maxCostUsd } } }"""
CANCEL = "mutation($id: ID!) { cancelRun(input: {id: $id}) { run { id status finishedAt } } }"
RESCORE = "mutation($id: ID!) { rescoreRun(input: {runId: $id}) { run { id kind } } }"
REPLAY = "mutation($id: ID!) { replayRun(input: {runId: $id}) { run { id kind } } }"
ESTIMATE = """mutation($input: StartRunInput!) { estimateRun(input: $input) { estimate {
  rowCount callCount expectedUsd mostUsd candidates { basis expectedUsd candidate { id } } } } }"""


def half_right(name: str, question: str) -> str:
    return question if name == "good" or int(question) % 2 else "wrong"


async def start(client: httpx2.AsyncClient, board: object, **options: Any) -> str:
    answer = await ask(client, START, input={"leaderboardId": str(board), **options})
    run_id: str = answer["data"]["startRun"]["run"]["id"]
    return run_id


async def until_called(peer: ModelPeer, count: int) -> None:
    async with asyncio.timeout(20):
        while peer.call_count < count:
            await asyncio.sleep(0.01)


async def test_runs_of_a_leaderboard_go_one_by_one_and_keep_the_inputs_they_were_asked_with(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant, peer: ModelPeer
) -> None:
    board, _ = await make_board(process, tenant, peer, "good")
    peer.open.clear()
    first = await start(client, board.id)
    await until_called(peer, 1)
    second, third = await start(client, board.id), await start(client, board.id)
    changed = await client.patch(
        f"/api/leaderboards/{board.id}", json={"system_prompt": "changed {input}"}
    )
    assert changed.status_code == 200
    fourth = await start(client, board.id)
    await asyncio.sleep(0.5)
    listed = (await client.get(f"/api/leaderboards/{board.id}/runs")).json()["runs"]
    states = {run["id"]: run["status"] for run in listed}
    assert [states[each] for each in (first, second, third, fourth)] == [
        "running", "queued", "queued", "queued",
    ]  # fmt: skip
    cancelled = await ask(client, CANCEL, id=second)
    assert cancelled["data"]["cancelRun"]["run"]["status"] == "CANCELLED"
    peer.open.set()
    ended = [await await_run(client, board.id, each) for each in (first, third, fourth)]
    assert [run["status"] for run in ended] == ["completed"] * 3
    begun, over = "started_at", "finished_at"
    assert ended[0][over] <= ended[1][begun] <= ended[1][over] <= ended[2][begun]
    scores = [run["ranking"]["entries"][0]["score"] for run in ended]
    assert scores == [1.0, 1.0, 0.0]  # the last one was asked with the changed prompt
    assert peer.call_count == 3 * PEER_ROWS


async def test_cancelling_stops_new_calls_within_a_second_and_keeps_what_is_done(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant, peer: ModelPeer
) -> None:
    board, _ = await make_board(process, tenant, peer, "good", "other")
    peer.seconds = 0.05
    run_id = await start(client, board.id)
    await until_called(peer, 30)
    answer = await ask(client, CANCEL, id=run_id)
    run = answer["data"]["cancelRun"]["run"]
    assert run["status"] == "CANCELLED"
    assert run["finishedAt"] is not None
    await asyncio.sleep(1.0)
    called = peer.call_count
    assert called < 2 * PEER_ROWS
    await asyncio.sleep(0.5)
    assert peer.call_count == called
    async with process.database.read() as session:
        stored = (await session.scalars(select(RunResult).where(RunResult.run_id == run_id))).all()
    assert len(stored) == called
    again = await ask(client, CANCEL, id=run_id)
    assert again["data"]["cancelRun"]["run"]["status"] == "CANCELLED"
    listed = (await client.get(f"/api/leaderboards/{board.id}/runs")).json()["runs"]
    assert listed[0]["ranking"] is None


async def test_an_ended_run_can_t_be_cancelled_and_another_workspace_s_is_not_there(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant, peer: ModelPeer
) -> None:
    board, _ = await make_board(process, tenant, peer, "good")
    run_id = await start(client, board.id)
    await await_run(client, board.id, run_id)
    refused = await ask(client, CANCEL, id=run_id)
    assert refused["errors"][0]["extensions"]["code"] == "conflict"
    for mutation in (CANCEL, RESCORE, REPLAY):
        missing = await ask(client, mutation, id="01900000-0000-7000-8000-00000000dead")
        assert missing["errors"][0]["extensions"]["code"] == "not_found"


async def test_a_run_stops_before_its_ceiling_and_says_so(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant, peer: ModelPeer
) -> None:
    board, _ = await make_board(process, tenant, peer, "good")
    # A call may cost a little over 1,024 tokens at a millionth of a dollar; it does cost 0.001.
    run_id = await start(client, board.id, maxCostUsd="0.03")
    run = await await_run(client, board.id, run_id)
    assert run["status"] == "failed"
    assert run["error"].startswith("the run stopped before its ceiling of 0.03"), run["error"]
    assert 0.02 < run["cost_usd"] <= 0.03
    async with asyncio.timeout(20):
        while True:  # the calls that were under way are stored as they come back
            async with process.database.read() as session:
                stored = await session.get_one(Run, run_id)
                total = await session.scalar(
                    select(func.sum(RunResult.cost_usd)).where(RunResult.run_id == run_id)
                )
            spent = total or Decimal(0)
            assert spent <= stored.committed_usd <= Decimal("0.03")
            if stored.committed_usd == spent:
                break
            await asyncio.sleep(0.02)
    assert spent == Decimal("0.001") * peer.call_count
    assert stored.estimated_cost_usd is not None


async def test_a_run_that_is_expected_to_pass_its_ceiling_makes_no_call(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant, peer: ModelPeer
) -> None:
    board, _ = await make_board(process, tenant, peer, "good")
    await await_run(client, board.id, await start(client, board.id))
    run = await await_run(client, board.id, await start(client, board.id, maxCostUsd="0.1"))
    assert run["status"] == "failed"
    assert "would cost about 0.12 USD" in run["error"]
    assert peer.call_count == PEER_ROWS


async def test_a_ceiling_over_a_candidate_of_unknown_price_is_refused(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, peer: ModelPeer
) -> None:
    board, _ = await make_board(process, tenant, peer)
    added = await client.post(
        f"/api/leaderboards/{board.id}/models",
        json={"provider": "custom", "endpoint_url": peer.endpoint("free")},
    )
    refused = await client.post(f"/api/leaderboards/{board.id}/run", json={"max_cost_usd": 1})
    assert refused.status_code == 400
    assert added.json()["id"] in refused.json()["error"]
    assert refused.json()["details"]["field"] == "max_cost_usd"


async def test_an_estimate_rests_on_prices_and_then_on_what_was_measured(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant, peer: ModelPeer
) -> None:
    board, (candidate,) = await make_board(process, tenant, peer, "good")
    what = {"leaderboardId": str(board.id), "dataset": {"mode": "LIMIT", "limit": {"rows": 100}}}
    answer = await ask(client, ESTIMATE, input=what)
    assumed = answer["data"]["estimateRun"]["estimate"]
    assert (assumed["rowCount"], assumed["callCount"]) == (100, 100)
    assert assumed["candidates"] == [
        {
            "basis": "ASSUMED",
            "expectedUsd": assumed["expectedUsd"],
            "candidate": {"id": str(candidate.id)},
        }
    ]
    assert 0.02 <= float(assumed["expectedUsd"]) < 0.021  # 200 tokens a call, at 1 USD a million
    assert float(assumed["mostUsd"]) > 0.1
    assert peer.call_count == 0
    await await_run(client, board.id, await start(client, board.id))
    measured = (await ask(client, ESTIMATE, input=what))["data"]["estimateRun"]["estimate"]
    assert measured["candidates"][0]["basis"] == "MEASURED"
    assert float(measured["expectedUsd"]) == 0.1
    assert measured["mostUsd"] == assumed["mostUsd"]


async def test_a_run_is_scored_again_without_a_call_by_the_evaluation_of_today(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant, peer: ModelPeer
) -> None:
    peer.answer = lambda name, question: f"Answer: {question}" if name == "wordy" else question
    board, _ = await make_board(process, tenant, peer, "wordy", "plain")
    first = await await_run(client, board.id, await start(client, board.id))
    assert [entry["score"] for entry in first["ranking"]["entries"]] == [1.0, 0.0]
    called = peer.call_count
    evaluation = {"match": "exact", "extract": r"(\d+)"}
    await client.patch(f"/api/leaderboards/{board.id}", json={"evaluation": evaluation})
    answer = await ask(client, RESCORE, id=first["id"])
    again = answer["data"]["rescoreRun"]["run"]
    assert again["kind"] == "RESCORE"
    ended = await await_run(client, board.id, again["id"])
    assert ended["status"] == "completed"
    assert ended["source_run_id"] == first["id"]
    assert [entry["score"] for entry in ended["ranking"]["entries"]] == [1.0, 1.0]
    assert ended["progress"] == {"done": 240, "failed": 0, "total": 240}
    assert peer.call_count == called
    costs = [[entry["cost_usd"] for entry in run["ranking"]["entries"]] for run in (first, ended)]
    assert costs[0] == costs[1]


async def test_a_replay_asks_the_same_again_and_changes_neither_ranking_nor_production(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant, peer: ModelPeer
) -> None:
    peer.answer = half_right
    board, (good, _) = await make_board(process, tenant, peer, "good", "bad")
    first = await await_run(client, board.id, await start(client, board.id))
    await client.patch(f"/api/leaderboards/{board.id}", json={"system_prompt": "changed {input}"})
    peer.answer = lambda name, question: half_right("bad" if name == "good" else "good", question)
    replay = (await ask(client, REPLAY, id=first["id"]))["data"]["replayRun"]["run"]
    ended = await await_run(client, board.id, replay["id"])
    assert (ended["status"], ended["kind"], ended["ranking"]) == ("completed", "replay", None)
    assert set(peer.calls.values()) == {2}  # the prompt is that of the first run
    seen = await ask(
        client,
        """query($id: ID!) { leaderboard(id: $id) {
             ranking { run { id } } productionCandidate { id } promotions { totalCount } } }""",
        id=str(board.id),
    )
    assert seen["data"]["leaderboard"] == {
        "ranking": {"run": {"id": first["id"]}},
        "productionCandidate": {"id": str(good.id)},
        "promotions": {"totalCount": 1},
    }


async def test_scoring_again_what_did_not_complete_changes_no_production(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant, peer: ModelPeer
) -> None:
    board, _ = await make_board(process, tenant, peer, "good", "other")
    peer.seconds = 0.05
    run_id = await start(client, board.id)
    await until_called(peer, 40)
    await ask(client, CANCEL, id=run_id)
    again = (await ask(client, RESCORE, id=run_id))["data"]["rescoreRun"]["run"]["id"]
    ended = await await_run(client, board.id, again)
    assert (ended["status"], ended["ranking"]["verdict"]) == ("completed", "HOLD")
    assert "did not complete" in ended["ranking"]["decision"]["reason"]
    assert ended["ranking"]["row_count"] < PEER_ROWS
    shown = (await client.get(f"/api/leaderboards/{board.id}")).json()
    assert shown["production_leaderboard_model_id"] is None
