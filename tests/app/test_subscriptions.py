"""Following a run: over a WebSocket and as server-sent events, early, late, and not at all."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
import websockets
from gql import Client, gql
from gql.transport.exceptions import TransportConnectionFailed
from gql.transport.websockets import WebsocketsTransport
from sqlalchemy import update

from app.server import create_app
from app.services import Process
from app.serving import listen, serving, url_of
from app.settings import Settings
from db.models import ApiToken
from tests.conftest import NO_TLS, ask
from tests.factories import Tenant, make_tenant, make_token
from tests.jobs.conftest import make_board
from tests.jobs.test_run_lifecycle import CANCEL, start
from tests.model_peer import ModelPeer, model_peer

FOLLOW = """subscription($id: ID!) { runProgress(runId: $id) {
  status done failed total costUsd callsPerSecond secondsLeft
  scores { score rowCount candidate { displayName } } run { status } } }"""
ROWS = 60


@pytest.fixture
async def peer() -> AsyncIterator[ModelPeer]:
    async with model_peer(ROWS) as made:
        yield made


@pytest.fixture
def setting_overrides(peer: ModelPeer) -> dict[str, Any]:
    return {"huggingface_url": peer.url, "run_concurrency": 4, "worker_timeout_seconds": 2}


@pytest.fixture
async def run_id(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, peer: ModelPeer
) -> str:
    board, _ = await make_board(process, tenant, peer, "one", "two")
    peer.open.clear()
    return await start(client, board.id)


def socket_url(base_url: str) -> str:
    return base_url.replace("http", "ws", 1) + "/graphql"


async def follow(base_url: str, run_id: str, **how: Any) -> AsyncIterator[Any]:
    """Follow a run by gql's own client of graphql-transport-ws."""
    transport = WebsocketsTransport(
        url=socket_url(base_url), subprotocols=["graphql-transport-ws"], **how
    )
    async with Client(transport=transport) as session:
        query = gql(FOLLOW)
        query.variable_values = {"id": run_id}
        async for event in session.subscribe(query):
            yield event["runProgress"]


async def events_of(client: httpx2.AsyncClient, query: str, **variables: Any) -> AsyncIterator[Any]:
    """Yield the events of a request that asks for server-sent ones."""
    body = {"query": query, "variables": variables}
    headers = {"Accept": "text/event-stream"}
    async with client.stream("POST", "/graphql", json=body, headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        name = ""
        async for line in response.aiter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data:") and name == "next":
                yield json.loads(line.removeprefix("data:"))
            elif line.startswith("data:"):
                yield name


def check_story(states: list[Any]) -> None:
    """Check that a run was followed from its beginning to its end."""
    done = [state["done"] for state in states]
    assert done == sorted(done)
    assert states[-1]["status"] == states[-1]["run"]["status"] == "COMPLETED"
    assert (states[-1]["done"], states[-1]["total"]) == (2 * ROWS, 2 * ROWS)
    assert (states[-1]["failed"], states[-1]["secondsLeft"]) == (0, 0)
    assert float(states[-1]["costUsd"]) == pytest.approx(0.12)
    assert states[-1]["scores"] == [
        {"score": 1.0, "rowCount": ROWS, "candidate": {"displayName": name}}
        for name in ("one", "two")
    ]


async def test_a_run_is_followed_over_a_websocket_to_its_end(
    base_url: str, worker: None, tenant: Tenant, peer: ModelPeer, run_id: str
) -> None:
    peer.seconds = 0.02
    states = []
    async for state in follow(base_url, run_id, headers=tenant.headers):
        states.append(state)
        peer.open.set()
    check_story(states)
    assert states[0]["status"] in {"QUEUED", "RUNNING"}
    assert any(0 < state["done"] < 2 * ROWS for state in states)
    assert any(state["callsPerSecond"] > 0 for state in states)


async def test_a_run_is_followed_as_server_sent_events_to_its_end(
    client: httpx2.AsyncClient, worker: None, peer: ModelPeer, run_id: str
) -> None:
    events = []
    async for event in events_of(client, FOLLOW, id=run_id):
        events.append(event)
        peer.open.set()
    assert events[-1] == "complete"
    check_story([event["data"]["runProgress"] for event in events[:-1]])


async def test_whoever_comes_after_the_end_is_told_the_end(
    client: httpx2.AsyncClient, base_url: str, tenant: Tenant, run_id: str
) -> None:
    await ask(client, CANCEL, id=run_id)
    events = [event async for event in events_of(client, FOLLOW, id=run_id)]
    assert [event["data"]["runProgress"]["status"] for event in events[:-1]] == ["CANCELLED"]
    states = [state async for state in follow(base_url, run_id, headers=tenant.headers)]
    assert [state["status"] for state in states] == ["CANCELLED"]


async def test_another_replica_tells_the_same(
    settings: Settings, worker: None, tenant: Tenant, peer: ModelPeer, run_id: str
) -> None:
    other = Process(settings)
    listener = listen("127.0.0.1", 0)
    async with serving(create_app(settings, other), listener):
        peer.open.set()
        states = [state async for state in follow(url_of(listener), run_id, headers=tenant.headers)]
    await other.aclose()
    check_story(states)


@pytest.mark.parametrize("name", ["Authorization", "authorization", "x-api-key"])
async def test_a_browser_s_credential_comes_with_the_first_message(
    client: httpx2.AsyncClient, base_url: str, tenant: Tenant, run_id: str, name: str
) -> None:
    await ask(client, CANCEL, id=run_id)
    value = tenant.token if name == "x-api-key" else f"Bearer {tenant.token}"
    states = [s async for s in follow(base_url, run_id, init_payload={name: value})]
    assert [state["status"] for state in states] == ["CANCELLED"]


async def test_a_wrong_credential_closes_the_socket_and_none_may_follow_nothing(
    base_url: str, run_id: str
) -> None:
    with pytest.raises(TransportConnectionFailed):
        _ = [s async for s in follow(base_url, run_id, headers={"X-API-Key": "drgero_wrong"})]
    async with websockets.connect(
        socket_url(base_url), subprotocols=[websockets.Subprotocol("graphql-transport-ws")]
    ) as socket:
        answer, end = await subscribe(socket, FOLLOW, run_id)
        assert answer["payload"]["errors"][0]["extensions"]["code"] == "unauthenticated"
        assert end["type"] == "complete"


async def subscribe(socket: Any, query: str, run_id: str) -> list[Any]:
    """Greet, subscribe, and return the messages up to the one that ends the operation."""
    await socket.send(json.dumps({"type": "connection_init"}))
    assert json.loads(await socket.recv())["type"] == "connection_ack"
    payload = {"query": query, "variables": {"id": run_id}}
    await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))
    messages: list[Any] = []
    while not messages or messages[-1]["type"] == "next":
        messages.append(json.loads(await socket.recv()))
    return messages


async def test_another_workspace_s_run_is_not_there(
    client: httpx2.AsyncClient, process: Process, run_id: str
) -> None:
    stranger = await make_tenant(process)
    client.headers.update(stranger.headers)
    first, last = [event async for event in events_of(client, FOLLOW, id=run_id)]
    assert first["errors"][0]["extensions"]["code"] == "not_found"
    assert last == "complete"


async def test_a_token_that_is_revoked_is_told_no_more(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant, peer: ModelPeer,
    run_id: str,
) -> None:  # fmt: skip
    peer.seconds = 0.2
    token = await make_token(process, tenant.workspace_id)
    client.headers["Authorization"] = f"Bearer {token}"
    events = []
    async for event in events_of(client, FOLLOW, id=run_id):
        events.append(event)
        peer.open.set()
        if len(events) == 1:
            async with process.database.write() as session:
                await session.execute(update(ApiToken).values(revoked_at=datetime.now(UTC)))
    peer.seconds = 0
    assert events[-2]["errors"][0]["extensions"]["code"] == "unauthenticated"
    assert events[-1] == "complete"


async def test_who_leaves_frees_everything(
    client: httpx2.AsyncClient, base_url: str, process: Process, tenant: Tenant, run_id: str
) -> None:
    changes = process.services.run_changes
    async for _ in events_of(client, FOLLOW, id=run_id):
        assert changes.watcher_count == 1
        break
    async for _ in follow(base_url, run_id, headers=tenant.headers):
        break
    async with asyncio.timeout(10):
        while changes.watcher_count:
            await asyncio.sleep(0.02)
    assert changes.is_listening is False


async def test_queries_and_mutations_go_over_a_socket_too_and_wrong_ones_are_told(
    base_url: str, tenant: Tenant
) -> None:
    transport = WebsocketsTransport(
        url=socket_url(base_url),
        subprotocols=["graphql-transport-ws"],
        headers=tenant.headers,
    )
    async with Client(transport=transport) as session:
        seen = await session.execute(gql("{ viewer { workspace { id } } }"))
        assert seen == {"viewer": {"workspace": {"id": str(tenant.workspace_id)}}}
    async with websockets.connect(
        socket_url(base_url),
        subprotocols=[websockets.Subprotocol("graphql-transport-ws")],
        additional_headers=tenant.headers,
    ) as socket:
        (error,) = await subscribe(socket, "{ colour }", "")
        assert "Cannot query field 'colour'" in error["payload"][0]["message"]


async def test_a_page_of_another_origin_may_not_connect_and_other_protocols_are_not_spoken(
    base_url: str,
) -> None:
    with pytest.raises(websockets.InvalidStatus, match="403"):
        await websockets.connect(
            socket_url(base_url),
            subprotocols=[websockets.Subprotocol("graphql-transport-ws")],
            origin=websockets.Origin("https://elsewhere.example"),
        )
    with pytest.raises(websockets.InvalidStatus, match="403"):
        await websockets.connect(
            socket_url(base_url), subprotocols=[websockets.Subprotocol("graphql-ws")]
        )
    with pytest.raises(websockets.InvalidStatus, match="403"):
        await websockets.connect(base_url.replace("http", "ws", 1) + "/elsewhere")


async def test_a_query_may_be_answered_as_an_event_and_a_mutation_not_by_get(
    client: httpx2.AsyncClient,
) -> None:
    events = [event async for event in events_of(client, "{ __typename }")]
    assert events == [{"data": {"__typename": "Query"}}, "complete"]
    response = await client.get(
        "/graphql",
        params={"query": 'mutation { cancelRun(input: {id: "x"}) { run { id } } }'},
        headers={"Accept": "text/event-stream"},
    )
    assert '"code":"method_not_allowed"' in response.text


async def test_a_follower_outlives_a_database_that_is_away_for_a_while(
    client: httpx2.AsyncClient, worker: None, process: Process, peer: ModelPeer, run_id: str,
    postgres_server: Any,
) -> None:  # fmt: skip
    peer.seconds = 0.02
    events = []
    async for event in events_of(client, FOLLOW, id=run_id):
        events.append(event)
        if len(events) == 1:
            name = process.database.engine.url.database
            await postgres_server.admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name
            )
            peer.open.set()
    assert events[-1] == "complete"
    check_story([event["data"]["runProgress"] for event in events[:-1]])


async def test_a_client_without_patience_gets_a_connection_of_its_own(base_url: str) -> None:
    """A socket that never greets is closed; others are served meanwhile."""
    async with (
        websockets.connect(
            socket_url(base_url), subprotocols=[websockets.Subprotocol("graphql-transport-ws")]
        ) as silent,
        httpx2.AsyncClient(base_url=base_url, verify=NO_TLS) as client,
    ):
        assert (await client.get("/healthz")).status_code == 200
        await silent.send("not JSON")
        with pytest.raises(websockets.ConnectionClosedError) as closed:
            await silent.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4400


@pytest.mark.parametrize(
    "message",
    ["[1]", '"x"', "null", '{"id": "1", "type": "subscribe", "payload": null}',
     '{"id": {}, "type": "complete"}'],
)  # fmt: skip
async def test_a_message_that_is_no_object_of_the_protocol_closes_the_socket(
    base_url: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with websockets.connect(
        socket_url(base_url), subprotocols=[websockets.Subprotocol("graphql-transport-ws")]
    ) as socket:
        await socket.send(json.dumps({"type": "connection_init"}))
        await socket.recv()
        await socket.send(message)
        with pytest.raises(websockets.ConnectionClosedError) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4400
    assert "Traceback" not in caplog.text


async def test_a_credential_that_no_header_can_hold_is_refused(base_url: str) -> None:
    payload = {"Authorization": "Bearer \u2603"}
    async with websockets.connect(
        socket_url(base_url), subprotocols=[websockets.Subprotocol("graphql-transport-ws")]
    ) as socket:
        await socket.send(json.dumps({"type": "connection_init", "payload": payload}))
        with pytest.raises(websockets.ConnectionClosedError) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4403
