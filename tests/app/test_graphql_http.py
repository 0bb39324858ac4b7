"""GraphQL over real HTTP: clients that leave, large answers, and requests in a wrong form."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx2
import pytest
from sqlalchemy import text
from starlette.types import Message, Receive, Scope, Send

from app.graphql_http import PIECE_BYTES
from app.server import create_app
from app.services import Process
from app.serving import listen, serving, url_of
from app.settings import Settings
from tests.conftest import LONGEST_WAIT_SECONDS
from tests.factories import Tenant, make_candidate, make_leaderboard, make_trace

SLOW_QUERY = "{ leaderboards { nodes { name } } }"
DELETE = 'mutation { deleteLeaderboard(input: {id: "%s"}) { deletedId } }'
OTHERS_THAT_WAIT = """SELECT count(*) FROM pg_stat_activity
  WHERE datname = current_database() AND application_name LIKE 'gero%'
  AND wait_event_type = 'Lock'"""


@pytest.fixture
def setting_overrides() -> dict[str, Any]:
    return {"database_timeout_seconds": 60}  # nothing ends by itself


@asynccontextmanager
async def locked(database_url: str, table: str) -> AsyncIterator[asyncpg.Connection]:
    """Hold a table, so that every statement on it waits until the block ends."""
    connection = await asyncpg.connect(database_url.replace("+asyncpg", ""))
    try:
        async with connection.transaction():
            await connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            yield connection
    finally:
        await connection.close()


async def until_waiting(connection: asyncpg.Connection, count: int) -> None:
    async with asyncio.timeout(LONGEST_WAIT_SECONDS):
        while await connection.fetchval(OTHERS_THAT_WAIT) != count:
            await asyncio.sleep(0.02)


async def post_and_keep_open(
    base_url: str, tenant: Tenant, query: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send an operation over a socket of our own, and return without waiting for its answer."""
    address = urlsplit(base_url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    body = json.dumps({"query": query}).encode()
    head = (
        "POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {tenant.token}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    await writer.drain()
    return reader, writer


async def test_a_query_whose_client_leaves_is_cancelled_in_the_database_too(
    base_url: str,
    database_url: str,
    tenant: Tenant,
    client: httpx2.AsyncClient,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "gero.http")
    async with locked(database_url, "leaderboard") as lock:
        _, writer = await post_and_keep_open(base_url, tenant, SLOW_QUERY)
        await until_waiting(lock, 1)
        writer.close()
        await until_waiting(lock, 0)  # and the table is still locked
    assert " POST /graphql 499 " in capsys.readouterr().err
    assert (await client.post("/graphql", json={"query": SLOW_QUERY})).json() == {
        "data": {"leaderboards": {"nodes": []}}
    }


async def test_a_query_whose_client_stays_is_answered(
    base_url: str, database_url: str, tenant: Tenant
) -> None:
    async with locked(database_url, "leaderboard") as lock:
        reader, writer = await post_and_keep_open(base_url, tenant, SLOW_QUERY)
        await until_waiting(lock, 1)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    body = b'{"data":{"leaderboards":{"nodes":[]}}}'
    assert f"content-length: {len(body)}\r\n".encode() in head
    assert await reader.readexactly(len(body)) == body
    writer.close()


async def test_a_mutation_whose_client_leaves_goes_on_to_its_end(
    base_url: str, database_url: str, tenant: Tenant, process: Process, client: httpx2.AsyncClient
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    async with locked(database_url, "leaderboard") as lock:
        _, writer = await post_and_keep_open(base_url, tenant, DELETE % board.id)
        await until_waiting(lock, 1)
        writer.close()
        await asyncio.sleep(0.5)
        assert await lock.fetchval(OTHERS_THAT_WAIT) == 1
    async with asyncio.timeout(LONGEST_WAIT_SECONDS):
        while (await client.get(f"/api/leaderboards/{board.id}")).status_code != 404:
            await asyncio.sleep(0.02)


async def test_a_large_answer_is_sent_in_pieces_and_arrives_whole(
    settings: Settings, process: Process, tenant: Tenant
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    candidate = await make_candidate(process, board)
    async with process.database.write() as session:
        for _ in range(100):
            await make_trace(session, board, candidate)
        await session.flush()
        await session.execute(text("UPDATE trace_text SET input = repeat('é', 10000)"))
    pieces: list[int] = []
    app = create_app(settings, process)

    async def noting(scope: Scope, receive: Receive, send: Send) -> None:
        async def note(message: Message) -> None:
            if message["type"] == "http.response.body":
                pieces.append(len(message["body"]))
            await send(message)

        await app(scope, receive, note)

    listener = listen("127.0.0.1", 0)
    async with (
        serving(noting, listener),
        httpx2.AsyncClient(base_url=url_of(listener), headers=tenant.headers) as client,
    ):
        answer = await client.post(
            "/graphql", json={"query": "{ traces(first: 100) { nodes { input } } }"}
        )
    assert int(answer.headers["Content-Length"]) == len(answer.content) == sum(pieces)
    assert len(answer.content) > 2_000_000
    assert max(pieces) == PIECE_BYTES
    assert set(pieces[:-1]) == {PIECE_BYTES}
    assert answer.json() == {"data": {"traces": {"nodes": [{"input": "é" * 10_000}] * 100}}}


async def refused(answer: httpx2.Response) -> tuple[int, str, str]:
    (error,) = answer.json()["errors"]
    assert set(answer.json()) == {"errors"}
    assert error["extensions"]["status"] == answer.status_code
    return answer.status_code, error["extensions"]["code"], error["message"]


async def test_a_query_works_over_get_and_a_mutation_is_405(client: httpx2.AsyncClient) -> None:
    parameters = {
        "query": "query A($yes: Boolean!) { viewer @include(if: $yes) { scopes } __typename }",
        "variables": '{"yes": false}',
        "operationName": "A",
        "extensions": "{}",
    }
    answer = await client.get("/graphql", params=parameters)
    assert (answer.status_code, answer.json()) == (200, {"data": {"__typename": "Query"}})
    answer = await client.get("/graphql", params={"query": DELETE % "x"})
    assert await refused(answer) == (405, "method_not_allowed", "a mutation must be POSTed")
    assert answer.headers["Allow"] == "POST"


@pytest.mark.parametrize("method", ["HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_other_methods_are_405(client: httpx2.AsyncClient, method: str) -> None:
    answer = await client.request(method, "/graphql?query={__typename}")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, POST")
    if method == "HEAD":
        assert answer.content == b""
    else:
        said = f"/graphql does not take {method}"
        assert await refused(answer) == (405, "method_not_allowed", said)


OK = "{ __typename }"
QUERY_NEEDED = "query: is required, and must be a string"
WRONG_FIELDS = [
    ({}, QUERY_NEEDED),
    ({"query": None}, QUERY_NEEDED),
    ({"query": ""}, QUERY_NEEDED),
    ({"query": ["{ __typename }"]}, QUERY_NEEDED),
    ({"query": OK, "operationName": 7}, "operationName: must be a string (got 7)"),
    ({"query": OK, "variables": []}, "variables: must be an object (got [])"),
    ({"query": OK, "variables": "{}"}, "variables: must be an object (got '{}')"),
    ({"query": OK, "extensions": [1]}, "extensions: must be an object (got [1])"),
    ({"query": OK, "extensions": True}, "extensions: must be an object (got True)"),
    ([{"query": OK}], "the body must be a JSON object with a query"),
    ([], "the body must be a JSON object with a query"),
    ("{ __typename }", "the body must be a JSON object with a query"),
    (None, "the body must be a JSON object with a query"),
]


@pytest.mark.parametrize(("body", "said"), WRONG_FIELDS)
async def test_a_wrong_field_of_a_post_is_400_and_named(
    client: httpx2.AsyncClient, body: Any, said: str
) -> None:
    answer = await client.post(
        "/graphql", content=json.dumps(body), headers={"Content-Type": "application/json"}
    )
    assert await refused(answer) == (400, "invalid_input", said)


WRONG_PARAMETERS = [
    ({"operationName": "A"}, QUERY_NEEDED),
    ({"query": OK, "variables": "{"}, "variables is not valid JSON: "),
    ({"query": OK, "variables": "[]"}, "variables: must be an object (got [])"),
    ({"query": OK, "extensions": "x"}, "extensions is not valid JSON: "),
    ({"query": OK, "extensions": '"x"'}, "extensions: must be an object (got 'x')"),
]


@pytest.mark.parametrize(("parameters", "said"), WRONG_PARAMETERS)
async def test_a_wrong_parameter_of_a_get_is_400_and_named(
    client: httpx2.AsyncClient, parameters: dict[str, str], said: str
) -> None:
    status, code, message = await refused(await client.get("/graphql", params=parameters))
    assert (status, code) == (400, "invalid_input")
    assert message.startswith(said)


@pytest.mark.parametrize(
    "body", [b'{"query": "\xff"}', '{"query": "{ é }"}'.encode("latin-1"), b"\xff\xfe{", b"", b"{"]
)
async def test_a_body_that_is_not_json_in_utf_8_is_400(
    client: httpx2.AsyncClient, body: bytes
) -> None:
    answer = await client.post(
        "/graphql", content=body, headers={"Content-Type": "application/json"}
    )
    status, code, message = await refused(answer)
    assert (status, code) == (400, "invalid_input")
    assert message.startswith("the body is not valid JSON: ")
