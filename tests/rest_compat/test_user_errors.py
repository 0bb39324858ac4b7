"""The errors a user will make: each is told clearly, with the right status."""

from typing import Any
from urllib.parse import urljoin

import httpx2
import pytest
from sqlalchemy import text

from app.services import Process
from engine.slugs import reads_as_id
from tests.conftest import await_run, session_token
from tests.factories import (
    TWO_ROWS_URL,
    Tenant,
    make_candidate,
    make_leaderboard,
    make_ranked_run,
    make_tenant,
    make_token,
)

FAULTS = "https://huggingface.co/datasets/gero-sandbox/faults/resolve/main"
GOOD = {"name": "n", "system_prompt": "p", "dataset_url": TWO_ROWS_URL}


def problem(answer: httpx2.Response) -> tuple[int, str]:
    assert set(answer.json()) == {"error", "code", "details"}
    return answer.status_code, answer.json()["code"]


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "unauthenticated"),
        ({"Authorization": "Bearer drgero_nonsense"}, "unauthenticated"),
        ({"Authorization": "Basic eDp5"}, "unauthenticated"),
        ({"X-API-Key": "hello"}, "unauthenticated"),
    ],
)
async def test_a_missing_or_wrong_credential_is_401(
    anonymous: httpx2.AsyncClient, headers: dict[str, str], code: str
) -> None:
    assert problem(await anonymous.get("/api/leaderboards", headers=headers)) == (401, code)


@pytest.mark.parametrize("name", ["Authorization", "X-API-Key", "X-Dr.Gero-API-Key"])
async def test_a_token_is_taken_in_each_of_its_headers(
    anonymous: httpx2.AsyncClient, tenant: Tenant, name: str
) -> None:
    value = f"Bearer {tenant.token}" if name == "Authorization" else tenant.token
    answer = await anonymous.get("/api/leaderboards", headers={name: value})
    assert answer.json()["total"] == 0


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({}, 200),
        ({"exp": 1}, 401),
        ({"aud": "other"}, 401),
        ({"iss": "x"}, 401),
        ({"sub": "x"}, 401),
    ],
)
async def test_a_session_is_checked_claim_by_claim(
    anonymous: httpx2.AsyncClient, tenant: Tenant, claims: dict[str, Any], status: int
) -> None:
    token = session_token(tenant.owner_id, **claims)
    answer = await anonymous.get("/api/leaderboards", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == status


async def test_a_missing_scope_is_403_and_named(
    anonymous: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    token = await make_token(process, tenant.workspace_id, scopes=["leaderboards:read"])
    answer = await anonymous.post("/api/leaderboards", json=GOOD, headers={"X-API-Key": token})
    assert problem(answer) == (403, "forbidden")
    assert answer.json()["details"]["required"] == "leaderboards:write"
    assert answer.json()["error"] == (
        "this needs leaderboards:write, which the credential does not grant"
    )


async def test_another_workspaces_things_are_404(
    client: httpx2.AsyncClient, process: Process
) -> None:
    other = await make_tenant(process)
    board = await make_leaderboard(process, other.workspace_id)
    path = f"/api/leaderboards/{board.id}"
    for answer in (
        await client.get(path),
        await client.patch(path, json={"name": "mine"}),
        await client.delete(path),
        await client.get(f"{path}/models"),
        await client.get(f"{path}/runs"),
        await client.post(f"{path}/run"),
        await client.get(f"{path}/traces"),
        await client.post(f"{path}/inference", json={"input": "x"}),
    ):
        assert problem(answer) == (404, "not_found")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({**GOOD, "colour": "red"}, "colour: unknown field"),
        (
            {**GOOD, "dataset_type": "PUT"},
            "dataset_type: Input should be 'GET' or 'PUSH' (got 'PUT')",
        ),
        ({**GOOD, "evaluation": {"extract": "("}}, "evaluation.extract: is not a valid regex"),
        ({**GOOD, "name": "a\x00b"}, "name: must not contain NUL"),
        ({"name": "n"}, "system_prompt: is required"),
        ({**GOOD, "dataset_url": "https://example.com/x.jsonl"}, "is not on"),
        ({**GOOD, "dataset_url": f"{FAULTS}/missing.jsonl"}, "answered 404"),
        ({**GOOD, "dataset_url": f"{FAULTS}/page.jsonl"}, "an HTML page"),
        ({**GOOD, "dataset_url": f"{FAULTS}/not-gzip.jsonl.gz"}, "not a valid gzip"),
        ({**GOOD, "dataset_url": f"{FAULTS}/bad-line.jsonl"}, "line 3 is not JSON"),
        (
            {**GOOD, "slug": "0190f1e02c6b7c3a9b1e000000000001"},
            "slug: must not be an id (got '0190",
        ),
        ({**GOOD, "dataset_url": f"{FAULTS}/no-usable-field.jsonl"}, "line 1"),
        ({**GOOD, "dataset_url": f"{FAULTS}/empty.jsonl"}, "has no rows"),
        ({**GOOD, "dataset_url": f"{FAULTS}/latin1.jsonl"}, "line 2 is not JSON"),
    ],
)
async def test_a_wrong_body_is_400_and_names_the_field(
    client: httpx2.AsyncClient, body: dict[str, Any], said: str
) -> None:
    answer = await client.post("/api/leaderboards", json=body)
    assert answer.status_code == 400, answer.text
    assert said in answer.json()["error"]
    assert (await client.get("/api/leaderboards")).json()["total"] == 0


async def test_a_slug_that_is_made_reads_as_no_id(client: httpx2.AsyncClient) -> None:
    body = {**GOOD, "name": "507f1f77bcf86cd799439011"}  # a second one's has 8 digits more
    made = [(await client.post("/api/leaderboards", json=body)).json() for _ in range(3)]
    assert made[0]["slug"] == body["name"]
    for each in made:
        assert not reads_as_id(each["slug"])
        path = f"/api/leaderboards/{each['id']}"
        assert (await client.patch(path, json={"slug": each["slug"]})).status_code == 200


async def test_what_is_not_json_not_an_object_or_too_large_is_refused(
    client: httpx2.AsyncClient,
) -> None:
    kind = {"Content-Type": "application/json"}
    broken = await client.post("/api/leaderboards", content=b"{", headers=kind)
    listed = await client.post("/api/leaderboards", content=b"[]", headers=kind)
    large = await client.post("/api/leaderboards", content=b"x" * 6_000_000, headers=kind)
    assert problem(broken) == problem(listed) == (400, "invalid_input")
    assert problem(large) == (413, "body_too_large")
    assert problem(await client.get("/api/leaderboards/zzz")) == (400, "invalid_input")
    assert problem(await client.get("/nothing")) == (404, "not_found")
    assert problem(await client.put("/api/leaderboards")) == (405, "method_not_allowed")


@pytest.mark.parametrize(
    ("endpoint", "code"),
    [
        ("/fault-500", "server_error"),
        ("/fault-garbage", "invalid_response"),
        ("/fault-huge", "response_too_large"),
        ("/fault-timeout", "timed_out"),
        ("/fault-redirect", "rejected"),
        ("/fault-disconnect", "connection_lost"),
        ("http://127.0.0.1:1/nobody-listens", "connection_failed"),
    ],
)
async def test_a_failing_endpoint_is_502_and_leaves_a_trace(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, sandbox_url: str,
    endpoint: str, code: str,
) -> None:  # fmt: skip
    board = await make_leaderboard(process, tenant.workspace_id)
    candidate = await make_candidate(
        process,
        board,
        endpoint_url=urljoin(f"{sandbox_url}/endpoints/", endpoint.removeprefix("/")),
        timeout_seconds=1.5,
    )
    path = f"/v1/leaderboard/{board.id}"
    early = await client.post(f"{path}/inference", json={"input": "x"})
    assert problem(early) == (409, "ranking_not_ready")
    await make_ranked_run(process, board, [candidate])
    answer = await client.post(f"{path}/inference", json={"input": "x"})
    assert problem(answer) == (502, "upstream_error")
    assert answer.json()["details"]["reason"] == code
    row = (await client.get(f"{path}/traces?source=inference")).json()
    assert (row["id"], row["status"]) == (answer.json()["details"]["trace_id"], "error")
    stream = await client.post(f"{path}/inference", json={"input": "x", "stream": True})
    assert problem(stream) == (400, "unsupported_option")


async def test_a_truncated_gzip_fails_the_run_and_says_so(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, worker: None
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id, url=f"{FAULTS}/truncated.jsonl.gz")
    await make_candidate(process, board)
    run = (await client.post(f"/api/leaderboards/{board.id}/run")).json()
    ended = await await_run(client, board.id, run["id"])
    assert ended["status"] == "failed"
    assert "truncated gzip" in ended["error"]


WRONG_MESSAGES: list[tuple[list[Any], str]] = [
    ([{"content": "x"}], "messages.0.role: is required"),
    ([{"role": 5, "content": "x"}], "messages.0.role: Input should be a valid string (got 5)"),
    ([{"role": "", "content": "x"}], "messages.0.role: String should have at least 1 char"),
    (
        [{"role": "system", "content": "x"}, {"role": "user", "content": 5}],
        "messages.1.content: must be text, or a list of parts (got 5)",
    ),
    ([{"role": "user", "content": {"text": "x"}}], "messages.0.content: must be text, or a"),
    ([{"role": "user", "content": ["x"]}], "messages.0.content: each part must be an object"),
    (
        [{"role": "user", "content": [{"type": "text"}]}],
        "messages.0.content: a part of type text must have a text",
    ),
    ([{"role": "user"}], "messages.0: content is required, unless the role is assistant"),
    (["x"], "messages.0: Input should be"),
]


async def test_a_message_that_no_model_takes_is_400_and_named(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    await make_ranked_run(process, board, [await make_candidate(process, board)])
    for messages, said in WRONG_MESSAGES:
        answer = await client.post(
            f"/v1/leaderboard/{board.id}/inference", json={"messages": messages}
        )
        assert problem(answer) == (400, "invalid_input")
        assert answer.json()["error"].startswith(said)


async def test_messages_are_forwarded_with_all_of_their_fields(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    await make_ranked_run(process, board, [await make_candidate(process, board)])
    messages = [
        {"role": "developer", "content": "Be brief.", "name": "d"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function"}]},
        {"role": "tool", "content": "4", "tool_call_id": "1"},
        {"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {}}]},
    ]
    answered = await client.post(
        f"/v1/leaderboard/{board.id}/inference", json={"messages": messages}
    )
    traces = await client.get(f"/v1/leaderboard/{board.id}/traces?source=inference&format=json")
    (trace,) = traces.json()["rows"]
    assert (answered.status_code, trace["messages"]) == (200, messages)


async def test_a_bound_that_bounds_nothing_is_400_and_named(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    candidate = {"provider": "openrouter", "model_id": "sandbox/quick-small"}
    for name in ("max_tokens", "max_completion_tokens", "n", "best_of"):
        for value in (True, 0, -5, 1.5, "5", 10**12):
            asked = await client.post(
                f"/v1/leaderboard/{board.id}/inference", json={"input": "x", name: value}
            )
            added = await client.post(
                f"/api/leaderboards/{board.id}/models", json={**candidate, "params": {name: value}}
            )
            assert problem(asked) == problem(added) == (400, "invalid_input")
            assert asked.json()["details"]["fields"][0]["field"] == name
            said = f"params: {name} must be a whole number from 1 to"
            assert added.json()["error"].startswith(said)


async def test_a_workspace_that_is_no_id_is_400(
    anonymous: httpx2.AsyncClient, tenant: Tenant
) -> None:
    headers = {
        "Authorization": f"Bearer {session_token(tenant.owner_id)}", "X-Workspace-Id": "abc",
    }  # fmt: skip
    answer = await anonymous.get("/api/leaderboards", headers=headers)
    assert problem(answer) == (400, "invalid_input")
    assert answer.json()["error"] == "X-Workspace-Id: 'abc' is not a UUID"


async def test_a_database_without_this_versions_migrations_is_503(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    async with process.database.write() as session:
        await session.execute(text("ALTER TABLE leaderboard RENAME TO older"))
        await session.execute(text("ALTER TABLE run DROP COLUMN system_prompt"))
    path = f"/v1/leaderboard/{board.id}"
    for answer in (
        await client.get("/api/leaderboards"),
        await client.get(f"/api/leaderboards/{board.id}/runs"),
        await client.post(f"{path}/inference", json={"input": "2 + 3"}),
    ):
        assert problem(answer) == (503, "unavailable")
        assert "'gero migrate'" in answer.json()["error"]
        assert answer.headers["Retry-After"] == "10"
    answer = await client.post("/graphql", json={"query": "{ leaderboards { totalCount } }"})
    (told,) = answer.json()["errors"]
    assert (told["extensions"]["code"], told["extensions"]["status"]) == ("unavailable", 503)


async def test_details_name_the_field_of_every_rule(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    await make_ranked_run(process, board, [await make_candidate(process, board)])
    path, resource = f"/v1/leaderboard/{board.id}", f"/api/leaderboards/{board.id}"
    custom = {"provider": "custom", "endpoint_url": "https://a.example/v1"}
    fed = {"name": "fed", "system_prompt": "p", "dataset_type": "PUSH"}
    made = await client.post("/api/leaderboards", json=fed)
    pushed = f"/api/leaderboards/{made.json()['id']}"
    guarded = {"rollout": {"guardrails": {"min_score_difference": -0.1}}}
    for answer, field in (
        (await client.post(f"{resource}/models", json={"provider": "custom"}), "endpoint_url"),
        (
            await client.post(f"{resource}/models", json={**custom, "auth_method": "bearer"}),
            "auth_token",
        ),
        (await client.patch(resource, json={"serving": {"unknown_price": "allow"}}),
         "serving.hold_usd"),
        (await client.patch(resource, json={"promotion": guarded}),
         "promotion.rollout.guardrails.min_score_difference"),
        (await client.patch(pushed, json={"auto_limit_size": True}), "auto_limit_size"),
        (await client.get(f"{path}/traces?metadata_value=x"), "metadata_value"),
        (await client.get(f"{path}/traces?min_latency_ms=5&max_latency_ms=1"), "min_latency_ms"),
        (await client.get(f"{path}/traces/stats?since=2020-01-01T00:00:00Z"), "since"),
        (await client.post(f"{path}/inference", json={"input": " "}), "input"),
    ):  # fmt: skip
        assert problem(answer) == (400, "invalid_input")
        fields = answer.json()["details"]["fields"]
        assert [each["field"] for each in fields] == [field], answer.json()
        assert fields[0]["message"] in answer.json()["error"]
