"""How long traces are kept: who says so, and that none is shown that is older."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from app.services import Process
from db.models import Candidate, Leaderboard
from tests.conftest import LONGEST_WAIT_SECONDS, ask, session_token
from tests.factories import Tenant, store_traces, trace_of

UPDATE = """
mutation($days: Int) { updateWorkspace(input: {traceRetentionDays: $days}) {
  workspace { traceRetentionDays } } }
"""
EVERYTHING = """
query($id: ID!) {
  workspace { traceRetentionDays }
  traces { totalCount nodes { id } }
  leaderboard(id: $id) { traces { totalCount nodes { id } } } }
"""
NOW = datetime.now(UTC)


@pytest.fixture
def setting_overrides() -> dict[str, Any]:
    return {"trace_retention_days": 30}


@pytest.fixture
async def owner(anonymous: httpx2.AsyncClient, tenant: Tenant) -> httpx2.AsyncClient:
    anonymous.headers["Authorization"] = f"Bearer {session_token(tenant.owner_id)}"
    return anonymous


async def wait_for_count(client: httpx2.AsyncClient, board: Leaderboard, count: int) -> None:
    """Wait until the server has heard of another retention."""
    async with asyncio.timeout(LONGEST_WAIT_SECONDS):
        while True:
            seen = (await ask(client, EVERYTHING, id=str(board.id)))["data"]["traces"]
            if seen["totalCount"] == count:
                return
            await asyncio.sleep(0.02)


async def test_none_is_shown_that_is_older_than_the_workspace_keeps_them(
    client: httpx2.AsyncClient,
    owner: httpx2.AsyncClient,
    process: Process,
    board: Leaderboard,
    candidate: Candidate,
) -> None:
    ages = [40, 30.1, 29.9, 5.1, 4.9, 0]
    async with process.database.write() as session:
        made = [
            trace_of(board, candidate, NOW - timedelta(days=days), output=str(days))
            for days in ages
        ]
        await store_traces(session, made)
    ids = [str(trace["id"]) for trace in made]

    async def shown(asking: httpx2.AsyncClient) -> list[str]:
        """Return what is shown, which is the same wherever it is."""
        data = (await ask(asking, EVERYTHING, id=str(board.id)))["data"]
        seen = [node["id"] for node in data["traces"]["nodes"]]
        assert data["leaderboard"]["traces"]["nodes"] == data["traces"]["nodes"]
        assert data["traces"]["totalCount"] == len(seen)
        assert data["leaderboard"]["traces"]["totalCount"] == len(seen)
        path = f"/v1/leaderboard/{board.id}/traces"
        listed = (await asking.get(f"{path}?format=json&batch_limit=100")).json()
        assert [row["id"] for row in listed["rows"]] == seen
        exported = await asking.get(f"{path}/export")
        assert len(exported.text.splitlines()) == len(seen)
        for trace_id in ids:
            one = await ask(asking, f'{{ trace(id: "{trace_id}") {{ id }} }}')
            code = None if "errors" not in one else one["errors"][0]["extensions"]["code"]
            assert code == (None if trace_id in seen else "not_found")
        return seen

    assert await shown(client) == ids[:1:-1]
    answer = await ask(owner, UPDATE, days=5)
    assert answer["data"]["updateWorkspace"]["workspace"] == {"traceRetentionDays": 5}
    await wait_for_count(client, board, 2)
    for asking in (client, owner):
        assert await shown(asking) == ids[:3:-1]
    said = await ask(
        client, f'mutation {{ addFeedback(input: {{traceId: "{ids[3]}", score: 1}}) '
        "{ feedback { id } } }"
    )  # fmt: skip
    assert said["errors"][0]["extensions"]["code"] == "not_found"
    await ask(owner, UPDATE, days=None)
    await wait_for_count(client, board, 4)
    assert await shown(client) == ids[:1:-1]


@pytest.mark.parametrize(
    ("days", "said"),
    [
        (0, "trace_retention_days: Input should be greater than or equal to 1 (got 0)"),
        (31, "trace_retention_days: must be at most 30, which the deployment keeps traces for"),
    ],
)  # fmt: skip
async def test_a_retention_is_from_one_day_to_the_deployments(
    owner: httpx2.AsyncClient, days: int, said: str
) -> None:
    (error,) = (await ask(owner, UPDATE, days=days))["errors"]
    assert error["message"].startswith(said)
    assert error["extensions"]["code"] == "invalid_input"
    whole = await ask(owner, UPDATE, days=30)
    assert whole["data"]["updateWorkspace"]["workspace"] == {"traceRetentionDays": 30}


async def test_only_admins_change_a_workspace(client: httpx2.AsyncClient) -> None:
    (error,) = (await ask(client, UPDATE, days=3))["errors"]
    assert error["extensions"]["code"] == "forbidden"
    answer = await ask(client, "{ workspace { traceRetentionDays } }")
    assert answer["data"]["workspace"] == {"traceRetentionDays": 30}


async def test_what_is_left_out_stays(owner: httpx2.AsyncClient) -> None:
    await ask(owner, UPDATE, days=7)
    answer = await ask(
        owner, "mutation { updateWorkspace(input: {}) { workspace { traceRetentionDays } } }"
    )
    assert answer["data"]["updateWorkspace"]["workspace"] == {"traceRetentionDays": 7}
