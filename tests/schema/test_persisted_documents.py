"""Documents that clients name by their hash: registered, bounded, shared, and kept."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy import func, insert, select, text, update

from app.server import create_app
from app.services import Process
from app.serving import listen, serving, url_of
from app.settings import Settings
from db.models import PersistedDocument
from resolvers.persisted_documents import MAX_DOCUMENTS
from tests.conftest import SqlLog
from tests.factories import Tenant

NAME = "{ workspace { name } }"
RENAMED = "{ again: workspace { name } }"
SPEC_TYPE = "application/graphql-response+json"
NOT_FOUND = {
    "data": None,
    "errors": [
        {
            "message": "PersistedQueryNotFound",
            "extensions": {"code": "persisted_query_not_found", "status": 404, "details": {}},
        }
    ],
}


def named(query: str) -> dict[str, Any]:
    """Return the extensions that name a document by its hash."""
    sha256 = hashlib.sha256(query.encode()).hexdigest()
    return {"persistedQuery": {"version": 1, "sha256Hash": sha256}}


async def by_hash(client: httpx2.AsyncClient, document: str, **more: Any) -> Any:
    return (await client.post("/graphql", json={"extensions": named(document), **more})).json()


async def register(client: httpx2.AsyncClient, document: str, **more: Any) -> Any:
    return await by_hash(client, document, query=document, **more)


async def kept(process: Process) -> list[str]:
    async with process.database.read() as session:
        return list(await session.scalars(select(PersistedDocument.text)))


@asynccontextmanager
async def another_server(
    settings: Settings, headers: Mapping[str, str]
) -> AsyncIterator[httpx2.AsyncClient]:
    """Start one more server on the same database: a replica, or the next after a restart."""
    process, listener = Process(settings), listen("127.0.0.1", 0)
    try:
        async with (
            serving(create_app(settings, process), listener),
            httpx2.AsyncClient(base_url=url_of(listener), headers=headers, timeout=30) as made,
        ):
            yield made
    finally:
        await process.aclose()


async def test_a_document_is_registered_once_and_then_named_by_its_hash(
    client: httpx2.AsyncClient, process: Process, sql: SqlLog
) -> None:
    unknown = await client.post("/graphql", json={"extensions": named(NAME)})
    assert (unknown.status_code, unknown.json()) == (200, NOT_FOUND)
    registered = await register(client, NAME)
    assert list(registered) == ["data"]
    with sql.record() as statements:
        assert await by_hash(client, NAME) == registered
    assert [each for each in statements if "persisted_document" in each] == []
    parameters = {"extensions": json.dumps(named(NAME))}
    for accept in ("application/json", "text/html,*/*;q=0.8"):
        got = await client.get("/graphql", params=parameters, headers={"Accept": accept})
        assert (got.status_code, got.json()) == (200, registered)
    assert await kept(process) == [NAME]


async def test_a_client_that_prefers_the_specifications_type_gets_400(
    client: httpx2.AsyncClient,
) -> None:
    answer = await client.post(
        "/graphql", json={"extensions": named(NAME)}, headers={"Accept": SPEC_TYPE}
    )
    assert (answer.status_code, answer.json()) == (400, {"errors": NOT_FOUND["errors"]})


async def test_variables_names_and_methods_are_heeded_as_with_the_text(
    client: httpx2.AsyncClient,
) -> None:
    two = "query A($yes: Boolean!) { workspace { name @include(if: $yes) } } query B { __typename }"
    for ask in (register, by_hash):
        answer = await ask(client, two, operationName="A", variables={"yes": False})
        assert answer == {"data": {"workspace": {}}}
        assert await ask(client, two, operationName="B") == {"data": {"__typename": "Query"}}
        assert "name one" in (await ask(client, two))["errors"][0]["message"]
    change = "mutation($id: ID!) { deleteLeaderboard(input: {id: $id}) { deletedId } }"
    await register(client, change)
    answer = await client.get("/graphql", params={"extensions": json.dumps(named(change))})
    (error,) = answer.json()["errors"]
    assert (answer.status_code, error["message"]) == (405, "a mutation must be POSTed")


A_HASH = "a" * 64
MALFORMED = [
    ([], "extensions.persistedQuery: must be an object (got [])"),
    ({"sha256Hash": A_HASH}, "extensions.persistedQuery.version: must be 1 (got None)"),
    (
        {"version": True, "sha256Hash": A_HASH},
        "extensions.persistedQuery.version: must be 1 (got True)",
    ),
    (
        {"version": 2, "sha256Hash": A_HASH},
        "extensions.persistedQuery.version: must be 1 (got 2)",
    ),
    *(
        (
            {"version": 1, "sha256Hash": wrong},
            "extensions.persistedQuery.sha256Hash: must be 64 hexadecimal digits (got " + shown,
        )
        for wrong, shown in (
            (None, "None)"), (7, "7)"), ("abc", "'abc')"), ("g" * 64, "'ggg"), ("a " * 32, "'a a"),
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize(("extension", "said"), MALFORMED)
async def test_a_malformed_extension_is_400_and_named(
    client: httpx2.AsyncClient, extension: Any, said: str
) -> None:
    extensions = {"persistedQuery": extension}
    for answer in (
        await client.post("/graphql", json={"query": NAME, "extensions": extensions}),
        await client.get("/graphql", params={"extensions": json.dumps(extensions)}),
    ):
        (error,) = answer.json()["errors"]
        assert answer.status_code == 400
        assert error["message"].startswith(said)
        field, _, message = error["message"].partition(": ")
        assert error["extensions"] == {
            "code": "invalid_input", "status": 400,
            "details": {"fields": [{"field": field, "message": message}]},
        }  # fmt: skip


async def test_a_hash_of_another_text_is_400_and_registers_nothing(
    client: httpx2.AsyncClient, process: Process
) -> None:
    body = {"query": NAME, "extensions": named(RENAMED)}
    answer = await client.post("/graphql", json=body)
    (error,) = answer.json()["errors"]
    assert (answer.status_code, error["extensions"]["code"]) == (400, "invalid_input")
    said = "extensions.persistedQuery.sha256Hash: is not the SHA-256 of the query"
    assert error["message"] == said
    assert await kept(process) == []


async def test_without_a_hash_the_query_is_required(client: httpx2.AsyncClient) -> None:
    for body in ({}, {"query": ""}, {"query": None}, {"extensions": {"persistedQuery": None}}):
        answer = await client.post("/graphql", json=body)
        (error,) = answer.json()["errors"]
        assert (answer.status_code, error["message"]) == (
            400, "query: is required, and must be a string",
        )  # fmt: skip


LONG = "{ workspace { name } " + " " * 16_000 + "}"
NUL = "{ workspace { name } } # \x00"
SECRET = """mutation { saveIntegration(input: {provider: OPENROUTER, token: "sk-or-1"}) {
  integration { id } } }"""


@pytest.mark.parametrize("query", ["{ nope }", "{", LONG, NUL, SECRET])
async def test_what_is_invalid_long_or_may_hold_a_secret_runs_and_is_not_kept(
    client: httpx2.AsyncClient, process: Process, query: str
) -> None:
    with_hash = await register(client, query)
    without = (await client.post("/graphql", json={"query": query})).json()
    assert with_hash == without
    assert await by_hash(client, query) == NOT_FOUND
    assert await kept(process) == []


async def test_who_is_not_signed_in_registers_nothing_and_may_use_what_is_kept(
    client: httpx2.AsyncClient, anonymous: httpx2.AsyncClient, process: Process
) -> None:
    assert await register(anonymous, "{ __typename }") == {"data": {"__typename": "Query"}}
    assert await by_hash(anonymous, "{ __typename }") == NOT_FOUND
    assert await kept(process) == []
    await register(client, "{ __typename }")
    assert await by_hash(anonymous, "{ __typename }") == {"data": {"__typename": "Query"}}
    await register(client, NAME)
    (error,) = (await by_hash(anonymous, NAME))["errors"]
    assert error["extensions"]["code"] == "unauthenticated"


async def test_replicas_share_documents_and_a_restart_keeps_them(
    client: httpx2.AsyncClient, settings: Settings, tenant: Tenant
) -> None:
    registered = await register(client, NAME)
    async with another_server(settings, tenant.headers) as later:
        assert await by_hash(later, NAME) == registered
        await register(client, RENAMED)  # after the other has started
        assert list((await by_hash(later, RENAMED))["data"]) == ["again"]


async def test_a_start_makes_the_documents_ready_that_were_used_last(
    client: httpx2.AsyncClient, settings: Settings, process: Process, sql: SqlLog
) -> None:
    await register(client, NAME)
    listener = listen("127.0.0.1", 0)
    with sql.record() as statements:
        async with serving(create_app(settings, process), listener):
            (before,) = statements
            async with httpx2.AsyncClient(
                base_url=url_of(listener), headers=client.headers
            ) as later:
                assert "data" in await by_hash(later, NAME)
    assert "persisted_document" in before
    reads = [each for each in statements if each.startswith("SELECT persisted_document")]
    assert reads == [before]


async def test_a_row_that_was_changed_is_not_run(
    client: httpx2.AsyncClient, settings: Settings, process: Process, tenant: Tenant
) -> None:
    await register(client, NAME)
    async with process.database.write() as session:
        await session.execute(update(PersistedDocument).values(text="{ viewer { scopes } }"))
    async with another_server(settings, tenant.headers) as later:
        assert await by_hash(later, NAME) == NOT_FOUND
        assert list(await register(later, NAME)) == ["data"]
    assert await kept(process) == [NAME]


async def test_a_row_without_our_proof_is_validated_again(
    settings: Settings, process: Process, tenant: Tenant
) -> None:
    invalid = "{ nope }"
    async with process.database.write() as session:
        for query in (invalid, NAME):
            sha256 = hashlib.sha256(query.encode()).digest()
            await session.execute(
                insert(PersistedDocument).values(sha256=sha256, text=query, proof=b"theirs")
            )
    async with another_server(settings, tenant.headers) as server:
        (error,) = (await by_hash(server, invalid))["errors"]
        assert error["message"] == "Cannot query field 'nope' on type 'Query'."
        assert list(await by_hash(server, NAME)) == ["data"]


async def test_the_longest_unused_makes_room(client: httpx2.AsyncClient, process: Process) -> None:
    async with process.database.write() as session:
        await session.execute(
            text(
                """INSERT INTO persisted_document (sha256, text, proof, last_used_at)
                   SELECT sha256(n::text::bytea), n::text, 'x', now() - n * interval '1 minute'
                   FROM generate_series(1, :most) n"""
            ),
            {"most": MAX_DOCUMENTS},
        )
    await register(client, NAME)
    async with process.database.read() as session:
        count = await session.scalar(select(func.count()).select_from(PersistedDocument))
        left = await session.scalars(
            select(PersistedDocument.text).where(
                PersistedDocument.text.in_([NAME, str(MAX_DOCUMENTS), str(MAX_DOCUMENTS - 1)])
            )
        )
    assert count == MAX_DOCUMENTS
    assert sorted(left) == [str(MAX_DOCUMENTS - 1), NAME]


async def last_use(process: Process) -> timedelta:
    async with process.database.read() as session:
        used: datetime | None = await session.scalar(select(PersistedDocument.last_used_at))
    assert used is not None
    return datetime.now(UTC) - used


async def test_a_use_is_noted_when_the_last_one_was_an_hour_ago(
    client: httpx2.AsyncClient, settings: Settings, process: Process, tenant: Tenant
) -> None:
    await register(client, NAME)
    for age in (timedelta(minutes=10), timedelta(days=2)):
        async with process.database.write() as session:
            then = datetime.now(UTC) - age
            await session.execute(update(PersistedDocument).values(last_used_at=then))
        async with another_server(settings, tenant.headers) as later:
            assert timedelta() <= await last_use(process) - age < timedelta(minutes=1)
            await by_hash(later, NAME)
            await asyncio.sleep(0.2)
            if age < timedelta(hours=1):
                assert await last_use(process) >= age
            else:
                async with asyncio.timeout(10):
                    while await last_use(process) > timedelta(minutes=1):
                        await asyncio.sleep(0.02)


async def test_a_server_starts_without_its_table(
    settings: Settings, process: Process, tenant: Tenant, caplog: pytest.LogCaptureFixture
) -> None:
    async with process.database.write() as session:
        await session.execute(text("DROP TABLE persisted_document"))
    async with another_server(settings, tenant.headers) as server:
        assert list(await register(server, NAME)) == ["data"]
        assert (await by_hash(server, NAME))["errors"][0]["extensions"]["code"] == "unavailable"
    said = [each.getMessage() for each in caplog.records if each.name == "gero.graphql"]
    assert said[0].startswith("persisted documents are read as they are asked for: ")
    assert said[1].startswith("a persisted document could not be stored: ")
