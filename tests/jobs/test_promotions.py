"""What a ranking does to production, and the way back."""

from typing import Any
from uuid import UUID

import httpx2
import pytest

from app.services import Process
from db.models import Leaderboard
from tests.conftest import ask, await_run
from tests.factories import Tenant, make_tenant
from tests.jobs.conftest import PEER_ROWS, make_board
from tests.jobs.test_run_lifecycle import start
from tests.model_peer import ModelPeer

SEEN = """query($id: ID!) { leaderboard(id: $id) {
  productionCandidate { displayName }
  ranking { verdict decision }
  promotions { totalCount nodes {
    id cause rule numbers undoneEventId
    fromCandidate { displayName } toCandidate { displayName } run { id } } } } }"""
ROLL_BACK = """mutation($input: RollBackProductionInput!) {
  rollBackProduction(input: $input) {
    leaderboard { productionCandidate { displayName } }
    event { cause undoneEventId toCandidate { displayName } } } }"""


class Models:
    """Two models of which each is right on so many rows."""

    def __init__(self, **right: int) -> None:
        self.right = right

    def __call__(self, name: str, question: str) -> str:
        return question if int(question) < self.right[name] else "wrong"


async def look(client: httpx2.AsyncClient, board: Leaderboard) -> Any:
    answer = await ask(client, SEEN, id=str(board.id))
    assert "errors" not in answer, answer
    return answer["data"]["leaderboard"]


def served(seen: Any) -> str | None:
    production = seen["productionCandidate"]
    return None if production is None else production["displayName"]


async def rank(client: httpx2.AsyncClient, board: Leaderboard) -> Any:
    return await await_run(client, board.id, await start(client, board.id))


async def test_always_takes_the_winner_of_each_ranking_and_a_rollback_puts_the_old_one_back(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant, peer: ModelPeer
) -> None:
    peer.answer = models = Models(one=100, two=99)
    board, _ = await make_board(process, tenant, peer, "one", "two")
    first = await rank(client, board)
    assert (first["ranking"]["verdict"], served(await look(client, board))) == ("PROMOTE", "one")
    models.right = {"one": 99, "two": 100}
    second = await rank(client, board)
    seen = await look(client, board)
    assert served(seen) == "two"
    newest, oldest = seen["promotions"]["nodes"]
    assert (oldest["fromCandidate"], oldest["toCandidate"]) == (None, {"displayName": "one"})
    assert (newest["cause"], newest["rule"], newest["run"]) == (
        "PROMOTION", "ALWAYS", {"id": second["id"]},
    )  # fmt: skip
    back = await ask(client, ROLL_BACK, input={"leaderboardId": str(board.id)})
    assert back["data"]["rollBackProduction"] == {
        "leaderboard": {"productionCandidate": {"displayName": "one"}},
        "event": {
            "cause": "ROLLBACK",
            "undoneEventId": newest["id"],
            "toCandidate": {"displayName": "one"},
        },
    }
    answer = await client.post(f"/v1/leaderboard/{board.id}/inference", json={"input": "7"})
    assert answer.headers["X-Dr.Gero-Selected-Model"] == "one"
    twice = await ask(client, ROLL_BACK, input={"leaderboardId": str(board.id)})
    assert "name the event to undo" in twice["errors"][0]["message"]
    forth = await ask(
        client, ROLL_BACK, input={"leaderboardId": str(board.id), "eventId": oldest["id"]}
    )
    assert forth["errors"][0]["extensions"]["code"] == "conflict"
    assert (await look(client, board))["promotions"]["totalCount"] == 3


async def test_confident_needs_evidence_and_the_verdict_has_its_numbers(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant, peer: ModelPeer
) -> None:
    peer.answer = models = Models(one=60, two=50)
    promotion = {"rule": "confident", "confidence": 0.95}
    board, (one, two) = await make_board(process, tenant, peer, "one", "two", promotion=promotion)
    assert (await rank(client, board))["ranking"]["verdict"] == "PROMOTE"
    models.right = {"one": 60, "two": 63}
    held = (await rank(client, board))["ranking"]
    assert held["verdict"] == "INSUFFICIENT"
    (compared,) = held["decision"]["comparisons"]
    assert compared["candidate_id"] == str(two.id)
    assert compared["against_candidate_id"] == str(one.id)
    assert compared["p_value"] == pytest.approx(1 / 8)
    assert compared["row_count"] == PEER_ROWS
    assert served(await look(client, board)) == "one"
    models.right = {"one": 60, "two": 70}
    promoted = (await rank(client, board))["ranking"]
    assert promoted["verdict"] == "PROMOTE"
    assert served(await look(client, board)) == "two"


async def test_a_run_decides_by_the_rule_that_it_was_asked_for_with(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant, peer: ModelPeer
) -> None:
    peer.answer = models = Models(one=60, two=50)
    board, _ = await make_board(process, tenant, peer, "one", "two")
    await rank(client, board)
    models.right = {"one": 60, "two": 61}
    peer.open.clear()
    run_id = await start(client, board.id)
    changed = await client.patch(
        f"/api/leaderboards/{board.id}", json={"promotion": {"rule": "confident"}}
    )
    assert changed.json()["promotion"]["rule"] == "confident"
    peer.open.set()
    await await_run(client, board.id, run_id)
    assert served(await look(client, board)) == "two"


async def test_pinning_and_removing_are_changes_of_production_too(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant, peer: ModelPeer
) -> None:
    peer.answer = Models(one=100, two=50, three=20)
    board, (one, two, three) = await make_board(process, tenant, peer, "one", "two", "three")

    async def change(**fields: object) -> None:
        answer = await client.patch(f"/api/leaderboards/{board.id}", json=fields)
        assert answer.status_code == 200, answer.text

    await change(model_selection="manual", selected_leaderboard_model_id=str(three.id))
    assert served(await look(client, board)) is None  # nothing serves before the first ranking
    pinned = (await rank(client, board))["ranking"]
    assert (pinned["verdict"], pinned["decision"]["rule"]) == ("PROMOTE", "manual")
    await change(selected_leaderboard_model_id=str(two.id))
    await change(selected_leaderboard_model_id=str(two.id))  # which changes nothing
    await change(model_selection="ranking_winner")
    assert served(await look(client, board)) == "two"  # until a ranking says otherwise
    await change(selected_leaderboard_model_id=None)
    await rank(client, board)
    removed = await client.delete(f"/api/leaderboards/{board.id}/models/{one.id}")
    assert removed.status_code == 204
    seen = await look(client, board)
    assert served(seen) == "two"
    story = [
        (event["cause"], event["toCandidate"]["displayName"])
        for event in reversed(seen["promotions"]["nodes"])
    ]
    assert story == [
        ("PROMOTION", "three"), ("SELECTION", "two"), ("PROMOTION", "one"), ("REMOVAL", "two"),
    ]  # fmt: skip


async def test_a_limit_keeps_the_best_out_and_nobody_within_it_leaves_production_empty(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant, peer: ModelPeer
) -> None:
    peer.answer = Models(one=100, two=50)
    promotion = {"rule": "always", "max_cost_per_1k_requests_usd": "0.5"}
    board, _ = await make_board(process, tenant, peer, "one", "two", promotion=promotion)
    ranking = (await rank(client, board))["ranking"]  # each call costs 0.001 USD
    assert ranking["verdict"] == "HOLD"
    assert ranking["decision"]["reason"] == "no candidate is within the limits"
    assert "1,000 requests cost 1 USD" in str(ranking["decision"]["refused"])
    answer = await client.post(f"/v1/leaderboard/{board.id}/inference", json={"input": "7"})
    assert (answer.status_code, answer.json()["code"]) == (409, "ranking_not_ready")


async def test_no_other_door_leads_around_a_held_promotion(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant, peer: ModelPeer
) -> None:
    peer.answer = models = Models(one=60, two=50, dear=20)
    promotion = {"rule": "confident", "max_cost_per_1k_requests_usd": "5", "min_score": 0.3}
    board, (one, two, _) = await make_board(
        process, tenant, peer, "one", "two", "dear", promotion=promotion
    )
    await rank(client, board)
    models.right = {"one": 60, "two": 63, "dear": 20}
    assert (await rank(client, board))["ranking"]["verdict"] == "INSUFFICIENT"
    same = await client.patch(
        f"/api/leaderboards/{board.id}", json={"model_selection": "ranking_winner"}
    )
    assert same.json()["production_leaderboard_model_id"] == str(one.id)
    for candidate in (one, two):  # and the last one is below the least score
        await client.delete(f"/api/leaderboards/{board.id}/models/{candidate.id}")
    assert served(await look(client, board)) is None


@pytest.mark.parametrize(
    ("promotion", "said"),
    [
        ({"rule": "cheapest_within"}, "epsilon goes with rule cheapest_within"),
        ({"rule": "always", "epsilon": 0.1}, "epsilon goes with rule cheapest_within"),
        ({"rule": "best"}, "promotion.rule: "),
        ({"confidence": 1}, "promotion.confidence: "),
        ({"confidence": 0.5}, "promotion.confidence: "),
        ({"min_score": 2}, "promotion.min_score: "),
        ({"max_latency_ms_p95": 0}, "promotion.max_latency_ms_p95: "),
        ({"colour": "red"}, "promotion.colour: unknown field"),
    ],
)
async def test_a_rule_that_is_none_is_refused_by_its_field(
    client: httpx2.AsyncClient,
    process: Process,
    tenant: Tenant,
    peer: ModelPeer,
    promotion: dict[str, object],
    said: str,
) -> None:
    board, _ = await make_board(process, tenant, peer)
    answer = await client.patch(f"/api/leaderboards/{board.id}", json={"promotion": promotion})
    assert answer.status_code == 400
    assert said in answer.json()["error"]


async def test_another_workspace_s_events_are_not_there(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant, peer: ModelPeer
) -> None:
    peer.answer = Models(one=100, two=50)
    board, _ = await make_board(process, tenant, peer, "one", "two")
    await rank(client, board)
    stranger = await make_tenant(process)
    client.headers.update(stranger.headers)
    refused = await ask(client, ROLL_BACK, input={"leaderboardId": str(board.id)})
    assert refused["errors"][0]["extensions"]["code"] == "not_found"
    own, _ = await make_board(process, stranger, peer, "one")
    event = str(UUID(int=1))
    missing = await ask(client, ROLL_BACK, input={"leaderboardId": str(own.id), "eventId": event})
    assert missing["errors"][0]["extensions"]["code"] == "not_found"
