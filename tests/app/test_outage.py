"""PostgreSQL goes away while everything runs: nothing hangs, and all of it comes back."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import func, select

from app.embedded_postgres import EmbeddedPostgres
from app.services import Process
from db.migrations.runner import migrate_url
from db.models import RunResult
from resolvers import patience
from tests.app.test_up import servers_in
from tests.conftest import FAST, ask, await_run, database_dir
from tests.factories import Tenant, make_candidate, make_leaderboard
from tests.model_peer import model_peer

# Far above what the settings allow, and far below a hang.
HUNG_SECONDS = 15


@dataclass(frozen=True)
class OwnServer:
    """A PostgreSQL of this module's own, to be stopped and frozen."""

    data_dir: Path
    server: EmbeddedPostgres

    @asynccontextmanager
    async def away(self, how: str) -> AsyncIterator[None]:
        if how == "stopped":
            await asyncio.to_thread(self.server.stop)
            try:
                yield
            finally:
                await asyncio.to_thread(self.server.start)
        else:
            self.signal(signal.SIGSTOP)
            try:
                yield
            finally:
                self.signal(signal.SIGCONT)

    def signal(self, number: signal.Signals) -> None:
        for pid in servers_in(self.data_dir):
            os.kill(pid, number)


@pytest.fixture(scope="module")
def own_server() -> Iterator[OwnServer]:
    with database_dir() as data_dir, EmbeddedPostgres(data_dir, settings=FAST) as server:
        yield OwnServer(data_dir, server)


@pytest.fixture(scope="module")
async def database_url(own_server: OwnServer) -> str:
    await migrate_url(own_server.server.dsn)
    return own_server.server.dsn


@pytest.fixture
def setting_overrides() -> dict[str, Any]:
    return {"database_timeout_seconds": 1, "worker_timeout_seconds": 3}


async def timed(request: Any) -> Any:
    async with asyncio.timeout(HUNG_SECONDS):
        return await request


@pytest.mark.parametrize("how", ["stopped", "frozen"])
async def test_an_outage_is_told_in_time_and_ends_by_itself(
    client: httpx2.AsyncClient, own_server: OwnServer, tenant: Tenant, process: Process, how: str
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    # Every connection of the pool has been used, and goes stale.
    listed = await asyncio.gather(*(client.get("/api/leaderboards") for _ in range(20)))
    assert {answer.status_code for answer in listed} == {200}
    async with own_server.away(how):
        alive, ready, rest, many, graphql = await asyncio.gather(
            timed(client.get("/healthz")),
            timed(client.get("/readyz")),
            timed(client.get("/api/leaderboards")),
            asyncio.gather(*(timed(client.get("/api/leaderboards")) for _ in range(30))),
            timed(client.post("/graphql", json={"query": "{ workspace { id } }"})),
        )
    assert (alive.status_code, alive.json()) == (200, {"status": "ok"})
    assert (ready.status_code, ready.json()["status"]) == (503, "unavailable")
    assert list(ready.json()["checks"]) == ["database"]
    for answer in (rest, *many):
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert answer.json() == {
            "error": "the database can't be reached; try again",
            "code": "unavailable",
            "details": {},
        }
    (error,) = graphql.json()["errors"]
    assert error["extensions"] == {"code": "unavailable", "status": 503, "details": {}}
    again = await timed(client.get("/api/leaderboards"))
    assert [row["id"] for row in again.json()["leaderboards"]] == [str(board.id)]
    after = await asyncio.gather(*(client.get("/api/leaderboards") for _ in range(20)))
    assert {answer.status_code for answer in after} == {200}
    assert (await client.get("/readyz")).json()["status"] == "ok"
    assert "data" in await ask(client, "{ workspace { id } }")


@pytest.mark.parametrize("how", ["stopped", "frozen"])
@pytest.mark.parametrize("setting_overrides", [{"cron_secret": "operator"}])
async def test_metrics_are_shown_without_what_only_the_database_knows(
    anonymous: httpx2.AsyncClient, own_server: OwnServer, how: str
) -> None:
    async with own_server.away(how):
        answer = await timed(anonymous.get("/metrics", headers={"X-Cron-Secret": "operator"}))
    assert answer.status_code == 200
    assert "gero_http_requests_in_flight 1.0" in answer.text
    assert "gero_jobs_unfinished{" not in answer.text


async def test_nobody_meets_the_connections_that_a_restart_closed(
    client: httpx2.AsyncClient, own_server: OwnServer
) -> None:
    await asyncio.gather(*(client.get("/api/leaderboards") for _ in range(20)))
    async with own_server.away("stopped"):
        pass
    answers = await asyncio.gather(*(client.get("/api/leaderboards") for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}


async def stored_results(process: Process, run_id: object) -> int:
    async with process.database.read() as session:
        statement = select(func.count()).select_from(RunResult).where(RunResult.run_id == run_id)
        return await session.scalar(statement) or 0


@pytest.mark.parametrize("how", ["stopped", "frozen"])
async def test_a_run_under_way_goes_on_after_an_outage_and_pays_for_nothing_twice(
    client: httpx2.AsyncClient, own_server: OwnServer, tenant: Tenant, process: Process,
    worker: None, how: str, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """However long it is: nobody waits for a run's answers who would have to be told."""
    monkeypatch.setattr(patience, "LONGEST_OUTAGE_SECONDS", 0)
    board = await make_leaderboard(process, tenant.workspace_id)
    async with model_peer(1) as peer:
        await make_candidate(process, board, endpoint_url=peer.endpoint("model"))
        started = (await client.post(f"/api/leaderboards/{board.id}/run")).json()
        while await stored_results(process, started["id"]) == 0:
            await asyncio.sleep(0.005)
        async with own_server.away(how):
            await asyncio.sleep(4)  # longer than a worker may be silent
        run = await await_run(client, board.id, started["id"])
    assert run["status"] == "completed", run["error"]
    assert run["progress"] == {"done": 288, "failed": 0, "total": 288}
    assert await stored_results(process, run["id"]) == 288
    assert peer.call_count == 288


async def test_calls_that_an_outage_meets_are_not_made_again_beside_them(
    client: httpx2.AsyncClient, own_server: OwnServer, tenant: Tenant, process: Process,
    worker: None,
) -> None:  # fmt: skip
    board = await make_leaderboard(process, tenant.workspace_id)
    async with model_peer(1) as peer:
        await make_candidate(process, board, endpoint_url=peer.endpoint("model"))
        peer.open.clear()
        started = (await client.post(f"/api/leaderboards/{board.id}/run")).json()
        while peer.under_way < 16:
            await asyncio.sleep(0.005)
        async with own_server.away("stopped"):
            await asyncio.sleep(4)  # longer than a worker may be silent
        await asyncio.sleep(6)  # until its jobs are taken again
        peer.open.set()
        run = await await_run(client, board.id, started["id"])
    assert run["progress"] == {"done": 288, "failed": 0, "total": 288}
    assert peer.call_count == 288
