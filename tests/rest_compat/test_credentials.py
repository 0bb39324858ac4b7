"""Who may call: API tokens in their three forms, user sessions, scopes, and other workspaces."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx2
import jwt
import pytest
from sqlalchemy import update

from app.services import Process
from db.models import ApiToken, Leaderboard, Member
from tests.conftest import JWT_SECRET, session_token
from tests.factories import (
    DATASET_URL,
    Tenant,
    make_candidate,
    make_leaderboard,
    make_ranked_run,
    make_tenant,
    make_token,
)

LIST = "/api/leaderboards"
NEW_BOARD = {"name": "b", "system_prompt": "p", "dataset_url": DATASET_URL}
NEW_MODEL = {"provider": "openrouter", "model_id": "sandbox/quick-small"}
ROUTES: list[tuple[str, str, dict[str, Any] | None, str]] = [
    ("GET", "/api/leaderboards", None, "leaderboards:read"),
    ("POST", "/api/leaderboards", NEW_BOARD, "leaderboards:write"),
    ("GET", "/api/leaderboards/{id}", None, "leaderboards:read"),
    ("PATCH", "/api/leaderboards/{id}", {"name": "n"}, "leaderboards:write"),
    ("DELETE", "/api/leaderboards/{id}", None, "leaderboards:write"),
    ("GET", "/api/leaderboards/{id}/models", None, "leaderboards:read"),
    ("POST", "/api/leaderboards/{id}/models", NEW_MODEL, "leaderboards:write"),
    ("DELETE", "/api/leaderboards/{id}/models/{model}", None, "leaderboards:write"),
    ("GET", "/api/leaderboards/{id}/runs", None, "leaderboards:read"),
    ("POST", "/api/leaderboards/{id}/run", {}, "leaderboards:run"),
    ("POST", "/api/leaderboards/{id}/inference", {"input": "x"}, "leaderboards:inference"),
    ("POST", "/v1/leaderboard/{id}/inference", {"input": "x"}, "leaderboards:inference"),
    ("GET", "/api/leaderboards/{id}/traces", None, "leaderboards:read"),
    ("GET", "/v1/leaderboard/{id}/traces", None, "leaderboards:read"),
]
IDS = [f"{method} {path}" for method, path, _, _ in ROUTES]


def assert_problem(response: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    body = response.json()
    assert (response.status_code, body["code"]) == (status, code), response.text
    assert body.keys() == {"error", "code", "details"}
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["X-Request-Id"]
    return body  # type: ignore[no-any-return]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize(("method", "path", "body", "_scope"), ROUTES, ids=IDS)
async def test_no_credential_is_401_on_every_route(
    anonymous: httpx2.AsyncClient, method: str, path: str, body: Any, _scope: str
) -> None:
    url = path.format(id=uuid4(), model=uuid4())
    answer = await anonymous.request(method, url, json=body)
    assert "no credential" in assert_problem(answer, 401, "unauthenticated")["error"]
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "credential",
    [
        "drgero_abcdefghijkl_" + "x" * 43,
        "drgero_",
        "drgero_short",
        "hello",
        "a.b.c",
        "hpd_" + "x" * 43,
        "x" * 9_000,
    ],
)
async def test_a_wrong_token_is_401(anonymous: httpx2.AsyncClient, credential: str) -> None:
    assert_problem(await anonymous.get(LIST, headers=bearer(credential)), 401, "unauthenticated")


async def test_a_token_with_one_character_changed_is_401(
    anonymous: httpx2.AsyncClient, tenant: Tenant
) -> None:
    changed = tenant.token[:-1] + ("A" if tenant.token[-1] != "A" else "B")
    answer = await anonymous.get(LIST, headers=bearer(changed))
    assert assert_problem(answer, 401, "unauthenticated")["error"] == "the API token is not valid"


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"expires_at": datetime.now(UTC) - timedelta(seconds=1)}, "expired at"),
        ({"revoked_at": datetime.now(UTC)}, "was revoked"),
    ],
    ids=["expired", "revoked"],
)
async def test_a_token_that_is_over_is_401_and_says_why(
    anonymous: httpx2.AsyncClient, process: Process, tenant: Tenant, columns: Any, said: str
) -> None:
    async with process.database.write() as session:
        await session.execute(
            update(ApiToken).where(ApiToken.workspace_id == tenant.workspace_id).values(columns)
        )
    answer = await anonymous.get(LIST, headers=tenant.headers)
    assert said in assert_problem(answer, 401, "unauthenticated")["error"]


@pytest.mark.parametrize("header", ["Authorization", "X-API-Key", "X-Dr.Gero-API-Key"])
async def test_a_token_is_taken_in_each_of_its_three_forms(
    anonymous: httpx2.AsyncClient, tenant: Tenant, header: str
) -> None:
    value = f"Bearer {tenant.token}" if header == "Authorization" else tenant.token
    answer = await anonymous.get(LIST, headers={header: value})
    assert answer.status_code == 200


@pytest.mark.parametrize("value", ["Basic YTpi", "Bearer", "Bearer  ", "drgero_x"])
async def test_an_authorization_that_is_not_bearer_is_401(
    anonymous: httpx2.AsyncClient, value: str
) -> None:
    answer = await anonymous.get(LIST, headers={"Authorization": value})
    assert "must be 'Bearer'" in assert_problem(answer, 401, "unauthenticated")["error"]


@pytest.mark.parametrize(("method", "path", "body", "scope"), ROUTES, ids=IDS)
async def test_a_token_without_the_scope_is_403_naming_it(
    anonymous: httpx2.AsyncClient,
    process: Process,
    tenant: Tenant,
    method: str,
    path: str,
    body: Any,
    scope: str,
) -> None:
    every = {"leaderboards:read", "leaderboards:write", "leaderboards:run"}
    others = sorted((every | {"leaderboards:inference", "models:*"}) - {scope})
    token = await make_token(process, tenant.workspace_id, scopes=others)
    board = await make_leaderboard(process, tenant.workspace_id)
    url = path.format(id=board.id, model=uuid4())
    answer = await anonymous.request(method, url, json=body, headers=bearer(token))
    problem = assert_problem(answer, 403, "forbidden")
    assert repr(scope) in problem["error"]
    assert problem["details"]["required"] == scope
    assert scope not in problem["details"]["granted"]


@pytest.mark.parametrize("scopes", [["leaderboards:read"], ["leaderboards:*"], ["*"], []])
async def test_a_wildcard_and_an_old_empty_list_grant_as_the_scope_does(
    anonymous: httpx2.AsyncClient, process: Process, tenant: Tenant, scopes: list[str]
) -> None:
    token = await make_token(process, tenant.workspace_id)
    async with process.database.write() as session:
        await session.execute(update(ApiToken).values(scopes=scopes))
    assert (await anonymous.get(LIST, headers=bearer(token))).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "_scope"),
    [route for route in ROUTES if "{id}" in route[1]],
    ids=[name for name in IDS if "{id}" in name],
)
async def test_another_workspaces_object_is_404(
    anonymous: httpx2.AsyncClient,
    process: Process,
    tenant: Tenant,
    method: str,
    path: str,
    body: Any,
    _scope: str,
) -> None:
    stranger = await make_tenant(process)
    board = await make_leaderboard(process, tenant.workspace_id)
    candidate = await make_candidate(process, board)
    await make_ranked_run(process, board, [candidate])
    url = path.format(id=board.id, model=candidate.id)
    answer = await anonymous.request(method, url, json=body, headers=stranger.headers)
    problem = assert_problem(answer, 404, "not_found")
    assert problem["error"] == f"leaderboard {board.id} does not exist"
    async with process.database.read() as session:
        kept = await session.get(Leaderboard, board.id)
    assert kept is not None
    assert (kept.name, kept.deleted_at) == (board.name, None)


async def test_lists_hold_the_callers_own_workspace_alone(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    mine = await make_leaderboard(process, tenant.workspace_id)
    await make_leaderboard(process, (await make_tenant(process)).workspace_id)
    listed = (await client.get(LIST)).json()
    assert [each["id"] for each in listed["leaderboards"]] == [str(mine.id)]
    assert listed["total"] == 1


async def test_a_session_reads_its_users_workspace(
    anonymous: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    listed = await anonymous.get(LIST, headers=bearer(session_token(tenant.owner_id)))
    assert [each["id"] for each in listed.json()["leaderboards"]] == [str(board.id)]
    traces = await anonymous.get(
        f"/v1/leaderboard/{board.id}/traces", headers=bearer(session_token(tenant.owner_id))
    )
    assert (traces.status_code, traces.text) == (200, "")


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"exp": 1_000}, "the session has expired; sign in again"),
        ({"aud": "someone-else"}, "the session token is not valid"),
        ({"iss": "someone-else"}, "the session token is not valid"),
        ({"sub": "not-a-uuid"}, "the session token is not valid"),
        ({"exp": None}, "the session token is not valid"),
        ({"aud": None}, "the session token is not valid"),
    ],
    ids=["expired", "audience", "issuer", "subject", "no expiry", "no audience"],
)
async def test_a_session_with_a_wrong_claim_is_401(
    anonymous: httpx2.AsyncClient, tenant: Tenant, claims: dict[str, Any], said: str
) -> None:
    token = session_token(tenant.owner_id, **claims)
    answer = await anonymous.get(LIST, headers=bearer(token))
    assert assert_problem(answer, 401, "unauthenticated")["error"] == said


@pytest.mark.parametrize(
    ("secret", "algorithm"),
    [
        ("another secret, which is long enough as well", "HS256"),
        ("", "none"),
        (JWT_SECRET * 2, "HS512"),
        (JWT_SECRET, "HS384"),
    ],
    ids=["another secret", "alg none", "HS512", "the secret with HS384"],
)
async def test_a_session_not_signed_by_us_is_401(
    anonymous: httpx2.AsyncClient, tenant: Tenant, secret: str, algorithm: str
) -> None:
    claims = jwt.decode(session_token(tenant.owner_id), options={"verify_signature": False})
    key = secret.ljust(64, "!") if algorithm.startswith("HS") and secret != JWT_SECRET else secret
    if algorithm == "HS384":
        key = JWT_SECRET.ljust(48, "!")
    token = jwt.encode(claims, key or None, algorithm=algorithm)
    answer = await anonymous.get(LIST, headers=bearer(token))
    assert_problem(answer, 401, "unauthenticated")


async def test_a_session_of_no_member_is_403(anonymous: httpx2.AsyncClient, tenant: Tenant) -> None:
    answer = await anonymous.get(LIST, headers=bearer(session_token(uuid4())))
    assert "not a member" in assert_problem(answer, 403, "forbidden")["error"]


async def test_a_session_chooses_among_its_workspaces_and_no_other(
    anonymous: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    other, foreign = await make_tenant(process), await make_tenant(process)
    async with process.database.write() as session:
        session.add(Member(workspace_id=other.workspace_id, user_id=tenant.owner_id, role="member"))
    board = await make_leaderboard(process, other.workspace_id)
    headers = bearer(session_token(tenant.owner_id))

    async def listed(workspace: object) -> httpx2.Response:
        return await anonymous.get(LIST, headers={**headers, "X-Workspace-Id": str(workspace)})

    assert (await listed(tenant.workspace_id)).json()["total"] == 0
    chosen = (await listed(other.workspace_id)).json()["leaderboards"]
    assert [each["id"] for each in chosen] == [str(board.id)]
    assert_problem(await listed(foreign.workspace_id), 403, "forbidden")
    problem = assert_problem(await listed("mine"), 403, "forbidden")
    assert problem["error"] == "X-Workspace-Id: 'mine' is not a UUID"


async def test_a_token_is_bound_to_its_workspace_whatever_the_header_says(
    anonymous: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    other = await make_tenant(process)
    await make_leaderboard(process, other.workspace_id)
    headers = {**tenant.headers, "X-Workspace-Id": str(other.workspace_id)}
    assert (await anonymous.get(LIST, headers=headers)).json()["total"] == 0
