"""The errors a user will make in GraphQL carry the codes and statuses that REST answers."""

import logging
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from sqlalchemy import text, update

from app.services import Process
from db.models import ApiToken, Leaderboard
from tests.conftest import ask, session_token
from tests.factories import (
    TWO_ROWS_URL,
    Tenant,
    make_candidate,
    make_leaderboard,
    make_ranked_run,
    make_tenant,
    make_token,
)

CREATE = """mutation($input: CreateLeaderboardInput!) {
  createLeaderboard(input: $input) { leaderboard { id } } }"""
GOOD = {"name": "n", "systemPrompt": "p", "datasetUrl": TWO_ROWS_URL}
LIST = "{ leaderboards(%s) { nodes { id } } }"
SPEC_TYPE = "application/graphql-response+json"


async def fail(client: httpx2.AsyncClient, query: str, **variables: Any) -> tuple[str, int, str]:
    """Send an operation that fails, and return its first error's code, status and message."""
    answer = await client.post("/graphql", json={"query": query, "variables": variables})
    error = answer.json()["errors"][0]
    assert set(error["extensions"]) == {"code", "status", "details"}
    return error["extensions"]["code"], error["extensions"]["status"], error["message"]


async def fail_in_rest(answer: httpx2.Response) -> tuple[str, int, str]:
    return answer.json()["code"], answer.status_code, answer.json()["error"]


async def worn_out(process: Process, tenant: Tenant, name: str, **columns: Any) -> str:
    """Return a token that was changed after it was made."""
    token = await make_token(process, tenant.workspace_id, name=name)
    async with process.database.write() as session:
        await session.execute(update(ApiToken).where(ApiToken.name == name).values(**columns))
    return token


async def test_a_credential_fails_as_it_does_in_rest(
    anonymous: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    then = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    for credential, said in (
        (None, "no credential: send an API token"),
        (f"drgero_{'a' * 12}_{'b' * 43}", "the API token is not valid"),
        ("hello", "the credential is not valid"),
        (
            await worn_out(process, tenant, "expired", expires_at=then),
            "the API token expired at 2026-01-02T03:04:05.000Z",
        ),
        (await worn_out(process, tenant, "revoked", revoked_at=then), "the API token was revoked"),
        (session_token(tenant.owner_id, exp=1), "the session has expired; sign in again"),
    ):
        if credential is not None:
            anonymous.headers["Authorization"] = f"Bearer {credential}"
        failed = await fail(anonymous, "{ leaderboards { nodes { id } } }")
        assert failed[:2] == ("unauthenticated", 401)
        assert failed[2].startswith(said)
        assert failed == await fail_in_rest(await anonymous.get("/api/leaderboards"))


async def test_scopes_and_other_workspaces_fail_as_they_do_in_rest(
    client: httpx2.AsyncClient, anonymous: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    reader = await make_token(process, tenant.workspace_id, scopes=["leaderboards:read"])
    anonymous.headers["X-API-Key"] = reader
    body = {"name": "n", "system_prompt": "p", "dataset_url": TWO_ROWS_URL}
    failed = await fail(anonymous, CREATE, input=GOOD)
    assert failed[:2] == ("forbidden", 403)
    assert failed == await fail_in_rest(await anonymous.post("/api/leaderboards", json=body))

    other = await make_tenant(process)
    board = await make_leaderboard(process, other.workspace_id)
    run = await make_ranked_run(process, board, [await make_candidate(process, board)])
    for query in (
        f'{{ leaderboard(id: "{board.id}") {{ name }} }}',
        f'{{ run(id: "{run.id}") {{ status }} }}',
        f'{{ trace(id: "{uuid4()}") {{ output }} }}',
        f'mutation {{ deleteLeaderboard(input: {{id: "{board.id}"}}) {{ deletedId }} }}',
        f'mutation {{ startRun(input: {{leaderboardId: "{board.id}"}}) {{ run {{ id }} }} }}',
        f'mutation {{ infer(input: {{leaderboardId: "{board.id}", input: "x"}}) {{ output }} }}',
    ):
        assert (await fail(client, query))[:2] == ("not_found", 404), query
    failed = await fail(client, f'{{ leaderboard(id: "{board.id}") {{ name }} }}')
    assert failed == await fail_in_rest(await client.get(f"/api/leaderboards/{board.id}"))


WRONG = [
    ('{ leaderboard(id: "zzz") { name } }', "id: 'zzz' is not a UUID"),
    (LIST % "first: 201", "first: must be 0 to 200 (got 201)"),
    (LIST % "first: -1", "first: must be 0 to 200 (got -1)"),
    (LIST % "last: 500", "last: must be 0 to 200 (got 500)"),
    (LIST % "first: 1, last: 1", "first and last can't be given together"),
    (LIST % 'after: "zzz"', "after: 'zzz' is not a cursor of this list"),
    (LIST % 'before: ""', "before: '' is not a cursor of this list"),
    ("{ leaderboards { nodes { colour } } }", "Cannot query field 'colour' on type"),
    (LIST % "orderBy: SIDEWAYS", "Value 'SIDEWAYS' does not exist in 'ListOrder' enum"),
    (LIST % "first: 99999999999", "Int cannot represent non 32-bit signed integer value"),
    ("{ leaderboards { nodes", "Syntax Error: Expected Name, found <EOF>."),
    ("{ leaderboard { name } }", "'Query.leaderboard(id:)' of type 'ID!' is required"),
    ("query($x: Int!) { leaderboards(first: $x) { nodes { id } } }", "Variable '$x'"),
    ("subscription { x }", "Cannot query field 'x' on type 'Subscription'."),
    (
        'subscription { runProgress(runId: "x") { done } }',
        "a subscription is answered over a WebSocket",
    ),
]


async def test_a_wrong_operation_is_invalid_input_and_names_what_is_wrong(
    client: httpx2.AsyncClient,
) -> None:
    for query, said in WRONG:
        code, status, message = await fail(client, query)
        assert (code, status) == ("invalid_input", 400), message
        assert said in message


async def test_a_mutation_that_would_answer_with_too_large_a_page_does_nothing(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    rename = """mutation($input: UpdateLeaderboardInput!, $size: Int = 1) {
      updateLeaderboard(input: $input) { leaderboard {
        runs(first: %s) { nodes { id } } others: runs(first: $size) { nodes { id } } } } }"""
    given = {"id": str(board.id), "name": "renamed"}
    sizes: list[tuple[str, dict[str, Any]]] = [
        ("500", {}), ("-1", {}), ("$size", {"size": 201}), ("2, last: 500", {}),
    ]  # fmt: skip
    for size, variables in sizes:
        answer = await ask(client, rename % size, input=given, **variables)
        assert answer["data"] is None
        (error,) = answer["errors"]
        assert error["message"].startswith("first")
        assert error["extensions"]["code"] == "invalid_input"
    async with process.database.read() as session:
        assert (await session.get_one(Leaderboard, board.id)).name == board.name


async def test_a_size_that_is_a_text_says_nothing_of_one_that_is_a_number(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    rename = """mutation($input: UpdateLeaderboardInput!, $size: Int) {
      updateLeaderboard(input: $input) { leaderboard { runs(first: $size) { totalCount } } } }"""
    given = {"id": str(board.id), "name": "renamed"}
    for size in ("201", 201):
        assert (await ask(client, rename, input=given, size=size))["errors"]
    async with process.database.read() as session:
        assert (await session.get_one(Leaderboard, board.id)).name == board.name


async def test_an_amount_of_millions_of_digits_is_not_written_out(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    change = """mutation($input: UpdateLeaderboardInput!) {
      updateLeaderboard(input: $input) { leaderboard { id } } }"""
    given = {"id": str(board.id), "serving": {"holdUsd": "1E+3000000"}}
    (error,) = (await ask(client, change, input=given))["errors"]
    assert "(got 1E+3000000)" in error["message"]
    assert len(error["message"]) < 1_000


async def test_a_cursor_is_of_one_list_alone(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    await make_ranked_run(process, board, [await make_candidate(process, board)])
    lists = {
        "leaderboards": "{ leaderboards%s { edges { cursor } } }",
        "traces": "{ traces%s { edges { cursor } } }",
        "runs": f'{{ leaderboard(id: "{board.id}") {{ runs%s {{ edges {{ cursor }} }} }} }}',
    }
    cursors = {}
    for name, query in lists.items():
        answer = await ask(client, query % "(first: 1)")
        holder = answer["data"].get("leaderboard") or answer["data"]
        cursors[name] = holder[name]["edges"][0]["cursor"]
    for name, query in lists.items():
        for of, cursor in cursors.items():
            for side in ("after", "before"):
                asked = query % f'({side}: "{cursor}")'
                if name == of:
                    assert "errors" not in await ask(client, asked)
                else:
                    said = f"{side}: {cursor!r} is not a cursor of this list"
                    assert await fail(client, asked) == ("invalid_input", 400, said)


async def test_a_wrong_value_in_a_variable_is_invalid_input(client: httpx2.AsyncClient) -> None:
    for wrong, said in (
        ({"colour": "red"}, "colour"),
        ({"evaluation": {"match": "SIDEWAYS"}}, "SIDEWAYS"),
        ({"name": ""}, "name: String should have at least 1 character"),
        ({"datasetUrl": "https://example.com/x.jsonl"}, "is not on"),
    ):
        code, status, message = await fail(client, CREATE, input={**GOOD, **wrong})
        assert (code, status) in {("invalid_input", 400), ("invalid_dataset", 400)}, message
        assert said in message


DEEP = "{ leaderboards { nodes { %s } } }" % ("candidates { leaderboard { " * 8 + "id" + " } }" * 8)
ALIASES = " ".join(f"a{number}: viewer {{ kind }}" for number in range(51))
WIDE = """{ leaderboards(first: 200) { nodes { traces(first: 200) {
  nodes { id input output status } } } } }"""


async def test_an_operation_over_a_limit_is_refused_before_it_runs(
    client: httpx2.AsyncClient,
) -> None:
    for query, said in (
        (DEEP, "exceeds maximum operation depth of 15"),
        (f"{{ {ALIASES} }}", "51 aliases found"),
        (f"{{ {'viewer { kind } ' * 2_000} }}", "more than 5000 tokens"),
        (WIDE, "may return more than 200000 fields"),
    ):
        code, status, message = await fail(client, query)
        assert (code, status) == ("query_too_costly", 400)
        assert said in message


async def test_a_client_of_the_specifications_type_gets_the_status_too(
    anonymous: httpx2.AsyncClient, client: httpx2.AsyncClient
) -> None:
    accept = {"Accept": SPEC_TYPE}
    for sender, query, status in (
        (client, "{ leaderboards { nodes { colour } } }", 400),
        (client, DEEP, 400),
        (client, '{ leaderboard(id: "zzz") { name } }', 200),
        (anonymous, "{ leaderboards { nodes { id } } }", 200),
    ):
        answer = await sender.post("/graphql", json={"query": query}, headers=accept)
        assert (answer.status_code, answer.headers["Content-Type"]) == (
            status, f"{SPEC_TYPE}; charset=utf-8",
        )  # fmt: skip
        assert ("data" in answer.json()) == (status == 200)


async def test_a_bug_is_masked_and_logged_under_the_requests_id(
    client: httpx2.AsyncClient, process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    async with process.database.write() as session:
        await session.execute(
            text(
                "ALTER TABLE leaderboard DROP CONSTRAINT fk_leaderboard_workspace_id, "
                "ALTER COLUMN workspace_id TYPE text"
            )
        )
    query = {"query": "{ leaderboards { nodes { name } } }"}
    with caplog.at_level(logging.ERROR):
        graphql = await client.post("/graphql", json=query, headers={"X-Request-Id": "first"})
        rest = await client.get("/api/leaderboards", headers={"X-Request-Id": "second"})
    (error,) = graphql.json()["errors"]
    said = "an internal error; the server's log has it under request id"
    assert error["message"] == f"{said} first"
    assert error["extensions"] == {
        "code": "internal", "status": 500, "details": {"request_id": "first"},
    }  # fmt: skip
    assert graphql.headers["X-Request-Id"] == "first"
    assert (rest.status_code, rest.json()) == (
        500,
        {"error": f"{said} second", "code": "internal", "details": {"request_id": "second"}},
    )
    for name in ("first", "second"):
        (record,) = [each for each in caplog.records if f"request {name} failed" in each.message]
        assert "does not exist" in str(record.exc_info)
    for shown in (graphql.text, rest.text):
        assert "leaderboard.name" not in shown
        assert "SELECT" not in shown


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
async def test_a_body_that_is_not_sent_as_json_is_415(
    client: httpx2.AsyncClient, kind: str | None
) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    answer = await client.post("/graphql", content=b'{"query": "{ __typename }"}', headers=headers)
    (error,) = answer.json()["errors"]
    got = "" if kind is None else f" (got '{kind}')"
    assert (answer.status_code, error["extensions"]) == (
        415, {"code": "unsupported_media_type", "status": 415, "details": {}},
    )  # fmt: skip
    assert error["message"] == f"the body must be sent with Content-Type: application/json{got}"


@pytest.mark.parametrize("setting_overrides", [{"graphiql": False}])
async def test_the_page_that_is_switched_off_is_404_and_operations_go_on(
    client: httpx2.AsyncClient,
) -> None:
    browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    page = await client.get("/graphql", headers=browser)
    (error,) = page.json()["errors"]
    assert (page.status_code, error["extensions"]["code"]) == (404, "not_found")
    assert error["message"].startswith("GraphiQL is switched off; send operations by POST")
    asked = {"query": "{ __typename }"}
    for answer in (
        await client.get("/graphql", params=asked, headers=browser),
        await client.post(
            "/graphql", content=b'{"query": "{ __typename }"}',
            headers={"Content-Type": "application/json; charset=utf-8"},
        ),
    ):  # fmt: skip
        assert answer.json() == {"data": {"__typename": "Query"}}
