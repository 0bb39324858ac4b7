"""Runs in which nothing succeeds: they fail, say why, and put nobody into production."""

import httpx2

from app.services import Process
from tests.conftest import await_run
from tests.factories import Tenant, make_candidate, make_leaderboard

REFUSED = "credential_refused: the endpoint answered 401"


async def test_a_run_whose_every_call_fails_says_why_and_leaves_production_alone(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant, sandbox_url: str
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    good = await make_candidate(process, board)
    refused, also_refused, empty = [
        await make_candidate(process, board, endpoint_url=f"{sandbox_url}/endpoints/{name}")
        for name in ("fault-401", "fault-401", "fault-empty")
    ]

    async def run(*candidates: object) -> dict[str, object]:
        rows = {"mode": "LIMIT", "limit": {"rows": 4}}
        chosen = {"dataset": rows, "leaderboard_model_ids": [str(each) for each in candidates]}
        started = await client.post(f"/api/leaderboards/{board.id}/run", json=chosen)
        ended: dict[str, object] = await await_run(client, board.id, started.json()["id"])
        return ended

    async def ask() -> httpx2.Response:
        return await client.post(f"/v1/leaderboard/{board.id}/inference", json={"input": "x"})

    alone = await run(refused.id)
    assert (alone["status"], alone["ranking"]) == ("failed", None)
    assert alone["error"] == f"all 4 calls failed with {REFUSED}"
    assert alone["progress"] == {"done": 4, "failed": 4, "total": 4}
    assert (await ask()).json()["code"] == "ranking_not_ready"

    ranked = await run(good.id, refused.id)
    assert (ranked["status"], ranked["error"]) == ("completed", None)

    together = await run(refused.id, also_refused.id, empty.id)
    assert (together["status"], together["ranking"]) == ("failed", None)
    assert together["error"] == f"all 12 calls failed, 8 of them with {REFUSED}"
    assert (await ask()).headers["X-Dr.Gero-Selected-Model"] == "sandbox/balanced-medium"
