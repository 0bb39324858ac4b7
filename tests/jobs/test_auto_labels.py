"""Labels by a model: whom they are asked for, what is stored of them, and what never is."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from time import monotonic
from typing import Any

import httpx2
import orjson
import pytest
from sqlalchemy import func, select
from starlette.responses import JSONResponse, Response

from app.sandbox.tasks import find_task, list_task_rows
from app.services import Process
from db.models import Dataset, DatasetEdit, LabelJob, LabelResult, Leaderboard
from engine.edits import EditField, EditOrigin
from engine.rows import id_key
from resolvers.edit_storage import NewEdit, store_edits
from tests.conftest import ask
from tests.factories import TWO_ROWS_URL, Tenant, make_candidate, make_leaderboard, make_tenant
from tests.jobs.labelling import (
    MODEL,
    LabelPeer,
    await_job,
    find_job,
    label,
    label_peer,
    start_labels,
)
from tests.rest_compat.test_consolidation import consolidate
from tests.rest_compat.test_push import make_push_board, push
from tests.schema.test_dataset_edits import edit, lines_of

TASKS = list_task_rows()
FIELDS = ["expected", "tags", "quality", "rubric"]
CANCEL = "mutation($id: ID!) { cancelJob(input: {id: $id}) { job { id status } } }"
GOOD = json.dumps({"expected": "yes", "tags": ["a"], "quality": 0.5, "rubric": "Says yes."})


@pytest.fixture
async def peer() -> AsyncIterator[LabelPeer]:
    async with label_peer() as made:
        yield made


@pytest.fixture
def setting_overrides(peer: LabelPeer) -> dict[str, Any]:
    return {"sandbox_url": peer.url, "run_concurrency": 4}


async def make_rows(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, rows: Sequence[dict[str, Any]]
) -> Leaderboard:
    board = await make_push_board(process, tenant)
    assert (await push(client, board, list(rows))).status_code == 202
    return board


def tasks(count: int) -> list[dict[str, Any]]:
    return [{"id": str(n), "input": TASKS[n]["question"]} for n in range(count)]


def questions(count: int) -> list[dict[str, Any]]:
    return [{"id": str(n), "input": f"question {n}"} for n in range(count)]


async def results(process: Process) -> Sequence[LabelResult]:
    async with process.database.read() as session:
        return (await session.scalars(select(LabelResult).order_by(LabelResult.position))).all()


async def edits_by_model(process: Process) -> Sequence[DatasetEdit]:
    async with process.database.read() as session:
        statement = select(DatasetEdit).where(DatasetEdit.origin == "model")
        return (await session.scalars(statement.order_by(DatasetEdit.number))).all()


async def the_job(process: Process) -> LabelJob:
    async with process.database.read() as session:
        return (await session.scalars(select(LabelJob))).one()


async def until_asked(peer: LabelPeer, count: int) -> None:
    async with asyncio.timeout(20):
        while peer.calls.total() < count:
            await asyncio.sleep(0.01)


async def test_rows_get_what_they_lack_with_where_it_is_from(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, worker: None, peer: LabelPeer
) -> None:
    board = await make_rows(client, process, tenant, tasks(40))
    started = await start_labels(client, board)
    assert (started["kind"], started["status"], started["mode"]) == (
        "auto_labels", "queued", "missing",
    )  # fmt: skip
    assert started["progress"] == {"done": 0, "failed": 0, "total": None}
    job = await await_job(client, board, started["id"])
    assert (job["status"], job["error"]) == ("completed", None)
    assert job["progress"] == {"done": 40, "failed": 0, "total": 40}
    assert (job["label_model"], job["fields"]) == (MODEL, FIELDS)
    assert job["cost_usd"] > 0
    assert job["estimated_cost_usd"] is not None
    assert set(peer.calls.values()) == {1}
    made = (await consolidate(client, board))["snapshot"]
    assert (made["number"], made["row_count"]) == (2, 40)
    rows = await lines_of(client, board)
    for row in rows.values():
        task = find_task(row["input"])
        assert task is not None
        assert row["expected"] in {task.answer, *task.mistakes}
        assert (row["tags"], row["labels"].keys()) == (["task", task.kind], set(FIELDS))
        assert 0 <= row["quality"] <= 1
        for said in row["labels"].values():
            assert said.pop("at").endswith("Z")
            assert said == {
                "origin": "model", "model": MODEL, "prompt_version": "label-1", "job_id": job["id"],
            }  # fmt: skip
    right = [row["expected"] == TASKS[int(row["id"])]["answer"] for row in rows.values()]
    assert sum(right) > 32
    again = await label(client, board)
    assert (again["status"], again["progress"]["total"]) == ("completed", 0)
    assert peer.calls.total() == 40


async def test_only_what_a_row_lacks_is_asked_for_and_at_most_so_many_rows(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, worker: None, peer: LabelPeer
) -> None:
    full: dict[str, Any] = {"id": "full", "input": "a", "output": "b", "rubric": "c", "tags": ["d"]}
    board = await make_rows(client, process, tenant, [*tasks(6), full])
    job = await label(client, board, fields=["tags", "expected"], limit=4)
    assert (job["progress"]["total"], job["fields"]) == (4, ["expected", "tags"])
    await consolidate(client, board)
    content = (await client.get(f"/v1/leaderboard/{board.id}/dataset")).content
    lines = [orjson.loads(line) for line in content.splitlines()]
    labelled = [set(row["labels"]) for row in lines if "labels" in row]
    assert labelled == [{"expected", "tags"}] * 4
    # The first ones that lack something, in the snapshot's order.
    lacking = [row for row in lines if row["id"] != "full"]
    assert ["labels" in row for row in lacking] == [True] * 4 + [False] * 2
    job = await label(client, board, fields=["quality"], mode="all")
    assert job["progress"]["total"] == 7


async def test_all_replaces_what_a_model_said_and_nothing_else(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, worker: None, peer: LabelPeer
) -> None:
    given: list[dict[str, Any]] = [
        {"id": "source", "input": "one", "output": "from the source", "tags": ["source"]},
        {"id": "human", "input": "two"},
        {"id": "taken", "input": "three"},
        {"id": "improved", "input": "four"},
        {"id": "bare", "input": "five"},
        {"id": "closed", "input": "six", "output": "x", "rubric": "x", "tags": ["x"]},
    ]
    board = await make_rows(client, process, tenant, given)
    await edit(
        client, board,
        {"externalId": "human", "expected": "from a person", "quality": 0.25},
        {"externalId": "taken", "expected": None},
        {"externalId": "closed", "quality": 1},
    )  # fmt: skip
    improvement = NewEdit(id_key("improved"), EditField.EXPECTED, "from an improvement", {})
    async with process.database.write() as session:
        ctx = process.system_context(tenant.workspace_id)
        await store_edits(session, ctx, board.id, [improvement], EditOrigin.IMPROVEMENT)
    for number in (1, 2):
        said = {"expected": f"no {number}", "tags": [f"t{number}"], "quality": 0.5, "rubric": "r"}

        def answer(text: str, said: dict[str, Any] = said) -> str:
            kept = {
                "one": ["quality", "rubric"], "two": ["tags", "rubric"],
                "three": ["tags", "quality", "rubric"], "four": ["tags", "quality", "rubric"],
                "five": FIELDS,
            }[text]  # fmt: skip
            return json.dumps({name: said[name] for name in kept})

        peer.answer = answer
        job = await label(client, board, mode="all")
        assert (job["status"], job["progress"]["failed"]) == ("completed", 0), job
        assert job["progress"]["total"] == 5
        await consolidate(client, board)
        rows = await lines_of(client, board)
        assert (rows["source"]["expected"], rows["source"]["tags"]) == (
            "from the source", ["source"],
        )  # fmt: skip
        assert (rows["human"]["expected"], rows["human"]["quality"]) == ("from a person", 0.25)
        assert "expected" not in rows["taken"]
        assert rows["improved"]["expected"] == "from an improvement"
        assert (rows["bare"]["expected"], rows["bare"]["tags"]) == (f"no {number}", [f"t{number}"])
        assert rows["human"]["tags"] == [f"t{number}"]
    stored = {(each.row_key, each.field) for each in await edits_by_model(process)}
    never = {
        (id_key(name), field)
        for name, field in (
            ("source", "expected"), ("source", "tags"), ("human", "expected"),
            ("human", "quality"), ("taken", "expected"), ("improved", "expected"),
        )
    }  # fmt: skip
    assert stored & never == set()


async def test_what_a_person_says_while_the_model_thinks_stands(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, worker: None, peer: LabelPeer
) -> None:
    board = await make_rows(client, process, tenant, questions(12))
    peer.open.clear()
    peer.answer = lambda _: GOOD
    started = await start_labels(client, board)
    await until_asked(peer, 4)  # as many as are under way at once
    asked = [text.removeprefix("question ") for text in peer.calls]
    waiting = [row["id"] for row in questions(12) if row["id"] not in asked]
    await edit(
        client, board,
        {"externalId": asked[0], "expected": "mine"},
        {"externalId": asked[1], "tags": None},
        {"externalId": asked[2], "input": "another question"},
        {"externalId": waiting[0], "expected": "m", "tags": [], "quality": 1, "rubric": "m"},
    )  # fmt: skip
    peer.open.set()
    job = await await_job(client, board, started["id"])
    assert (job["status"], job["progress"]) == (
        "completed", {"done": 12, "failed": 0, "total": 12},
    )  # fmt: skip
    stored: dict[bytes, set[str]] = {}
    for each in await edits_by_model(process):
        stored.setdefault(each.row_key, set()).add(each.field)
    assert stored[id_key(asked[0])] == {"tags", "quality", "rubric"}
    assert stored[id_key(asked[1])] == {"expected", "quality", "rubric"}
    assert id_key(asked[2]) not in stored
    assert id_key(waiting[0]) not in stored
    await consolidate(client, board)
    rows = await lines_of(client, board)
    assert rows[asked[0]]["expected"] == "mine"
    assert rows[waiting[0]]["expected"] == "m"


async def test_a_row_of_which_nothing_is_left_to_ask_costs_no_call(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, worker: None, peer: LabelPeer
) -> None:
    # More than a worker takes at a time: four shards of ten rows.
    board = await make_rows(client, process, tenant, questions(120))
    peer.open.clear()
    peer.answer = lambda _: json.dumps({"quality": 0.5})
    started = await start_labels(client, board, fields=["quality"])
    await until_asked(peer, 4)
    await edit(client, board, *({"externalId": str(n), "quality": 1} for n in range(120)))
    peer.open.set()
    job = await await_job(client, board, started["id"])
    assert job["progress"] == {"done": 120, "failed": 0, "total": 120}
    assert await edits_by_model(process) == []
    assert 4 <= peer.calls.total() < 120
    spared = [each for each in await results(process) if each.replies == 0]
    assert len(spared) == 120 - peer.calls.total()
    assert {each.cost_usd for each in spared} == {0}


async def test_a_reply_that_can_t_be_used_is_asked_for_once_more_and_then_counts_as_failed(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, worker: None, peer: LabelPeer
) -> None:
    board = await make_rows(client, process, tenant, questions(3))

    def answer(text: str) -> str:
        is_bad = text == "question 0" or (text == "question 1" and peer.calls[text] == 1)
        return "Gladly! Here they are." if is_bad else GOOD

    peer.answer = answer
    job = await label(client, board)
    assert (job["status"], job["progress"]) == ("completed", {"done": 3, "failed": 1, "total": 3})
    assert peer.calls == {"question 0": 2, "question 1": 2, "question 2": 1}
    assert job["cost_usd"] == pytest.approx(0.005)
    stored = await results(process)
    assert sorted((each.replies, len(each.labelled)) for each in stored) == [(1, 4), (2, 0), (2, 4)]
    (failed,) = [each for each in stored if each.error]
    assert (failed.error or "").startswith("unreadable_reply: the reply can't be read as one JSON")
    assert [(each.prompt_tokens, each.completion_tokens) for each in stored].count((200, 100)) == 2


async def test_a_job_of_which_every_row_failed_has_failed_and_says_why(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, worker: None, peer: LabelPeer
) -> None:
    board = await make_rows(client, process, tenant, questions(2))
    refusal = {"error": {"code": 400, "message": "no such parameter"}}
    peer.answer = lambda _: JSONResponse(refusal, status_code=400)
    job = await label(client, board)
    assert (job["status"], job["progress"]["failed"]) == ("failed", 2)
    assert job["error"].startswith("all 2 calls failed with rejected: ")
    assert peer.calls.total() == 2


async def test_what_the_model_can_t_tell_is_no_failure_and_no_label(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, worker: None
) -> None:
    board = await make_rows(client, process, tenant, questions(2))
    job = await label(client, board)
    assert (job["status"], job["progress"]["failed"]) == ("completed", 0)
    assert await edits_by_model(process) == []


async def test_a_retry_after_is_heeded_by_every_call(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, worker: None, peer: LabelPeer
) -> None:
    board = await make_rows(client, process, tenant, questions(8))
    began = monotonic()
    late: list[float] = []

    def answer(_: str) -> Response | str:
        if peer.calls.total() <= 4:
            return JSONResponse({"error": {}}, status_code=429, headers={"Retry-After": "1"})
        late.append(monotonic() - began)
        return GOOD

    peer.answer = answer
    job = await label(client, board)
    assert job["progress"] == {"done": 8, "failed": 0, "total": 8}
    assert peer.calls.total() == 12
    assert min(late) >= 1


async def test_a_job_stops_before_its_ceiling_and_keeps_what_it_paid_for(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, worker: None, peer: LabelPeer
) -> None:
    board = await make_rows(client, process, tenant, tasks(40))
    job = await label(client, board, max_cost_usd=0.004)
    assert (job["status"], job["max_cost_usd"]) == ("failed", 0.004)
    assert job["error"].startswith("the job stopped before its ceiling of 0.004 USD: ")
    done = job["progress"]["done"]
    assert 0 < done < 40
    assert job["cost_usd"] <= 0.004
    stored = await the_job(process)
    assert stored.committed_usd == pytest.approx(
        sum(r.cost_usd or 0 for r in await results(process))
    )
    assert len({each.row_key for each in await edits_by_model(process)}) == done
    again = await label(client, board, max_cost_usd=0.0001)
    assert (again["status"], again["progress"]["done"]) == ("failed", 0)
    assert "by earlier labels of this dataset" in again["error"]
    assert again["error"].endswith("may cost 0.0001 USD: no call was made")


async def test_a_ceiling_needs_a_model_of_known_prices(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, peer: LabelPeer
) -> None:
    board = await make_rows(client, process, tenant, questions(1))
    entry = {"id": MODEL, "name": "x", "pricing": {"prompt": "-1", "completion": "-1"}}

    async def catalogue(scope: Any, receive: Any, send: Any) -> None:
        await JSONResponse({"data": [entry]})(scope, receive, send)

    peer.sandbox = catalogue
    answer = await client.post(
        f"/v1/leaderboard/{board.id}/dataset/auto-labels",
        json={"label_model": MODEL, "max_cost_usd": 1},
    )
    assert answer.status_code == 400
    assert "what sandbox/labeller costs is not known" in answer.json()["error"]


async def test_a_cancelled_job_begins_no_call_after_a_second_and_keeps_what_is_done(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, worker: None, peer: LabelPeer
) -> None:
    board = await make_rows(client, process, tenant, questions(120))
    peer.answer, peer.seconds = lambda _: GOOD, 0.1
    started = await start_labels(client, board)
    await until_asked(peer, 8)
    cancelled = (await ask(client, CANCEL, id=started["id"]))["data"]["cancelJob"]["job"]
    assert cancelled == {"id": started["id"], "status": "CANCELLED"}
    await asyncio.sleep(1)
    count = peer.calls.total()
    await asyncio.sleep(0.5)
    assert peer.calls.total() == count < 120
    job = await find_job(client, board, started["id"])
    assert (job["status"], job["progress"]["done"]) == ("cancelled", count)
    assert (await ask(client, CANCEL, id=started["id"]))["data"]["cancelJob"]["job"] == cancelled
    ended = await label(client, board, limit=1)
    answer = await ask(client, CANCEL, id=ended["id"])
    assert answer["errors"][0]["extensions"]["code"] == "conflict"


async def test_one_job_labels_a_dataset_at_a_time_and_a_repeat_is_the_same_job(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_rows(client, process, tenant, questions(1))
    path = f"/v1/leaderboard/{board.id}/dataset/auto-labels"
    key = {"Idempotency-Key": "once"}
    body = {"label_model": MODEL}
    first = (await client.post(path, json=body, headers=key)).json()["job"]
    assert (await client.post(path, json=body, headers=key)).json()["job"] == first
    other = await client.post(path, json=body)
    assert (other.status_code, other.json()["details"]) == (409, {"job_id": first["id"]})


async def test_rows_that_are_read_from_a_url_are_labelled_too(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, worker: None, peer: LabelPeer
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id, url=TWO_ROWS_URL)
    peer.answer = lambda _: json.dumps({"tags": ["sum"]})
    job = await label(client, board, fields=["tags"])
    assert job["progress"] == {"done": 2, "failed": 0, "total": 2}
    await consolidate(client, board)
    assert [row["tags"] for row in (await lines_of(client, board)).values()] == [["sum"]] * 2


async def test_a_dataset_without_rows_fails_the_job_with_the_reason(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, worker: None
) -> None:
    board = await make_push_board(process, tenant)
    job = await label(client, board)
    assert (job["status"], "has no rows to label yet" in job["error"]) == ("failed", True)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"mode": "some"}, 400, "mode: "),
        ({"fields": ["weight"]}, 400, "fields.0: "),
        ({"fields": []}, 400, "fields: "),
        ({"limit": 0}, 400, "limit: "),
        ({"label_model": "sandbox/nobody"}, 400, "OpenRouter has no model 'sandbox/nobody'"),
        ({"model": MODEL}, 400, "model: unknown field"),
        ({}, 409, "openrouter"),
    ],
)
async def test_a_wrong_request_is_refused_and_says_what_is_wrong(
    client: httpx2.AsyncClient,
    process: Process,
    tenant: Tenant,
    body: dict[str, Any],
    status: int,
    said: str,
) -> None:
    board = await make_push_board(process, tenant)
    answer = await client.post(f"/v1/leaderboard/{board.id}/dataset/auto-labels", json=body)
    assert (answer.status_code, said in answer.json()["error"]) == (status, True), answer.text


async def test_another_workspaces_rows_are_not_labelled(
    client: httpx2.AsyncClient, process: Process
) -> None:
    board = await make_push_board(process, await make_tenant(process))
    path = f"/v1/leaderboard/{board.id}/dataset/auto-labels"
    assert (await client.post(path, json={"label_model": MODEL})).status_code == 404
    assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize(
    "setting_overrides",
    [{"judge_models": ["sandbox/fair-judge", "sandbox/labeller"]}],
)
async def test_with_no_model_named_the_first_judge_labels(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_push_board(process, tenant)
    await make_candidate(process, board)  # of the same family as both: then the first it is
    answer = await client.post(f"/v1/leaderboard/{board.id}/dataset/auto-labels")
    assert answer.json()["job"]["label_model"] == "sandbox/fair-judge"


async def test_a_job_s_edits_are_numbered_with_everybody_s(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, worker: None, peer: LabelPeer
) -> None:
    board = await make_rows(client, process, tenant, questions(30))
    peer.answer = lambda _: GOOD
    await label(client, board)
    async with process.database.read() as session:
        numbers = select(func.count(), func.max(DatasetEdit.number))
        count, newest = (await session.execute(numbers)).one()
        dataset = await session.get_one(Dataset, board.id)
    assert count == newest == dataset.last_edit == 120
