"""Runs that improve a dataset: what they propose, who decides, and the snapshot that carries it."""

from typing import Any

import httpx2
import orjson
import pytest
from sqlalchemy import select

from app.services import Process
from app.settings import Settings
from db.base import new_id
from db.models import DatasetEdit, Leaderboard, ProposedChange, Run
from resolvers.inputs import NewImprovement
from resolvers.run_completion import advance_run
from resolvers.run_requests import improve_dataset
from tests.conftest import ask, await_run
from tests.factories import Tenant, make_candidate, make_tenant
from tests.jobs.test_crash import worker_process
from tests.model_peer import ModelPeer
from tests.rest_compat.test_consolidation import consolidate, download
from tests.rest_compat.test_push import make_push_board, push

ROWS = [
    {"id": "easy", "input": "1", "output": "1"},
    {"id": "telling", "input": "2", "output": "2"},
    {"id": "disputed", "input": "3", "output": "wrong"},
    {"id": "empty", "input": "4"},
    {"id": "hopeless", "input": "5", "output": "never"},
]
CHANGES = """
query ($id: ID!) {
  run(id: $id) {
    kind
    ranking { rowCount }
    improvement {
      id status decidedAt
      counts { kind decision count }
      changes(first: 50) {
        totalCount nodes { id kind field old new evidence decision row { externalId } }
      }
      snapshot { number }
    }
  }
}
"""
DECIDE = """
mutation ($id: ID!, $ids: [ID!]) {
  %s(input: {improvementId: $id, changeIds: $ids}) {
    improvement { status changes(first: 50) { nodes { id decision } } }
  }
}
"""


def answer(name: str, question: str) -> str:
    """Answer as two good models and a bad one do."""
    if question == "2":
        return "2" if name != "bad" else "two"
    if question == "5":
        return f"{name} has no idea"
    return question


@pytest.fixture
async def board(
    process: Process, tenant: Tenant, client: httpx2.AsyncClient, peer: ModelPeer
) -> Leaderboard:
    peer.answer = answer
    made = await make_push_board(process, tenant)
    async with process.database.write() as session:
        session.add(made)
        made.system_prompt, made.evaluation = "{input}", {"match": "exact"}
    for name in ("good", "fair", "bad"):
        await make_candidate(
            process, made, endpoint_url=peer.endpoint(name), display_name=name,
            input_price_per_million_usd=1, output_price_per_million_usd=1,
        )  # fmt: skip
    await push(client, made, ROWS)
    await consolidate(client, made)
    return made


async def improve(client: httpx2.AsyncClient, board: Leaderboard, **asked: Any) -> Any:
    """Run an improvement over REST to its end, and return it."""
    started = await client.post(f"/api/leaderboards/{board.id}/improve-dataset", json=asked)
    assert started.status_code == 202, started.text
    assert started.json()["kind"] == "improve_dataset"
    return await await_run(client, board.id, started.json()["id"])


async def proposed(client: httpx2.AsyncClient, run_id: str) -> Any:
    return (await ask(client, CHANGES, id=run_id))["data"]["run"]


async def decide(client: httpx2.AsyncClient, what: str, **variables: Any) -> Any:
    return await ask(client, DECIDE % what, **variables)


async def rows_by_id(client: httpx2.AsyncClient, board: Leaderboard) -> dict[str, Any]:
    content = (await download(client, board)).content
    return {row["id"]: row for row in map(orjson.loads, content.splitlines())}


async def test_a_run_proposes_changes_with_their_evidence_and_ranks_nobody(
    client: httpx2.AsyncClient, board: Leaderboard, worker: None
) -> None:
    ended = await improve(client, board)
    assert (ended["status"], ended["row_count"], ended["ranking"]) == ("completed", 5, None)
    run = await proposed(client, ended["id"])
    improvement = run["improvement"]
    assert (improvement["status"], improvement["decidedAt"]) == ("PENDING", None)
    changes = {each["row"]["externalId"]: each for each in improvement["changes"]["nodes"]}
    told = {name: (each["kind"], each["field"], each["new"]) for name, each in changes.items()}
    assert told == {
        "easy": ("EASY", "WEIGHT", 0.25),
        "telling": ("SEPARATES", "WEIGHT", 2.78),
        "disputed": ("FLAG", "TAGS", ["disputed"]),
        "empty": ("FILL", "EXPECTED", "4"),
    }
    evidence = changes["disputed"]["evidence"]
    assert (evidence["answer"], evidence["expected"], evidence["agreeing"]) == ("3", "wrong", 3)
    assert {(each["kind"], each["decision"], each["count"]) for each in improvement["counts"]} == {
        (kind, "PENDING", 1) for kind in ("EASY", "SEPARATES", "FLAG", "FILL")
    }
    shown = await ask(
        client,
        "query ($id: ID!) { leaderboard(id: $id) { dataset { improvements(first: 5) "
        "{ totalCount nodes { id run { id } } } } productionCandidate { id } } }",
        id=str(board.id),
    )
    found = shown["data"]["leaderboard"]
    assert found["productionCandidate"] is None
    assert found["dataset"]["improvements"]["nodes"] == [
        {"id": ended["id"], "run": {"id": ended["id"]}}
    ]


async def test_a_person_decides_row_by_row_and_the_next_snapshot_carries_what_was_accepted(
    client: httpx2.AsyncClient, board: Leaderboard, worker: None
) -> None:
    ended = await improve(client, board)
    changes = (await proposed(client, ended["id"]))["improvement"]["changes"]["nodes"]
    ids = {each["row"]["externalId"]: each["id"] for each in changes}
    accepted = await decide(client, "acceptChanges", id=ended["id"], ids=[ids["empty"]])
    assert accepted["data"]["acceptChanges"]["improvement"]["status"] == "PENDING"
    rejected = await decide(client, "rejectChanges", id=ended["id"], ids=[ids["disputed"]])
    assert "errors" not in rejected
    again = await decide(client, "acceptChanges", id=ended["id"], ids=[ids["disputed"]])
    assert again["errors"][0]["extensions"]["code"] == "conflict"
    rest = await decide(client, "acceptChanges", id=ended["id"], ids=None)
    assert rest["data"]["acceptChanges"]["improvement"]["status"] == "ACCEPTED"
    decided = (await proposed(client, ended["id"]))["improvement"]["decidedAt"]
    await decide(client, "acceptChanges", id=ended["id"], ids=None)
    assert (await proposed(client, ended["id"]))["improvement"]["decidedAt"] == decided
    await consolidate(client, board)
    rows = await rows_by_id(client, board)
    assert (rows["empty"]["expected"], rows["easy"]["weight"]) == ("4", 0.25)
    assert rows["telling"]["weight"] == 2.78
    label = rows["empty"]["labels"]["expected"]
    assert (label["origin"], label["run_id"], label["kind"]) == ("improvement", ended["id"], "fill")
    assert "tags" not in rows["disputed"]
    ended = await improve(client, board)
    changes = (await proposed(client, ended["id"]))["improvement"]["changes"]["nodes"]
    assert [(each["row"]["externalId"], each["kind"]) for each in changes] == [("disputed", "FLAG")]


async def test_auto_apply_makes_what_is_proposed_current(
    client: httpx2.AsyncClient, board: Leaderboard, worker: None
) -> None:
    ended = await improve(client, board, auto_apply=True)
    improvement = (await proposed(client, ended["id"]))["improvement"]
    assert improvement["status"] == "ACCEPTED"
    await consolidate(client, board)  # or the worker was faster
    rows = await rows_by_id(client, board)
    assert (rows["empty"]["expected"], rows["disputed"]["tags"]) == ("4", ["disputed"])
    size = {"mode": "LIMIT", "limit": {"rows": 5, "algorithm": "LAST_N"}}
    ranked = await client.post(f"/api/leaderboards/{board.id}/run", json={"dataset": size})
    assert (await await_run(client, board.id, ranked.json()["id"]))["row_count"] == 5


async def test_a_person_has_the_last_word_over_what_is_accepted(
    client: httpx2.AsyncClient, board: Leaderboard, worker: None
) -> None:
    ended = await improve(client, board)
    query = "mutation ($input: EditRowsInput!) { editRows(input: $input) { editCount } }"
    edit = {"externalId": "empty", "expected": "four"}
    await ask(client, query, input={"leaderboardId": str(board.id), "rows": [edit]})
    await decide(client, "acceptChanges", id=ended["id"], ids=None)
    await consolidate(client, board)
    assert (await rows_by_id(client, board))["empty"]["expected"] == "four"


async def test_a_judges_best_answer_fills_a_row(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, worker: None
) -> None:
    """The sandbox's judge scores the sandbox's models; no answer is made up for this test."""
    board = await make_push_board(process, tenant)
    async with process.database.write() as session:
        session.add(board)
        board.eval_type, board.judge_provider = "judge", "openrouter"
        board.judge_model = "sandbox/fair-judge"
        board.evaluation = {"match": "exact", "rubric": "Is the sum right?"}
    for model in ("sandbox/balanced-medium", "sandbox/quick-small"):
        await make_candidate(process, board, model_id=model)
    await push(client, board, [{"input": f"What is {n} + {n}?"} for n in range(10, 30)])
    await consolidate(client, board)
    ended = await improve(client, board)
    assert ended["status"] == "completed", ended["error"]
    changes = (await proposed(client, ended["id"]))["improvement"]["changes"]["nodes"]
    filled = [each for each in changes if each["kind"] == "FILL"]
    assert filled
    assert all(each["evidence"]["score"] >= 0.8 for each in filled)


async def test_what_is_proposed_twice_after_a_crash_is_proposed_once(
    client: httpx2.AsyncClient,
    process: Process,
    tenant: Tenant,
    settings: Settings,
    board: Leaderboard,
) -> None:
    ctx = process.system_context(tenant.workspace_id)
    run = await improve_dataset(ctx, board.id, NewImprovement(auto_apply=True))
    with worker_process(settings):
        ended = await await_run(client, board.id, run.id)
    assert ended["status"] == "completed", ended["error"]
    async with process.database.write() as session:  # as if it had died before its last commit
        again = await session.get_one(Run, run.id)
        again.status = "running"
    await advance_run(ctx, run.id)
    async with process.database.read() as session:
        changes = (await session.scalars(select(ProposedChange))).all()
        edits = (await session.scalars(select(DatasetEdit))).all()
    assert len(changes) == len(edits) == 4
    assert sorted(edit.number for edit in edits) == [1, 2, 3, 4]
    assert {edit.id for edit in edits} == {change.id for change in changes}


async def test_nobody_decides_on_what_is_not_theirs_or_not_there(
    client: httpx2.AsyncClient,
    anonymous: httpx2.AsyncClient,
    process: Process,
    board: Leaderboard,
    worker: None,
) -> None:
    ended = await improve(client, board)
    stranger = await make_tenant(process)
    anonymous.headers.update(stranger.headers)
    for who, improvement_id, ids, code in (
        (anonymous, ended["id"], None, "not_found"),
        (client, str(new_id()), None, "not_found"),
        (client, ended["id"], [str(new_id())], "invalid_input"),
    ):
        answered = await decide(who, "acceptChanges", id=improvement_id, ids=ids)
        assert answered["errors"][0]["extensions"]["code"] == code
    assert (await proposed(client, ended["id"]))["improvement"]["status"] == "PENDING"
