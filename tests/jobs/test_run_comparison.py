"""Two runs compared: what has become worse comes first; and results by score and disagreement."""

from typing import Any

import httpx2
import pytest

from app.services import Process
from tests.conftest import ask, await_run
from tests.factories import Tenant
from tests.jobs.conftest import make_board
from tests.jobs.test_promotions import Models
from tests.jobs.test_run_lifecycle import start
from tests.model_peer import ModelPeer

COMPARE = """query($a: ID!, $b: ID!, $after: String, $of: ID) { runComparison(a: $a, b: $b) {
  rowCount a { id } b { id }
  candidates { scoreA scoreB betterCount worseCount changedCount candidate { displayName }
    meanDifference { difference low high pValue rowCount method } }
  rows(first: 3, after: $after, candidateId: $of) { totalCount pageInfo { endCursor hasNextPage }
    nodes { difference outputB candidate { displayName } row { input } } } } }"""
RESULTS = """query($id: ID!, $filter: ResultFilterInput, $order: ResultOrder!, $after: String) {
  run(id: $id) { results(first: 50, after: $after, filter: $filter, orderBy: $order) {
    totalCount pageInfo { endCursor } nodes { score position candidate { displayName } } } } }"""


async def compare(client: httpx2.AsyncClient, a: str, b: str, **options: Any) -> Any:
    answer = await ask(client, COMPARE, a=a, b=b, **options)
    assert "errors" not in answer, answer
    return answer["data"]["runComparison"]


async def test_what_became_worse_comes_first_and_pages_go_on(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant, peer: ModelPeer
) -> None:
    peer.answer = models = Models(one=100, two=50)
    board, (_, two) = await make_board(process, tenant, peer, "one", "two")
    a = await await_run(client, board.id, await start(client, board.id))
    models.right = {"one": 90, "two": 52}
    b = await await_run(client, board.id, await start(client, board.id))
    seen = await compare(client, a["id"], b["id"])
    assert (seen["a"], seen["b"], seen["rowCount"]) == ({"id": a["id"]}, {"id": b["id"]}, 120)
    lost, won = seen["candidates"]
    assert lost["candidate"]["displayName"] == "one"
    assert (lost["betterCount"], lost["worseCount"], lost["changedCount"]) == (0, 10, 10)
    assert (lost["scoreA"], lost["scoreB"]) == (pytest.approx(100 / 120), pytest.approx(90 / 120))
    difference = lost["meanDifference"]
    assert difference["difference"] == pytest.approx(-10 / 120)
    assert difference["pValue"] == pytest.approx(2 / 2**10)
    assert difference["low"] < difference["difference"] < difference["high"] < 0
    assert (difference["rowCount"], difference["method"]) == (120, "MCNEMAR_EXACT")
    assert (won["betterCount"], won["worseCount"]) == (2, 0)
    found, after = [], None
    while True:
        rows = (await compare(client, a["id"], b["id"], after=after))["rows"]
        found += rows["nodes"]
        after = rows["pageInfo"]["endCursor"]
        if len(found) >= 12:
            break
    assert rows["totalCount"] == 240
    assert [row["difference"] for row in found] == [-1.0] * 10 + [0.0] * 2
    assert {row["row"]["input"] for row in found[:10]} == {str(n) for n in range(90, 100)}
    assert {(row["outputB"], row["candidate"]["displayName"]) for row in found[:10]} == {
        ("wrong", "one")
    }
    of_two = (await compare(client, a["id"], b["id"], of=str(two.id)))["rows"]
    assert of_two["totalCount"] == 120
    assert [row["difference"] for row in of_two["nodes"]] == [0.0] * 3


async def test_runs_over_different_snapshots_are_compared_on_the_rows_that_both_have(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant, peer: ModelPeer
) -> None:
    peer.answer = Models(one=100)
    board, _ = await make_board(process, tenant, peer, "one")
    a = await await_run(client, board.id, await start(client, board.id))
    # Other rows in front, some gone, and one twice: places say nothing any longer.
    peer.rows = [{"input": "999", "expected": "999"}, *peer.rows[20:], peer.rows[30]]
    b = await await_run(client, board.id, await start(client, board.id))
    assert a["snapshot_id"] != b["snapshot_id"]
    seen = await compare(client, a["id"], b["id"])
    assert seen["rowCount"] == 100
    (same,) = seen["candidates"]
    assert (same["betterCount"], same["worseCount"], same["changedCount"]) == (0, 0, 0)
    assert same["meanDifference"]["pValue"] == 1.0


async def test_runs_of_different_leaderboards_are_not_compared_and_strangers_see_none(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant, peer: ModelPeer
) -> None:
    runs = []
    for _ in range(2):
        board, _ = await make_board(process, tenant, peer, "one")
        runs.append(await await_run(client, board.id, await start(client, board.id)))
    answer = await ask(client, COMPARE, a=runs[0]["id"], b=runs[1]["id"])
    assert answer["errors"][0]["extensions"]["code"] == "invalid_input"
    assert runs[1]["id"] in answer["errors"][0]["message"]
    missing = await ask(client, COMPARE, a=runs[0]["id"], b=str(tenant.workspace_id))
    assert missing["errors"][0]["extensions"]["code"] == "not_found"


async def test_results_are_filtered_by_score_and_ordered_by_disagreement(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant, peer: ModelPeer
) -> None:
    peer.answer = Models(one=100, two=70)
    board, _ = await make_board(process, tenant, peer, "one", "two")
    run = await await_run(client, board.id, await start(client, board.id))
    wrong = await ask(client, RESULTS, id=run["id"], filter={"maxScore": 0.5}, order="BEST_FIRST")
    assert wrong["data"]["run"]["results"]["totalCount"] == 20 + 50
    right = await ask(client, RESULTS, id=run["id"], filter={"minScore": 0.5}, order="STORED")
    assert right["data"]["run"]["results"]["totalCount"] == 100 + 70
    disputed: list[Any] = []
    after, results = None, None
    for _ in range(2):
        answer = await ask(client, RESULTS, id=run["id"], order="MOST_DISPUTED_FIRST", after=after)
        assert "errors" not in answer, answer
        results = answer["data"]["run"]["results"]
        disputed += results["nodes"]
        after = results["pageInfo"]["endCursor"]
    assert results is not None
    assert results["totalCount"] == 240
    assert {row["position"] for row in disputed[:60]} == set(range(70, 100))
    assert not {row["position"] for row in disputed[60:]} & set(range(70, 100))
