"""The contract names the fields that are answered."""

from typing import Any

import httpx2
import pytest
import yaml

from app.services import Process
from tests.factories import Tenant, make_candidate, make_leaderboard, make_ranked_run


@pytest.fixture
async def answered(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> dict[str, dict[str, Any]]:
    """One answer of each shape, by its name in the contract."""
    board = await make_leaderboard(process, tenant.workspace_id)
    await make_ranked_run(process, board, [await make_candidate(process, board)])
    path = f"/api/leaderboards/{board.id}"
    listed = {
        "LeaderboardList": (await client.get("/api/leaderboards")).json(),
        "CandidateList": (await client.get(f"{path}/models")).json(),
        "RunList": (await client.get(f"{path}/runs")).json(),
        "TraceList": (await client.get(f"{path}/traces?format=json")).json(),
    }
    (run,) = listed["RunList"]["runs"]
    return {
        **listed,
        "LeaderboardShape": listed["LeaderboardList"]["leaderboards"][0],
        "EvaluationShape": listed["LeaderboardList"]["leaderboards"][0]["evaluation"],
        "CandidateShape": listed["CandidateList"]["models"][0],
        "RunShape": run,
        "ProgressShape": run["progress"],
        "RankingShape": run["ranking"],
        "RankingEntryShape": run["ranking"]["entries"][0],
        "TraceShape": listed["TraceList"]["rows"][0],
        "Problem": (await client.get("/api/leaderboards/zzz")).json(),
        "Readiness": (await client.get("/readyz")).json(),
    }


async def test_each_answer_has_the_fields_of_its_schema(
    client: httpx2.AsyncClient, answered: dict[str, dict[str, Any]]
) -> None:
    schemas = yaml.safe_load((await client.get("/openapi.yaml")).text)["components"]["schemas"]
    published = {name: sorted(schemas[name]["properties"]) for name in answered}
    assert {name: sorted(answer) for name, answer in answered.items()} == published


async def test_amounts_and_times_are_told_as_they_were_given(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    path = f"/api/leaderboards/{board.id}"
    serving = {"unknown_price": "allow", "hold_usd": 0.05}
    changed = await client.patch(path, json={"serving": serving})
    assert changed.json()["serving"] == {"fallback_models": 0, **serving}
    model = {
        "provider": "custom", "endpoint_url": "https://a.example/v1", "timeout_seconds": 9,
        "first_byte_timeout_seconds": 2,
    }  # fmt: skip
    added = (await client.post(f"{path}/models", json=model)).json()
    assert (added["timeout_seconds"], added["first_byte_timeout_seconds"]) == (9, 2)
