"""The whole circle over real HTTP: create, add, run, rank, infer, read the traces."""

import json

import httpx2

from tests.conftest import ON_OLDEST_TOO, ask, await_run
from tests.factories import DATASET_URL, Tenant

EVALUATION = {"match": "normalized", "extract": r"Answer:\s*(.+)"}


@ON_OLDEST_TOO
async def test_rest_ranks_the_sandbox_models_and_serves_the_winner(
    client: httpx2.AsyncClient, worker: None, tenant: Tenant
) -> None:
    created = await client.post(
        "/api/leaderboards",
        json={
            "name": "tasks",
            "systemPrompt": "Solve: {input}",
            "dataset_url": DATASET_URL,
            "evaluation": EVALUATION,
        },
    )
    assert created.status_code == 201, created.text
    board = created.json()["id"]
    for name in ("quick-small", "careful-large"):
        added = await client.post(
            f"/api/leaderboards/{board}/models",
            json={"provider": "openrouter", "model_id": f"sandbox/{name}"},
        )
        assert added.status_code == 201, added.text
    started = await client.post(f"/api/leaderboards/{board}/run")
    assert (started.status_code, started.json()["status"]) == (202, "queued")
    run = await await_run(client, board, started.json()["id"])
    assert run["status"] == "completed"
    assert run["progress"] == {"done": 576, "failed": 0, "total": 576}
    winner, second = run["ranking"]["entries"]
    assert (round(winner["score"], 4), round(second["score"], 4)) == (0.9167, 0.7222)
    row = (await client.get(f"/v1/leaderboard/{board}/traces?limit=1")).json()
    answer = await client.post(f"/v1/leaderboard/{board}/inference", json={"input": row["input"]})
    assert answer.headers["X-Dr.Gero-Selected-Model"] == "sandbox/careful-large"
    assert answer.headers["X-Dr.Gero-Token-Budget-Limit-Usd"] == "unlimited"
    traces = await client.get(f"/v1/leaderboard/{board}/traces?source=inference")
    (line,) = traces.text.splitlines()
    assert json.loads(line)["output"] == answer.json()["output"]
    assert json.loads(line)["id"] == answer.headers["X-Dr.Gero-Trace-Id"]


@ON_OLDEST_TOO
async def test_graphql_closes_the_same_circle(client: httpx2.AsyncClient, worker: None) -> None:
    created = await ask(
        client,
        """mutation($input: CreateLeaderboardInput!) {
             createLeaderboard(input: $input) { leaderboard { id evaluation } } }""",
        input={
            "name": "tasks",
            "systemPrompt": "Solve: {input}",
            "datasetUrl": DATASET_URL,
            "evaluation": {"match": "NORMALIZED", "extract": EVALUATION["extract"]},
        },
    )
    board = created["data"]["createLeaderboard"]["leaderboard"]
    left_out = {
        "judge_mode": "score",
        "judge_votes": 1,
        "review_mode": "score",
        "review_share": 1.0,
    }
    assert board["evaluation"] == EVALUATION | {"errors": "zero"} | left_out
    added = await ask(
        client,
        """mutation($input: AddCandidateInput!) {
             addCandidate(input: $input) { candidate { id inputPricePerMillionUsd } } }""",
        input={
            "leaderboardId": board["id"],
            "provider": "OPENROUTER",
            "modelId": "sandbox/quick-small",
        },
    )
    candidate = added["data"]["addCandidate"]["candidate"]["id"]
    started = await ask(
        client,
        """mutation($input: StartRunInput!) { startRun(input: $input) { run { id status } } }""",
        input={
            "leaderboardId": board["id"],
            "dataset": {"mode": "LIMIT", "limit": {"rows": 10, "algorithm": "RANDOM_SHUFFLE"}},
        },
    )
    run = started["data"]["startRun"]["run"]
    assert run["status"] == "QUEUED"
    await await_run(client, board["id"], run["id"])
    answered = await ask(
        client,
        """mutation($input: InferInput!) {
             infer(input: $input) { candidate { id } trace { source leaderboard { id } } } }""",
        input={"leaderboardId": board["id"], "input": "hello"},
    )
    assert answered["data"]["infer"] == {
        "candidate": {"id": candidate},
        "trace": {"source": "INFERENCE", "leaderboard": {"id": board["id"]}},
    }
    seen = await ask(
        client,
        """query($id: ID!) { leaderboard(id: $id) {
             productionCandidate { id }
             ranking { rowCount entries { rank candidate { id } } run { id } }
             traces(first: 2) { totalCount pageInfo { hasNextPage } } } }""",
        id=board["id"],
    )
    assert seen["data"]["leaderboard"] == {
        "productionCandidate": {"id": candidate},
        "ranking": {
            "rowCount": 10,
            "entries": [{"rank": 1, "candidate": {"id": candidate}}],
            "run": {"id": run["id"]},
        },
        "traces": {"totalCount": 11, "pageInfo": {"hasNextPage": True}},
    }
