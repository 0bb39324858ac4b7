"""Whoever asks for an operation's timing gets it, if they may, and nobody else pays for it."""

import asyncio
import logging
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from app.services import Process
from app.settings import Settings
from db.models import Member
from tests.conftest import session_token
from tests.factories import Tenant, make_leaderboard, make_token
from tests.schema.test_persisted_documents import another_server, by_hash, register

TIMED = {"X-Gero-Timing": "1"}
STEPS = ["parseMs", "validateMs", "compileMs", "executeMs", "encodeMs"]
KEYS = [*STEPS, "sqlCount", "sqlMs", "documentCached", "planCached", "executor", "fallback"]
BOARDS = "{ leaderboards { nodes { id name } } }"
TWO_STATEMENTS = "{ leaderboards { nodes { id } } workspace { name } }"


# A variable that may be null, and is, where null is not allowed.
UNCOMPILED = (
    "query($yes: Boolean = true) { __typename @include(if: $yes) }", {"yes": None},
)  # fmt: skip


async def timed(
    client: httpx2.AsyncClient,
    query: str,
    variables: dict[str, Any] | None = None,
    *,
    url: str = "",
) -> dict[str, Any]:
    body = {"query": query, "variables": variables}
    answer = (await client.post(f"{url}/graphql", json=body, headers=TIMED)).json()
    timing: dict[str, Any] = answer["extensions"]["timing"]
    assert list(timing) == KEYS
    return timing


async def test_the_first_use_of_a_document_is_parsed_validated_and_compiled(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    await make_leaderboard(process, tenant.workspace_id)
    first, second = await timed(client, BOARDS), await timed(client, BOARDS)
    assert min(first[step] for step in STEPS) > 0
    assert [second[step] for step in ("parseMs", "validateMs", "compileMs")] == [0, 0, 0]
    assert min(second["executeMs"], second["encodeMs"]) > 0
    assert (first["documentCached"], first["planCached"]) == (False, False)
    assert (second["documentCached"], second["planCached"]) == (True, True)
    for timing in (first, second):
        assert (timing["executor"], timing["fallback"]) == ("compiled", None)
        assert timing["sqlCount"] == 1
        assert 0 < timing["sqlMs"] <= timing["executeMs"]


async def test_the_answer_is_otherwise_the_same(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    await make_leaderboard(process, tenant.workspace_id)
    for query in (BOARDS, "{ nope }", '{ leaderboard(id: "x") { id } }'):
        for accept in ("application/json", "application/graphql-response+json"):
            headers = {"Accept": accept}
            plain = await client.post("/graphql", json={"query": query}, headers=headers)
            answer = await client.post("/graphql", json={"query": query}, headers=headers | TIMED)
            without = {name: part for name, part in answer.json().items() if name != "extensions"}
            assert (answer.status_code, without) == (plain.status_code, plain.json())
            assert "extensions" not in plain.json()


async def test_concurrent_requests_count_their_own_statements(
    client: httpx2.AsyncClient, process: Process
) -> None:
    watchers = list(process.database.watchers)
    one, two = (TIMED, {"query": BOARDS}), (TIMED, {"query": TWO_STATEMENTS})
    untimed: tuple[dict[str, str], dict[str, str]] = ({}, {"query": BOARDS})
    answers = await asyncio.gather(
        *(
            client.post("/graphql", json=body, headers=headers)
            for headers, body in [one, two, untimed] * 20
        )
    )
    counts = [
        answer.json().get("extensions", {}).get("timing", {}).get("sqlCount") for answer in answers
    ]
    assert counts == [1, 2, None] * 20
    assert process.database.watchers == watchers


async def test_a_fallback_names_its_reason_and_is_logged_once(
    client: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "compiled_graphql"):
        timings = [await timed(client, *UNCOMPILED) for _ in range(3)]
    for timing in timings:
        assert timing["executor"] == "graphql-core"
        assert timing["fallback"] == "a condition that has no value"
    said = [each.getMessage() for each in caplog.records if each.name == "compiled_graphql"]
    assert said == ["left to graphql-core, which is slower: a condition that has no value"]


async def test_nothing_that_runs_has_no_executor(client: httpx2.AsyncClient) -> None:
    timing = await timed(client, "{ nope }")
    assert (timing["executor"], timing["executeMs"], timing["sqlCount"]) == (None, 0, 0)
    assert min(timing["parseMs"], timing["validateMs"]) > 0


@pytest.mark.parametrize("setting_overrides", [{"graphql_compiled": False}])
async def test_a_server_that_compiles_nothing_says_so(client: httpx2.AsyncClient) -> None:
    timing = await timed(client, BOARDS)
    assert (timing["executor"], timing["fallback"]) == (
        "graphql-core", "compiling is switched off",
    )  # fmt: skip
    assert timing["sqlCount"] == 1


async def test_timing_is_for_full_tokens_and_for_owners_and_admins(
    anonymous: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    narrow = await make_token(process, tenant.workspace_id, scopes=["leaderboards:*"])
    member = Member(user_id=uuid4(), workspace_id=tenant.workspace_id, role="member")
    async with process.database.write() as session:
        session.add(member)
    body = {"query": "{ __typename }"}
    for credential, status, code in (
        (tenant.token, 200, None),
        (session_token(tenant.owner_id), 200, None),
        (narrow, 403, "forbidden"),
        (session_token(member.user_id), 403, "forbidden"),
        (None, 401, "unauthenticated"),
    ):
        headers = {} if credential is None else {"Authorization": f"Bearer {credential}"}
        answer = await anonymous.post("/graphql", json=body, headers=headers | TIMED)
        assert answer.status_code == status
        error: Any = None
        if code is not None:
            (error,) = answer.json()["errors"]
            assert error["extensions"]["code"] == code
        if code == "forbidden":
            assert error["message"] == (
                "X-Gero-Timing needs a token with the scope *, or a session of an owner or an admin"
            )
            assert error["extensions"]["details"]["required"] == "*"


async def test_another_value_of_the_header_is_400_and_named(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/graphql", json={"query": BOARDS}, headers={"X-Gero-Timing": "yes"})
    (error,) = answer.json()["errors"]
    assert answer.status_code == 400
    assert error["message"] == "X-Gero-Timing: must be 1 (got 'yes')"


async def test_a_document_that_another_server_validated_is_not_validated_again(
    client: httpx2.AsyncClient, settings: Settings, tenant: Tenant
) -> None:
    async with another_server(settings, tenant.headers) as later:
        await register(client, BOARDS)
        later.headers.update(TIMED)
        timing = (await by_hash(later, BOARDS))["extensions"]["timing"]
    assert (timing["documentCached"], timing["validateMs"]) == (False, 0)
    assert timing["parseMs"] > 0
    assert timing["sqlCount"] == 2  # the document, and the leaderboards
    async with another_server(settings, tenant.headers | TIMED) as restarted:
        timing = (await by_hash(restarted, BOARDS))["extensions"]["timing"]
    assert (timing["documentCached"], timing["parseMs"], timing["validateMs"]) == (True, 0, 0)
    assert timing["sqlCount"] == 1


@pytest.mark.parametrize("setting_overrides", [{"graphql_max_depth": 14}])
async def test_another_limit_is_another_fingerprint(
    client: httpx2.AsyncClient, settings: Settings, tenant: Tenant
) -> None:
    await register(client, BOARDS)
    lower = settings.model_copy(update={"graphql_max_depth": 1})
    async with another_server(lower, tenant.headers) as later:
        error = (await by_hash(later, BOARDS))["errors"][0]
    assert error["message"] == "'anonymous' exceeds maximum operation depth of 1"
