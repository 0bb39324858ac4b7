"""Labels by a model in GraphQL: their cost, asking for them, and following the job."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import httpx2
import pytest

from app.server import create_app
from app.services import Process
from app.serving import listen, serving, url_of
from app.settings import Settings
from tests.app.test_subscriptions import events_of
from tests.conftest import NO_TLS, ask
from tests.factories import Tenant, make_tenant, make_token
from tests.jobs.labelling import MODEL, LabelPeer, await_job, label, label_peer
from tests.jobs.test_auto_labels import CANCEL, make_rows, tasks

JOB = """fragment job on Job {
  id kind status mode fields labelModel error progress { done failed total } costUsd }"""
START = (
    """mutation($input: StartAutoLabelsInput!) { startAutoLabels(input: $input) { job {
  ...job rowLimit maxCostUsd promptVersion snapshot { number } leaderboard { id } } } }"""
    + JOB
)
ESTIMATE = """mutation($input: StartAutoLabelsInput!) { estimateAutoLabels(input: $input) {
  estimate { labelModel rowCount expectedUsd mostUsd basis } } }"""
SHOW = "query($id: ID!) { job(id: $id) { ...job startedAt finishedAt snapshot { number } } }" + JOB
LIST = """query($id: ID!) { leaderboard(id: $id) { dataset { status { pendingEdits }
  edits(first: 1) { nodes { origin provenance } }
  jobs(first: 1) { totalCount nodes { id status progress { done } } } } } }"""
FOLLOW = """subscription($id: ID!) { jobProgress(jobId: $id) {
  status error done failed total costUsd rowsPerSecond secondsLeft job { id status } } }"""


@pytest.fixture
async def peer() -> AsyncIterator[LabelPeer]:
    async with label_peer() as made:
        yield made


@pytest.fixture
def setting_overrides(peer: LabelPeer) -> dict[str, Any]:
    return {"sandbox_url": peer.url, "run_concurrency": 4}


async def test_labels_are_estimated_asked_for_and_shown(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, worker: None, peer: LabelPeer
) -> None:
    board = await make_rows(client, process, tenant, tasks(30))
    wish = {"leaderboardId": str(board.id), "labelModel": MODEL, "fields": ["QUALITY", "EXPECTED"]}
    first = (await ask(client, ESTIMATE, input=wish))["data"]["estimateAutoLabels"]["estimate"]
    assert (first["labelModel"], first["rowCount"], first["basis"]) == (MODEL, 30, "ASSUMED")
    assert 0 < Decimal(first["expectedUsd"]) < Decimal(first["mostUsd"])
    assert peer.calls.total() == 0
    asked = {**wish, "limit": 20, "maxCostUsd": "1.5"}
    job = (await ask(client, START, input=asked))["data"]["startAutoLabels"]["job"]
    assert (job["kind"], job["status"], job["mode"]) == ("AUTO_LABELS", "QUEUED", "MISSING")
    assert (job["fields"], job["rowLimit"]) == (["EXPECTED", "QUALITY"], 20)
    assert (job["maxCostUsd"], job["promptVersion"], job["snapshot"]) == ("1.5", "label-1", None)
    assert job["leaderboard"] == {"id": str(board.id)}
    await await_job(client, board, job["id"])
    shown = (await ask(client, SHOW, id=job["id"]))["data"]["job"]
    assert (shown["status"], shown["snapshot"]) == ("COMPLETED", {"number": 1})
    assert shown["progress"] == {"done": 20, "failed": 0, "total": 20}
    assert shown["startedAt"] < shown["finishedAt"]
    listed = (await ask(client, LIST, id=str(board.id)))["data"]["leaderboard"]["dataset"]
    assert listed["jobs"] == {
        "totalCount": 1,
        "nodes": [{"id": job["id"], "status": "COMPLETED", "progress": {"done": 20}}],
    }
    assert listed["status"] == {"pendingEdits": 40}
    (newest,) = listed["edits"]["nodes"]
    assert (newest["origin"], newest["provenance"]["model"]) == ("MODEL", MODEL)
    second = (await ask(client, ESTIMATE, input=wish))["data"]["estimateAutoLabels"]["estimate"]
    assert (second["rowCount"], second["basis"]) == (10, "MEASURED")
    mean = Decimal(shown["costUsd"]) / 20
    assert float(second["expectedUsd"]) == pytest.approx(float(mean * 10))


def check_story(events: list[Any], job_id: str) -> None:
    states = [event["data"]["jobProgress"] for event in events[:-1]]
    assert events[-1] == "complete"
    done = [state["done"] for state in states]
    assert (done, done[-1]) == (sorted(done), 40)
    last = states[-1]
    assert (last["status"], last["failed"], last["total"]) == ("COMPLETED", 0, 40)
    assert (last["error"], last["secondsLeft"]) == (None, 0)
    assert last["job"] == {"id": job_id, "status": "COMPLETED"}
    assert float(last["costUsd"]) > 0


async def test_a_job_is_followed_to_its_end_from_any_replica(
    client: httpx2.AsyncClient, process: Process, settings: Settings, tenant: Tenant,
    worker: None, peer: LabelPeer,
) -> None:  # fmt: skip
    board = await make_rows(client, process, tenant, tasks(40))
    wish = {"leaderboardId": str(board.id), "labelModel": MODEL}
    peer.open.clear()
    peer.seconds = 0.05
    job = (await ask(client, START, input=wish))["data"]["startAutoLabels"]["job"]
    other = Process(settings)
    listener = listen("127.0.0.1", 0)
    async with (
        serving(create_app(settings, other), listener),
        httpx2.AsyncClient(
            base_url=url_of(listener), headers=tenant.headers, timeout=30, verify=NO_TLS
        ) as elsewhere,
    ):
        events = []
        async for event in events_of(elsewhere, FOLLOW, id=job["id"]):
            events.append(event)
            peer.open.set()
    await other.aclose()
    check_story(events, job["id"])
    assert len(events) > 3
    assert any(event["data"]["jobProgress"]["rowsPerSecond"] > 0 for event in events[:-1])
    late = [event async for event in events_of(client, FOLLOW, id=job["id"])]
    assert len(late) == 2
    check_story(late, job["id"])


async def test_a_job_is_its_workspace_s_own_and_reading_is_not_asking(
    client: httpx2.AsyncClient, anonymous: httpx2.AsyncClient, process: Process, tenant: Tenant,
    worker: None,
) -> None:  # fmt: skip
    board = await make_rows(client, process, tenant, tasks(2))
    job = await label(client, board)
    anonymous.headers.update((await make_tenant(process)).headers)
    for operation in (SHOW, CANCEL):
        answer = await ask(anonymous, operation, id=job["id"])
        assert answer["errors"][0]["extensions"]["code"] == "not_found", answer
    events = [event async for event in events_of(anonymous, FOLLOW, id=job["id"])]
    assert events[0]["errors"][0]["extensions"]["code"] == "not_found"
    reader = await make_token(process, tenant.workspace_id, scopes=["leaderboards:read"])
    anonymous.headers["Authorization"] = f"Bearer {reader}"
    assert (await ask(anonymous, SHOW, id=job["id"]))["data"]["job"]["status"] == "COMPLETED"
    wish = {"leaderboardId": str(board.id), "labelModel": MODEL}
    for operation, variables in (
        (START, {"input": wish}),
        (ESTIMATE, {"input": wish}),
        (CANCEL, {"id": job["id"]}),
    ):
        answer = await ask(anonymous, operation, **variables)
        assert answer["errors"][0]["extensions"]["code"] == "forbidden"
