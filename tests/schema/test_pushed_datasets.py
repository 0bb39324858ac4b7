"""Pushed datasets in GraphQL: made, pushed to, consolidated and shown."""

from typing import Any

import httpx2
import pytest

from app.services import Process
from tests.conftest import ask, await_run
from tests.factories import (
    DATASET_URL,
    TWO_ROWS_URL,
    Tenant,
    make_candidate,
    make_leaderboard,
)
from tests.rest_compat.test_push import make_push_board, push, rows

CREATE = """
mutation ($push: PushSettingsInput) {
  createLeaderboard(input: {
    name: "tickets", systemPrompt: "Sort: {input}", datasetType: PUSH, push: $push
  }) {
    leaderboard {
      id datasetType datasetUrl
      dataset {
        id type url pushUrl
        settings {
          autoLimitSize maxSamplesToGather dailyEventLimit dedupe consolidateEveryHours endDate
        }
        status {
          acceptedRows pendingRows isDue daily { limit used left } monthly { limit left }
          lastConsolidatedAt nextDueAt
        }
        pushTokens { id }
        latestSnapshot { id }
      }
    }
  }
}
"""
PUSH = """
mutation ($id: ID!, $rows: [JSON!]!) {
  pushRows(input: {leaderboardId: $id, rows: $rows}) {
    receipt {
      status acceptedRows rejectedRows duplicateRows pendingEvents shouldConsolidate
      rejections { index code message }
    }
  }
}
"""
CONSOLIDATE = """
mutation ($id: ID!) {
  consolidateDataset(input: {leaderboardId: $id}) {
    isNew
    snapshot { number rowCount contentSha256 }
    dataset { status { pendingRows acceptedRows } latestSnapshot { number } }
  }
}
"""


async def test_a_pushed_dataset_is_made_pushed_to_and_consolidated(
    client: httpx2.AsyncClient, base_url: str
) -> None:
    settings = {
        "maxSamplesToGather": 5,
        "autoLimitSize": True,
        "dailyEventLimit": 3,
        "consolidateEveryHours": 24,
        "endDate": "2099-01-01T00:00:00+00:00",
    }
    made = (await ask(client, CREATE, push=settings))["data"]["createLeaderboard"]["leaderboard"]
    board_id = made["id"]
    assert (made["datasetType"], made["datasetUrl"]) == ("PUSH", None)
    assert made["dataset"] == {
        "id": board_id,
        "type": "PUSH",
        "url": None,
        "pushUrl": f"{base_url}/v1/leaderboard/{board_id}/dataset/push",
        "settings": {**settings, "dedupe": True},
        "status": {
            "acceptedRows": 0,
            "pendingRows": 0,
            "isDue": False,
            "daily": {"limit": 3, "used": 0, "left": 3},
            "monthly": {"limit": None, "left": None},
            "lastConsolidatedAt": None,
            "nextDueAt": None,
        },
        "pushTokens": [],
        "latestSnapshot": None,
    }
    given = [*rows(2), {"input": ""}, *rows(3)]
    pushed = await ask(client, PUSH, id=board_id, rows=given)
    receipt = pushed["data"]["pushRows"]["receipt"]
    assert receipt["rejections"] == [
        {"index": 2, "code": "empty_input", "message": "input holds no text"}
    ]
    del receipt["rejections"]
    assert receipt == {
        "status": "PARTIAL",
        "acceptedRows": 3,
        "rejectedRows": 1,
        "duplicateRows": 2,
        "pendingEvents": 3,
        "shouldConsolidate": False,
    }
    (done, again) = [
        (await ask(client, CONSOLIDATE, id=board_id))["data"]["consolidateDataset"]
        for _ in range(2)
    ]
    assert (done["isNew"], again["isNew"]) == (True, False)
    assert done["snapshot"] == again["snapshot"]
    assert done["snapshot"]["rowCount"] == 3
    assert done["dataset"] == {
        "status": {"pendingRows": 0, "acceptedRows": 3},
        "latestSnapshot": {"number": 1},
    }


async def test_push_tokens_are_made_shown_and_revoked(
    client: httpx2.AsyncClient, anonymous: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_push_board(process, tenant)
    create = """
    mutation ($id: ID!) {
      createPushToken(input: {leaderboardId: $id, name: "hook"}) {
        secret pushToken { id name publicId revokedAt lastUsedAt }
      }
    }
    """
    made = (await ask(client, create, id=str(board.id)))["data"]["createPushToken"]
    assert made["secret"].startswith(f"hpd_{made['pushToken']['publicId']}_")
    headers = {"X-Dr.Gero-Push-Token": made["secret"]}
    pushed = await anonymous.post(
        "/graphql",
        json={"query": PUSH, "variables": {"id": str(board.id), "rows": rows(1)}},
        headers=headers,
    )
    assert pushed.json()["data"]["pushRows"]["receipt"]["acceptedRows"] == 1
    revoke = """
    mutation ($id: ID!) {
      revokePushTokens(input: {leaderboardId: $id}) {
        revokedIds dataset { pushTokens { id revokedAt lastUsedAt } }
      }
    }
    """
    revoked = (await ask(client, revoke, id=str(board.id)))["data"]["revokePushTokens"]
    assert revoked["revokedIds"] == [made["pushToken"]["id"]]
    (shown,) = revoked["dataset"]["pushTokens"]
    assert None not in shown.values()


async def test_settings_change_one_by_one_and_null_takes_a_limit_away(
    client: httpx2.AsyncClient,
) -> None:
    made = (await ask(client, CREATE, push={"dailyEventLimit": 3}))["data"]["createLeaderboard"]
    path = f"/api/leaderboards/{made['leaderboard']['id']}"
    shown = (await client.patch(path, json={"monthly_event_limit": 9, "dedupe": False})).json()
    names = ("dataset_type", "daily_event_limit", "monthly_event_limit", "dedupe", "dataset_url")
    assert [shown[name] for name in names] == ["PUSH", 3, 9, False, None]
    shown = (await client.patch(path, json={"daily_event_limit": None})).json()
    assert [shown[name] for name in names] == ["PUSH", None, 9, False, None]
    shown = (
        await client.patch(path, json={"dataset_type": "GET", "dataset_url": DATASET_URL})
    ).json()
    assert [shown[name] for name in names] == ["GET", None, None, None, DATASET_URL]
    shown = (
        await client.patch(path, json={"dataset_type": "PUSH", "end_date": "2099-12-31"})
    ).json()
    assert [shown[name] for name in names] == ["PUSH", None, None, True, None]
    assert shown["end_date"] == "2100-01-01T00:00:00Z"
    last_day = await client.patch(path, json={"end_date": "9999-12-31"})
    assert last_day.json()["end_date"] == "9999-12-31T23:59:59.999999Z"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"dataset_type": "GET"}, "dataset_url is required for dataset_type GET"),
        ({"dataset_type": "PUSH", "dataset_url": DATASET_URL}, "goes with dataset_type GET"),
        ({"dataset_url": DATASET_URL, "dedupe": True}, "dedupe goes with dataset_type PUSH"),
        ({"dataset_type": "PUSH", "auto_limit_size": True}, "needs max_samples_to_gather"),
        ({"dataset_type": "PUSH", "daily_event_limit": 0}, "daily_event_limit"),
        ({"dataset_type": "PUSH", "end_date": "2026-02-30"}, "end_date"),
        ({"dataset_type": "PUSH", "end_date": "2026-02-20T10:00:00"}, "have timezone info"),
        ({"dataset_type": "PUSH", "end_date": "0001-01-01"}, "end_date: must be in the years"),
        ({"dataset_type": "PUSH", "near_duplicate_threshold": 0.1}, "near_duplicate_threshold"),
    ],
)
async def test_settings_that_do_not_go_together_are_a_400_that_names_them(
    client: httpx2.AsyncClient, body: dict[str, Any], said: str
) -> None:
    given = {"name": "n", "system_prompt": "p", **body}
    answer = await client.post("/api/leaderboards", json=given)
    assert answer.status_code == 400, answer.text
    assert said in answer.json()["error"]


async def test_a_pushed_dataset_takes_models_once_it_has_enough_rows_and_ranks_them(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, worker: None
) -> None:
    board = await make_push_board(process, tenant)
    model = {"provider": "openrouter", "model_id": "sandbox/balanced-medium"}
    path = f"/api/leaderboards/{board.id}"
    await push(client, board, rows(99))
    refused = await client.post(f"{path}/models", json=model)
    assert (refused.status_code, refused.json()["details"]) == (
        409, {"accepted_rows": 99, "needed_rows": 100},
    )  # fmt: skip
    unlabelled = [{"input": f"unlabelled {n}"} for n in range(5)]
    await push(client, board, [*rows(21, start=99), *unlabelled])
    assert (await client.post(f"{path}/models", json=model)).status_code == 201
    early = await client.post(f"{path}/run")
    assert (early.status_code, "no snapshot yet" in early.json()["error"]) == (409, True)
    await ask(client, CONSOLIDATE, id=str(board.id))
    size = {"mode": "LIMIT", "limit": {"rows": 30, "algorithm": "LAST_N"}}
    started = await client.post(f"{path}/run", json={"dataset": size})
    ended = await await_run(client, board.id, started.json()["id"])
    assert (ended["status"], ended["row_count"]) == ("completed", 30)
    asked = await ask(
        client,
        "query ($id: ID!) { run(id: $id) { results(first: 50) { nodes { row { input } } } } }",
        id=ended["id"],
    )
    inputs = {each["row"]["input"] for each in asked["data"]["run"]["results"]["nodes"]}
    assert inputs == {row["input"] for row in rows(30, start=90)}


async def test_a_dataset_that_was_read_and_is_pushed_now_runs_on_what_was_pushed(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id, url=TWO_ROWS_URL)
    await make_candidate(process, board)
    await ask(client, CONSOLIDATE, id=str(board.id))
    path = f"/api/leaderboards/{board.id}"
    await client.patch(path, json={"dataset_type": "PUSH"})
    early = await client.post(f"{path}/run")
    assert (early.status_code, "no snapshot yet" in early.json()["error"]) == (409, True)
    await push(client, board, rows(3))
    await ask(client, CONSOLIDATE, id=str(board.id))
    assert (await client.post(f"{path}/run")).status_code == 202
