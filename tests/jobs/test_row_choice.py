"""Which rows of a pushed dataset a run uses."""

from typing import Any

import httpx2

from app.services import Process
from db.models import Leaderboard
from engine.splits import is_validation
from tests.conftest import ask, await_run
from tests.factories import Tenant, make_candidate
from tests.model_peer import ModelPeer
from tests.rest_compat.test_consolidation import consolidate
from tests.rest_compat.test_push import make_push_board, push

RESULTS = """query($id: ID!) { run(id: $id) {
  rowCount datasetSize results(first: 200) { nodes { position row { input } } } } }"""
EDIT = "mutation($input: EditRowsInput!) { editRows(input: $input) { editCount } }"
START = (
    """mutation($input: StartRunInput!) { startRun(input: $input) { run { id datasetSize } } }"""
)
ESTIMATE = """mutation($input: StartRunInput!) {
  estimateRun(input: $input) { estimate { rowCount } } }"""


def numbered(count: int, *, start: int = 0) -> list[dict[str, str]]:
    inputs = [f"number {start + index}" for index in range(count)]
    return [{"id": each, "input": each, "output": each} for each in inputs]


async def make_pushed(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, peer: ModelPeer, count: int
) -> Leaderboard:
    """Store a leaderboard with pushed rows, and a candidate that answers what it is asked."""
    board = await make_push_board(process, tenant)
    await make_candidate(process, board, endpoint_url=peer.endpoint("echo"))
    assert (await push(client, board, numbered(count))).json()["accepted_rows"] == count
    return board


async def weigh(client: httpx2.AsyncClient, board: Leaderboard, weights: dict[str, float]) -> None:
    """Give rows their weights, by their ids."""
    edits = [{"externalId": name, "weight": weight} for name, weight in weights.items()]
    answer = await ask(client, EDIT, input={"leaderboardId": str(board.id), "rows": edits})
    assert answer["data"]["editRows"]["editCount"] == len(weights)


async def run_rows(
    client: httpx2.AsyncClient, board: Leaderboard, **dataset: Any
) -> tuple[dict[str, Any], list[str]]:
    """Run a leaderboard; return which rows its run says it uses, and the inputs of its results."""
    started = await client.post(f"/api/leaderboards/{board.id}/run", json={"dataset": dataset})
    assert started.status_code == 202, started.text
    ended = await await_run(client, board.id, started.json()["id"])
    assert ended["status"] == "completed", ended["error"]
    run = (await ask(client, RESULTS, id=ended["id"]))["data"]["run"]
    assert run["datasetSize"] == ended["dataset_size"]
    inputs = [node["row"]["input"] for node in run["results"]["nodes"]]
    assert run["rowCount"] == len(inputs) == len(set(inputs))
    return run["datasetSize"], sorted(inputs)


async def test_a_run_of_one_side_asks_exactly_its_rows(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, peer: ModelPeer, worker: None
) -> None:
    board = await make_pushed(client, process, tenant, peer, 60)
    await consolidate(client, board)
    every = {row["input"] for row in numbered(60)}
    validation = {text for text in every if is_validation(text)}
    assert 0 < len(validation) < 30
    for split, side in (("VALIDATION", validation), ("TRAIN", every - validation)):
        said, asked = await run_rows(client, board, split=split)
        assert (set(asked), said["split"], said["algorithm"]) == (side, split, "ALL")
    said, asked = await run_rows(client, board, split="ALL")
    assert (set(asked), "split" in said) == (every, False)
    limit = {"rows": 3, "algorithm": "LAST_N"}
    said, asked = await run_rows(client, board, mode="LIMIT", limit=limit, split="VALIDATION")
    assert (
        sorted(asked, key=lambda text: int(text.split()[-1]))
        == [text for text in (row["input"] for row in numbered(60)) if text in validation][-3:]
    )


async def test_a_side_is_chosen_in_graphql_too(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, peer: ModelPeer
) -> None:
    board = await make_pushed(client, process, tenant, peer, 60)
    await consolidate(client, board)
    weighted = {"rows": 4, "algorithm": "WEIGHTED_SHUFFLE"}
    given = {
        "leaderboardId": str(board.id),
        "dataset": {"mode": "LIMIT", "limit": weighted, "split": "VALIDATION", "seed": 5},
    }
    answer = await ask(client, START, input=given)
    assert answer["data"]["startRun"]["run"]["datasetSize"] == {
        "algorithm": "WEIGHTED_SHUFFLE", "rows": 4, "seed": 5, "split": "VALIDATION",
    }  # fmt: skip
    side = {"leaderboardId": str(board.id), "dataset": {"split": "VALIDATION"}}
    estimate = await ask(client, ESTIMATE, input=side)
    count = sum(is_validation(row["input"]) for row in numbered(60))
    assert estimate["data"]["estimateRun"]["estimate"]["rowCount"] == count


async def test_a_weighted_draw_repeats_and_never_takes_a_row_of_weight_0(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, peer: ModelPeer, worker: None
) -> None:
    board = await make_pushed(client, process, tenant, peer, 60)
    left_out = {f"number {n}": 0.0 for n in range(0, 60, 2)}
    await weigh(client, board, left_out | {"number 1": 1000.0})
    await consolidate(client, board)
    limit = {"rows": 10, "algorithm": "WEIGHTED_SHUFFLE"}
    said, asked = await run_rows(client, board, mode="LIMIT", limit=limit, seed=7)
    assert (said["seed"], len(asked)) == (7, 10)
    assert (await run_rows(client, board, mode="LIMIT", limit=limit, seed=7)) == (said, asked)
    assert "number 1" in asked
    _, others = await run_rows(client, board, mode="LIMIT", limit=limit, seed=8)
    assert set(others) != set(asked)
    limit = {"rows": 60, "algorithm": "WEIGHTED_SHUFFLE"}
    _, drawn = await run_rows(client, board, mode="LIMIT", limit=limit)
    assert set(drawn) == {f"number {n}" for n in range(1, 60, 2)}


async def test_the_last_rows_are_those_that_were_pushed_last(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, peer: ModelPeer, worker: None
) -> None:
    board = await make_pushed(client, process, tenant, peer, 40)
    await consolidate(client, board)
    await push(client, board, numbered(3, start=40))
    await push(client, board, numbered(2, start=43))
    await consolidate(client, board)
    limit = {"rows": 6, "algorithm": "LAST_N"}
    _, asked = await run_rows(client, board, mode="LIMIT", limit=limit)
    assert set(asked) == {f"number {n}" for n in range(39, 45)}
