"""Pushing rows over REST: what is taken, what is refused and why, and who may push."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import orjson
import pytest
from sqlalchemy import func, select, update

from app.services import Process
from db.models import Dataset, IdempotencyKey, Leaderboard, PushedRow, PushToken
from tests.factories import Tenant, make_leaderboard, make_tenant, make_token

VIEWER = "{ viewer { __typename } }"
ROW = {"id": "1", "input": "What is 2 + 2?", "output": "4"}


async def make_push_board(process: Process, tenant: Tenant, **settings: Any) -> Leaderboard:
    push = {"auto_limit_size": False, "dedupe": True, **settings}
    return await make_leaderboard(
        process, tenant.workspace_id, url=None, dataset_type="PUSH", push=push
    )


def rows(count: int, *, start: int = 0) -> list[dict[str, str]]:
    return [{"input": f"question {start + index}", "output": "yes"} for index in range(count)]


async def push(client: httpx2.AsyncClient, board: Leaderboard, payload: Any, **options: Any) -> Any:
    return await client.post(f"/v1/leaderboard/{board.id}/dataset/push", json=payload, **options)


async def stored_lines(process: Process, board: Leaderboard) -> list[bytes]:
    async with process.database.read() as session:
        return list(
            await session.scalars(
                select(PushedRow.line)
                .where(PushedRow.leaderboard_id == board.id)
                .order_by(PushedRow.sequence)
            )
        )


@pytest.mark.parametrize(
    "payload",
    [ROW, [ROW], {"rows": [ROW]}, {"events": [ROW]}, {"samples": [ROW]}],
    ids=["row", "array", "rows", "events", "samples"],
)
async def test_a_push_in_any_form_is_acknowledged_and_stored(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, payload: Any
) -> None:
    board = await make_push_board(process, tenant, daily_event_limit=10)
    answer = await push(client, board, payload)
    assert answer.status_code == 202
    body = answer.json()
    batch_id = body.pop("batch_id")
    assert body == {
        "accepted_rows": 1,
        "rejected_rows": 0,
        "duplicate_rows": 0,
        "status": "accepted",
        "pending_events": 1,
        "limits": {
            "daily_event_limit": 10,
            "monthly_event_limit": None,
            "max_samples_to_gather": None,
        },
        "consolidation": {"should_consolidate": False},
        "rejections": [],
    }
    assert await stored_lines(process, board) == [
        b'{"expected":"4","id":"1","input":"What is 2 + 2?"}'
    ]
    async with process.database.read() as session:
        assert str(await session.scalar(select(PushedRow.batch_id))) == batch_id


async def test_the_alias_under_api_pushes_too(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_push_board(process, tenant)
    answer = await client.post(f"/api/leaderboards/{board.id}/dataset/push", json=ROW)
    assert (answer.status_code, answer.json()["accepted_rows"]) == (202, 1)


async def test_good_rows_are_taken_beside_bad_ones_which_are_named(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_push_board(process, tenant)
    given = [
        ROW,
        7,
        {"note": "x"},
        {"input": "  "},
        {"input": "b", "tags": "x"},
        {"input": "a\x00"},
    ]
    body = (await push(client, board, given)).json()
    assert (body["status"], body["accepted_rows"], body["rejected_rows"]) == ("partial", 1, 5)
    assert [(each["index"], each["code"]) for each in body["rejections"]] == [
        (1, "not_an_object"),
        (2, "no_usable_field"),
        (3, "empty_input"),
        (4, "wrong_type"),
        (5, "invalid_text"),
    ]
    assert "tags" in body["rejections"][3]["message"]


async def test_a_push_of_bad_rows_alone_is_rejected_with_202(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_push_board(process, tenant)
    answer = await push(client, board, {"rows": [1, None]})
    assert answer.status_code == 202
    assert (answer.json()["status"], answer.json()["accepted_rows"]) == ("rejected", 0)


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ([], "there are no rows"),
        ("x", "not a string"),
        (None, "not valid JSON"),
        ({"rows": []}, "there are no rows"),
        ({"rows": [ROW], "events": [ROW]}, "events: unknown field beside rows"),
        ({"rows": [ROW], "mode": "x"}, "mode: unknown field beside rows"),
    ],
)
async def test_what_is_no_push_is_a_400(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, payload: Any, said: str
) -> None:
    board = await make_push_board(process, tenant)
    answer = await push(client, board, payload)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")
    assert said in answer.json()["error"]


async def test_a_body_that_is_not_json_is_a_400(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_push_board(process, tenant)
    answer = await client.post(
        f"/v1/leaderboard/{board.id}/dataset/push", content=b'{"input": NaN}'
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")


async def test_more_than_a_thousand_rows_are_a_413_and_a_thousand_are_not(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_push_board(process, tenant)
    refused = await push(client, board, rows(1_001))
    assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")
    assert (await push(client, board, rows(1_000))).json()["accepted_rows"] == 1_000


async def test_a_body_above_five_mebibytes_is_a_413(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_push_board(process, tenant)
    answer = await push(client, board, {"input": "x" * 5 * 1024 * 1024})
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("setting_overrides", [{"push_max_row_bytes": 1_024}])
async def test_a_row_above_its_limit_is_rejected_by_name(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_push_board(process, tenant)
    body = (await push(client, board, [{"input": "x" * 1_024}, ROW])).json()
    assert (body["accepted_rows"], body["rejections"][0]["code"]) == (1, "row_too_large")


@pytest.mark.parametrize(
    "row",
    [{"input": "n", "metadata": {"n": [1] * 1_000_000}}, {"input": "\ufdfa" * 300_000}],
    ids=["many values", "a ligature of eighteen letters"],
)
async def test_a_row_that_takes_long_to_check_holds_nobody_up(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, row: Any
) -> None:
    board = await make_push_board(process, tenant)
    body = orjson.dumps([row] * 2)
    pushing = asyncio.create_task(
        client.post(f"/v1/leaderboard/{board.id}/dataset/push", content=body)
    )
    pauses = []
    while not pushing.done():
        began = time.perf_counter()
        await asyncio.sleep(0)
        pauses.append(time.perf_counter() - began)
    assert (await pushing).status_code == 202
    assert max(pauses) < sum(pauses) / 2


async def test_a_row_is_taken_once_by_its_id_and_by_its_content(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_push_board(process, tenant)
    assert (await push(client, board, [ROW, ROW])).json()["duplicate_rows"] == 1
    again = [
        {**ROW, "input": "another question"},
        {"id": "2", "question": " what is  2 + 2? ", "answer": "4"},
        {"id": "2", "question": "What is 2 + 3?", "answer": "5"},
    ]
    body = (await push(client, board, again)).json()
    assert (body["status"], body["accepted_rows"], body["duplicate_rows"]) == ("accepted", 1, 2)


async def test_without_dedupe_the_same_content_is_taken_again_but_the_same_id_is_not(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_push_board(process, tenant, dedupe=False)
    same = {"input": "Why?", "output": "So."}
    body = (await push(client, board, [same, same, ROW, ROW])).json()
    assert (body["accepted_rows"], body["duplicate_rows"]) == (3, 1)
    assert (await push(client, board, same)).json()["accepted_rows"] == 1
    async with process.database.read() as session:
        keys = (await session.scalars(select(PushedRow.row_key))).all()
    assert len(set(keys)) == 4


async def test_a_quota_that_is_used_up_takes_no_more_and_says_so(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_push_board(process, tenant, daily_event_limit=3, monthly_event_limit=5)
    body = (await push(client, board, rows(4))).json()
    assert (body["accepted_rows"], body["rejections"][0]["code"]) == (3, "daily_limit_reached")
    answer = await push(client, board, rows(1, start=10))
    assert (answer.status_code, answer.json()["accepted_rows"]) == (202, 0)
    assert "3 rows were accepted today" in answer.json()["rejections"][0]["message"]
    async with process.database.write() as session:  # a day later
        await session.execute(update(Dataset).values(day=Dataset.day - 1))
    body = (await push(client, board, rows(3, start=20))).json()
    assert (body["accepted_rows"], body["rejections"][0]["code"]) == (2, "monthly_limit_reached")


@pytest.mark.parametrize(
    ("quotas", "code"),
    [
        ({"max_samples_to_gather": 2}, "dataset_full"),
        ({"end_date": "2026-01-01T00:00:00Z"}, "dataset_ended"),
    ],
)
async def test_a_dataset_that_is_full_or_over_takes_no_more(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, quotas: Any, code: str
) -> None:
    board = await make_push_board(process, tenant, **quotas)
    await push(client, board, rows(2))
    body = (await push(client, board, rows(1, start=10))).json()
    assert (body["accepted_rows"], body["rejections"][0]["code"]) == (0, code)


async def test_quotas_hold_exactly_under_64_pushers_at_once(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_push_board(process, tenant, daily_event_limit=500)
    answers = await asyncio.gather(
        *(push(client, board, rows(10, start=each * 10)) for each in range(64))
    )
    assert sum(answer.json()["accepted_rows"] for answer in answers) == 500
    assert len(await stored_lines(process, board)) == 500
    async with process.database.read() as session:
        dataset = (await session.scalars(select(Dataset))).one()
        sequences = (await session.scalars(select(PushedRow.sequence))).all()
    assert (dataset.last_sequence, dataset.day_row_count) == (500, 500)
    assert sorted(sequences) == list(range(1, 501))


async def test_one_row_pushed_by_64_at_once_is_taken_once(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_push_board(process, tenant)
    answers = await asyncio.gather(*(push(client, board, ROW) for _ in range(64)))
    assert sum(answer.json()["accepted_rows"] for answer in answers) == 1
    assert sum(answer.json()["duplicate_rows"] for answer in answers) == 63


async def test_a_repeat_with_an_idempotency_key_gets_the_same_receipt(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_push_board(process, tenant)
    headers = {"Idempotency-Key": "one"}
    answers = await asyncio.gather(*(push(client, board, ROW, headers=headers) for _ in range(8)))
    assert {answer.text for answer in answers} == {answers[0].text}
    assert answers[0].json()["accepted_rows"] == 1
    other = await push(client, board, [ROW], headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")


async def test_a_repeat_after_the_answer_was_lost_gets_the_receipt_of_the_first(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_push_board(process, tenant)
    headers = {"Idempotency-Key": "two"}
    first = await push(client, board, [ROW, 7], headers=headers)
    async with process.database.write() as session:
        await session.execute(
            update(IdempotencyKey).values(
                answer_status=None, claimed_until=datetime.now(UTC) - timedelta(minutes=1)
            )
        )
    again = await push(client, board, [ROW, 7], headers=headers)
    assert again.json() == first.json()


async def test_a_url_dataset_takes_no_rows(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    answer = await push(client, board, ROW)
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


async def test_another_workspaces_dataset_is_not_found(
    client: httpx2.AsyncClient, process: Process
) -> None:
    board = await make_push_board(process, await make_tenant(process))
    answer = await push(client, board, ROW)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert await stored_lines(process, board) == []


async def test_pushing_needs_leaderboards_write(
    anonymous: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_push_board(process, tenant)
    reader = await make_token(process, tenant.workspace_id, scopes=["leaderboards:read"])
    refused = await push(anonymous, board, ROW, headers={"X-API-Key": reader})
    assert (refused.status_code, refused.json()["details"]["required"]) == (
        403,
        "leaderboards:write",
    )
    assert (await push(anonymous, board, ROW)).status_code == 401


async def make_push_token(client: httpx2.AsyncClient, board: Leaderboard) -> Any:
    answer = await client.post(f"/v1/leaderboard/{board.id}/dataset/token", json={"name": "hook"})
    assert answer.status_code == 201
    return answer.json()


@pytest.mark.parametrize(
    "header", ["X-Dr.Gero-Push-Token", "Authorization"], ids=["own header", "bearer"]
)
async def test_a_push_token_pushes_to_its_leaderboard_and_does_nothing_else(
    client: httpx2.AsyncClient,
    anonymous: httpx2.AsyncClient,
    process: Process,
    tenant: Tenant,
    header: str,
) -> None:
    board, other = [await make_push_board(process, tenant) for _ in range(2)]
    made = await make_push_token(client, board)
    assert made["secret"].startswith("hpd_")
    value = f"Bearer {made['secret']}" if header == "Authorization" else made["secret"]
    headers = {header: value}
    assert (await push(anonymous, board, ROW, headers=headers)).status_code == 202
    refused = await push(anonymous, other, ROW, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    for path in (f"/v1/leaderboard/{board.id}/dataset/status", "/api/leaderboards"):
        assert (await anonymous.get(path, headers=headers)).status_code == 403
    asked = await anonymous.post(
        "/graphql", json={"query": "{ viewer { __typename } }"}, headers=headers
    )
    assert asked.json()["errors"][0]["extensions"]["code"] == "forbidden"


async def test_the_status_shows_counts_quotas_and_tokens_without_secrets(
    client: httpx2.AsyncClient, anonymous: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_push_board(
        process, tenant, daily_event_limit=5, consolidate_every_events=4, consolidate_every_hours=2
    )
    made = await make_push_token(client, board)
    await push(anonymous, board, rows(3), headers={"X-Dr.Gero-Push-Token": made["secret"]})
    answer = await client.get(f"/v1/leaderboard/{board.id}/dataset/status")
    assert made["secret"] not in answer.text
    status = answer.json()
    assert (status["accepted_rows"], status["pending_events"], status["snapshot"]) == (3, 3, None)
    assert {name: status["daily"][name] for name in ("limit", "used", "left")} == {
        "limit": 5,
        "used": 3,
        "left": 2,
    }
    assert status["monthly"]["left"] is None
    assert status["consolidation"]["rows_until_due"] == 1
    assert status["consolidation"]["next_due_at"] is not None
    (token,) = status["tokens"]
    assert (token["id"], token["name"], token["revoked_at"]) == (made["id"], "hook", None)
    assert token["last_used_at"] is not None


async def test_a_revoked_push_token_is_refused_within_a_second(
    client: httpx2.AsyncClient, anonymous: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_push_board(process, tenant)
    one, two, three = [await make_push_token(client, board) for _ in range(3)]
    tokens = f"/v1/leaderboard/{board.id}/dataset/tokens"
    named = await client.delete(tokens, params={"token_id": one["id"]})
    assert named.json() == {"revoked": 1}
    in_body = await client.request("DELETE", tokens, json={"token_id": two["id"]})
    assert in_body.json() == {"revoked": 1}
    assert (await client.delete(tokens)).json() == {"revoked": 1}
    assert (await client.delete(tokens)).json() == {"revoked": 0}
    for token in (one, two, three):
        answer = await push(
            anonymous, board, ROW, headers={"X-Dr.Gero-Push-Token": token["secret"]}
        )
        assert (answer.status_code, answer.json()["error"]) == (401, "the push token was revoked")


async def test_no_secret_of_a_push_token_is_stored_in_the_clear(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_push_board(process, tenant)
    path = f"/v1/leaderboard/{board.id}/dataset/token"
    headers = {"Idempotency-Key": "token"}
    made, again = [await client.post(path, json={"name": "x"}, headers=headers) for _ in range(2)]
    assert made.text == again.text
    secret = made.json()["secret"].split("_", 2)[2].encode()
    async with process.database.read() as session:
        kept = await session.scalar(select(IdempotencyKey.answer_body))
        assert await session.scalar(select(func.count()).select_from(PushToken)) == 1
    assert kept
    assert secret not in kept
