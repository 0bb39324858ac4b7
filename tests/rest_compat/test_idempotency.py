"""Idempotency-Key: the work is done once, whatever repeats and whatever dies."""

import asyncio
import os
import socket
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import httpx2
import pytest

from app.services import Process
from app.settings import Settings
from tests.app.test_up import GERO
from tests.conftest import JWT_SECRET, SECRET_KEY
from tests.factories import (
    TWO_ROWS_URL,
    Tenant,
    make_candidate,
    make_leaderboard,
    make_ranked_run,
    make_tenant,
    make_token,
)

REPEATS = 20
WAIT_SECONDS = 30
# Holds the first request up between its work and its end, on a lock that the test has.
STALL = """
CREATE FUNCTION stall() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_lock_shared(1);
  RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE TRIGGER stall_answer BEFORE UPDATE ON idempotency_key
  FOR EACH ROW WHEN (NEW.answer_status IS NOT NULL) EXECUTE FUNCTION stall();
CREATE TRIGGER stall_release BEFORE DELETE ON idempotency_key
  FOR EACH ROW EXECUTE FUNCTION stall();
"""


@dataclass(frozen=True)
class Work:
    """A POST that creates or spends, and how to count what it did."""

    path: str
    body: dict[str, Any]
    status: int
    counted: str


async def make_work(process: Process, tenant: Tenant, kind: str) -> Work:
    if kind == "leaderboard":
        body = {"name": "n", "system_prompt": "p", "dataset_url": TWO_ROWS_URL}
        return Work("/api/leaderboards", body, 201, "SELECT count(*) FROM leaderboard")
    board = await make_leaderboard(process, tenant.workspace_id)
    path = f"/api/leaderboards/{board.id}"
    if kind == "model":
        body = {"provider": "openrouter", "model_id": "sandbox/quick-small"}
        return Work(f"{path}/models", body, 201, "SELECT count(*) FROM candidate")
    candidate = await make_candidate(process, board)
    if kind == "run":
        counted = "SELECT count(*) FROM job WHERE kind = 'run.prepare'"
        return Work(f"{path}/run", {}, 202, counted)
    await make_ranked_run(process, board, [candidate])
    counted = "SELECT count(*) FROM trace WHERE source = 'inference'"
    return Work(f"/v1/leaderboard/{board.id}/inference", {"input": "hello"}, 200, counted)


@pytest.fixture
async def raw(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url.replace("+asyncpg", ""))
    yield connection
    await connection.close()


@pytest.fixture
async def ledger(sandbox_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=sandbox_url) as client:
        await client.delete("/stats")
        yield client


async def calls_of(ledger: httpx2.AsyncClient) -> dict[str, int]:
    calls: dict[str, int] = (await ledger.get("/stats")).json()["calls"]
    return calls


def key(name: str) -> dict[str, str]:
    return {"Idempotency-Key": name}


@pytest.mark.parametrize("kind", ["leaderboard", "model", "run", "inference"])
async def test_twenty_requests_at_once_do_the_work_once(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, raw: asyncpg.Connection,
    ledger: httpx2.AsyncClient, kind: str,
) -> None:  # fmt: skip
    work = await make_work(process, tenant, kind)
    answers = await asyncio.gather(
        *(client.post(work.path, json=work.body, headers=key("k")) for _ in range(REPEATS))
    )
    assert {answer.status_code for answer in answers} == {work.status}
    assert len({answer.content for answer in answers}) == 1
    assert len({answer.headers["Content-Type"] for answer in answers}) == 1
    assert len({answer.headers["X-Request-Id"] for answer in answers}) == REPEATS
    replayed = Counter(answer.headers.get("Idempotent-Replayed") for answer in answers)
    assert replayed == {None: 1, "true": REPEATS - 1}
    assert await raw.fetchval(work.counted) == 1
    called = {"sandbox/balanced-medium": 1} if kind == "inference" else {}
    assert await calls_of(ledger) == called
    late = await client.post(work.path, json=work.body, headers=key("k"))
    assert (late.content, late.headers["Idempotent-Replayed"]) == (answers[0].content, "true")
    if kind == "inference":
        named = [name for name in late.headers if name.startswith("x-dr.gero")]
        assert len(named) == 7
        assert all(late.headers[name] == answers[0].headers[name] for name in named)


async def test_a_key_belongs_to_one_request_of_one_caller(
    client: httpx2.AsyncClient, anonymous: httpx2.AsyncClient, process: Process, tenant: Tenant,
    raw: asyncpg.Connection,
) -> None:  # fmt: skip
    work = await make_work(process, tenant, "leaderboard")
    first = await client.post(work.path, json=work.body, headers=key("k"))
    assert first.status_code == 201
    other_body = await client.post(work.path, json={**work.body, "name": "other"}, headers=key("k"))
    assert (other_body.status_code, other_body.json()["code"]) == (409, "idempotency_conflict")
    other_path = await client.post(f"{work.path}?x=1", json=work.body, headers=key("k"))
    assert other_path.status_code == 409
    # An answer may hold what another caller's scopes would not show.
    reader = await make_token(process, tenant.workspace_id, scopes=["models:read"])
    other_caller = await anonymous.post(
        work.path, json=work.body, headers={**key("k"), "X-API-Key": reader}
    )
    assert other_caller.status_code == 409
    stranger = await make_tenant(process)
    elsewhere = await anonymous.post(
        work.path, json=work.body, headers={**key("k"), **stranger.headers}
    )
    assert elsewhere.status_code == 201
    assert elsewhere.json()["id"] != first.json()["id"]
    assert await raw.fetchval(work.counted) == 2


@pytest.mark.parametrize("given", ["", "k" * 256])
async def test_a_key_that_can_not_be_kept_is_refused(
    client: httpx2.AsyncClient, given: str
) -> None:
    answer = await client.post("/api/leaderboards", json={}, headers=key(given))
    assert (answer.status_code, answer.json()["error"]) == (
        400, "Idempotency-Key: must have 1 to 255 characters",
    )  # fmt: skip


async def test_a_failed_first_try_frees_the_key(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    path = f"/api/leaderboards/{board.id}/run"
    assert (await client.post(path, headers=key("k"))).status_code == 409
    await make_candidate(process, board)
    started = await client.post(path, headers=key("k"))
    assert started.status_code == 202
    assert "Idempotent-Replayed" not in started.headers
    again = await client.post(path, headers=key("k"))
    assert (again.content, again.headers["Idempotent-Replayed"]) == (started.content, "true")


def start_server(settings: Settings, port: int) -> "subprocess.Popen[bytes]":
    variables = {
        "GERO_DATABASE_URL": settings.database_url,
        "GERO_SECRET_KEY": SECRET_KEY,
        "GERO_JWT_SECRET": JWT_SECRET,
        "GERO_SANDBOX_URL": settings.sandbox_url or "",
        "GERO_HUGGINGFACE_URL": settings.huggingface_url,
        "GERO_ALLOW_PRIVATE_ENDPOINTS": "true",
        "GERO_IDEMPOTENCY_CLAIM_SECONDS": "1",
    }
    return subprocess.Popen(
        [GERO, "serve", "--port", str(port)], env={**os.environ, **variables},
        stderr=subprocess.DEVNULL,
    )  # fmt: skip


@asynccontextmanager
async def serve_process(
    settings: Settings, tenant: Tenant
) -> AsyncIterator[tuple["subprocess.Popen[bytes]", httpx2.AsyncClient]]:
    """Run `gero serve` as a process of its own, and yield it and a client of it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = start_server(settings, port)
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx2.AsyncClient(base_url=url, headers=tenant.headers, timeout=60) as client:
            async with asyncio.timeout(WAIT_SECONDS):
                while not await answers(client):
                    await asyncio.sleep(0.05)
            yield process, client
    finally:
        process.kill()
        process.wait()


async def answers(client: httpx2.AsyncClient) -> bool:
    try:
        return (await client.get("/healthz")).status_code == 200
    except httpx2.ConnectError:
        return False


async def kill_before_the_end(
    settings: Settings, raw: asyncpg.Connection, tenant: Tenant, works: dict[str, Work]
) -> None:
    """Have a server do the works, and kill it before it says in the database that it has."""
    await raw.execute(STALL)
    await raw.execute("SELECT pg_advisory_lock(1)")
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    async with serve_process(settings, tenant) as (server, client):
        requests = [
            asyncio.create_task(client.post(work.path, json=work.body, headers=key(name)))
            for name, work in works.items()
        ]
        async with asyncio.timeout(WAIT_SECONDS):
            while await raw.fetchval(waiting) < len(works):
                assert not any(request.done() for request in requests)
                await asyncio.sleep(0.01)
        server.kill()
        ended = await asyncio.gather(*requests, return_exceptions=True)
    assert all(isinstance(each, httpx2.HTTPError) for each in ended)
    await raw.execute("SELECT pg_advisory_unlock(1)")
    await raw.execute("DROP FUNCTION stall() CASCADE")
    assert await raw.fetchval("SELECT count(*) FROM idempotency_key WHERE answer_status > 0") == 0


async def test_what_a_killed_server_had_made_is_found_by_the_repeat(
    client: httpx2.AsyncClient, process: Process, settings: Settings, tenant: Tenant,
    raw: asyncpg.Connection, ledger: httpx2.AsyncClient,
) -> None:  # fmt: skip
    kinds = ("leaderboard", "model", "run", "inference")
    works = {kind: await make_work(process, tenant, kind) for kind in kinds}
    await kill_before_the_end(settings, raw, tenant, works)
    counts = [await raw.fetchval(work.counted) for work in works.values()]
    made = dict(await raw.fetch("SELECT key, resource_id FROM idempotency_key"))
    assert await calls_of(ledger) == {"sandbox/balanced-medium": 1}
    for kind, work in works.items():
        repeated = await client.post(work.path, json=work.body, headers=key(kind))
        assert repeated.status_code == work.status
        assert repeated.json()["trace_id" if kind == "inference" else "id"] == str(made[kind])
        again = await client.post(work.path, json=work.body, headers=key(kind))
        assert (again.content, again.headers["Idempotent-Replayed"]) == (repeated.content, "true")
    assert [await raw.fetchval(work.counted) for work in works.values()] == counts
    assert await calls_of(ledger) == {"sandbox/balanced-medium": 1}


async def test_a_failure_that_a_killed_server_had_stored_is_answered_and_not_paid_again(
    client: httpx2.AsyncClient, process: Process, settings: Settings, tenant: Tenant,
    raw: asyncpg.Connection, ledger: httpx2.AsyncClient, sandbox_url: str,
) -> None:  # fmt: skip
    board = await make_leaderboard(process, tenant.workspace_id)
    candidate = await make_candidate(
        process, board, endpoint_url=f"{sandbox_url}/endpoints/fault-garbage"
    )
    await make_ranked_run(process, board, [candidate])
    path = f"/v1/leaderboard/{board.id}/inference"
    counted = "SELECT count(*) FROM trace WHERE source = 'inference'"
    work = Work(path, {"input": "hello"}, 502, counted)
    await kill_before_the_end(settings, raw, tenant, {"k": work})
    stored = await raw.fetchrow("SELECT id, error FROM trace WHERE source = 'inference'")
    repeated = await client.post(path, json=work.body, headers=key("k"))
    assert (repeated.status_code, repeated.json()["code"]) == (502, "upstream_error")
    details = repeated.json()["details"]
    assert (details["trace_id"], details["reason"]) == (str(stored["id"]), "invalid_response")
    assert stored["error"].removeprefix("invalid_response: ") in repeated.json()["error"]
    assert await raw.fetchval(counted) == 1
    assert await calls_of(ledger) == {"endpoints/fault-garbage": 1}
    # It has been told, so the key is free, as after any failure.
    fresh = await client.post(path, json=work.body, headers=key("k"))
    assert fresh.json()["details"]["trace_id"] != str(stored["id"])
    assert await calls_of(ledger) == {"endpoints/fault-garbage": 2}


@pytest.mark.parametrize("setting_overrides", [{"idempotency_claim_seconds": 2}])
async def test_a_slow_first_try_keeps_its_claim_however_long_it_takes(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, ledger: httpx2.AsyncClient,
    sandbox_url: str,
) -> None:  # fmt: skip
    board = await make_leaderboard(process, tenant.workspace_id)
    candidate = await make_candidate(
        process, board, endpoint_url=f"{sandbox_url}/endpoints/fault-timeout", timeout_seconds=2.5
    )
    await make_ranked_run(process, board, [candidate])
    path = f"/v1/leaderboard/{board.id}/inference"
    first = asyncio.create_task(client.post(path, json={"input": "x"}, headers=key("k")))
    async with asyncio.timeout(WAIT_SECONDS):
        while await calls_of(ledger) == {}:
            await asyncio.sleep(0.01)
    second = asyncio.create_task(client.post(path, json={"input": "x"}, headers=key("k")))
    assert (await first).status_code == 502
    # The second one has waited for that, and has the same answer.
    assert (await second).content == first.result().content
    assert await calls_of(ledger) == {"endpoints/fault-timeout": 1}
    third = await client.post(path, json={"input": "x"}, headers=key("k"))
    assert third.json()["details"]["trace_id"] != first.result().json()["details"]["trace_id"]
    assert await calls_of(ledger) == {"endpoints/fault-timeout": 2}


async def test_only_posts_are_repeated(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id, url=TWO_ROWS_URL)
    path, key = f"/api/leaderboards/{board.id}", {"Idempotency-Key": "one"}
    for name in ("first", "second"):
        changed = await client.patch(path, json={"name": name}, headers=key)
        read = await client.get(path, headers=key)
        assert (changed.json()["name"], read.json()["name"]) == (name, name)
        assert "Idempotent-Replayed" not in read.headers
    statuses = [(await client.delete(path, headers=key)).status_code for _ in range(2)]
    assert statuses == [204, 404]
