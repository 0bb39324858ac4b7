"""What is counted, and that nothing which is sent makes a series of its own."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text
from starlette.responses import JSONResponse

from app.meters import operation_of
from app.metrics import create_worker_app
from app.services import Process
from app.serving import listen, serving, url_of
from app.settings import Settings
from db.records import PoolUse
from db.session import Database
from jobs.queue import PgJobQueue
from providers.base import ChatAnswer, ChatTarget, ProviderError, ProviderErrorCode
from resolvers.group_commit import GroupCommit
from resolvers.meters import CallSource, JobOutcome, Refusal
from tests.conftest import NO_TLS, ask, await_run
from tests.factories import (
    Tenant,
    make_candidate,
    make_leaderboard,
    make_ranked_run,
    make_token,
)
from tests.jobs.conftest import make_board
from tests.jobs.test_run_lifecycle import start
from tests.model_peer import ModelPeer, model_peer

SECRET = "the operator's own secret"
OPERATOR = {"X-Cron-Secret": SECRET}
MANY = 10_000
TARGET = ChatTarget(
    provider="openrouter",
    model_id="one/model",
    url=None,
    headers={},
    params={},
    timeout_seconds=1.0,
    input_price_per_million_usd=None,
    output_price_per_million_usd=None,
)
ANSWER = ChatAnswer("yes", None, 7, 3, Decimal("0.25"), "provider")


@pytest.fixture
async def peer() -> AsyncIterator[ModelPeer]:
    async with model_peer(4) as made:
        yield made


@pytest.fixture
def setting_overrides(request: pytest.FixtureRequest) -> dict[str, Any]:
    overrides = {"cron_secret": SECRET}
    if "peer" in request.fixturenames:
        overrides["huggingface_url"] = request.getfixturevalue("peer").url
    return overrides


Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def scrape(client: httpx2.AsyncClient) -> Samples:
    """Return every sample, by its name and labels; it is read as Prometheus reads it."""
    answer = await client.get("/metrics", headers=OPERATOR)
    assert answer.status_code == 200
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, frozenset(labels.items())))


async def test_requests_are_counted_by_route_method_and_class_of_status(
    client: httpx2.AsyncClient, tenant: Tenant, process: Process
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    for _ in range(2):
        await client.get(f"/api/leaderboards/{board.id}/runs?limit=1")
    await client.get("/api/leaderboards/none/runs")
    await client.get("/nope")
    await client.request("PROPFIND", "/healthz")
    await ask(client, "{ __typename }")
    seen = await scrape(client)
    runs = "/api/leaderboards/{leaderboard_id}/runs"
    name = "gero_http_requests_total"
    assert value(seen, name, route=runs, method="GET", status="2xx") == 2
    assert value(seen, name, route=runs, method="GET", status="4xx") == 1
    assert value(seen, name, route="other", method="GET", status="4xx") == 1
    assert value(seen, name, route="/healthz", method="other", status="4xx") == 1
    assert value(seen, name, route="/graphql", method="POST", status="2xx") == 1
    took = "gero_http_request_duration_seconds"
    assert value(seen, f"{took}_count", route=runs, method="GET") == 3
    assert value(seen, f"{took}_bucket", route=runs, method="GET", le="+Inf") == 3
    assert value(seen, "gero_http_requests_in_flight") == 1  # the scrape itself


async def test_calls_are_counted_by_source_provider_and_outcome(
    anonymous: httpx2.AsyncClient, process: Process
) -> None:
    calls = process.meters.calls(CallSource.JUDGE)
    calls.note(TARGET, ANSWER, None, 0.3, 0.2)
    calls.note(TARGET, replace(ANSWER, cost_usd=None, prompt_tokens=None), None, 0.3)
    calls.note(TARGET, None, ProviderError(ProviderErrorCode.TIMED_OUT, "x"), 20.0)
    calls.note(TARGET, None, ProviderError(ProviderErrorCode.CIRCUIT_OPEN, "x"), None)
    process.meters.refused(Refusal.TOKEN_RATE)
    seen = await scrape(anonymous)
    by = {"source": "judge", "provider": "openrouter"}
    assert value(seen, "gero_model_calls_total", outcome="ok", **by) == 2
    assert value(seen, "gero_model_calls_total", outcome="timed_out", **by) == 1
    assert value(seen, "gero_model_calls_total", outcome="circuit_open", **by) == 1
    # Nobody was asked the fourth time.
    assert value(seen, "gero_model_call_duration_seconds_count", **by) == 3
    assert value(seen, "gero_model_call_duration_seconds_sum", **by) == pytest.approx(20.6)
    assert value(seen, "gero_model_first_byte_seconds_count", **by) == 1
    assert value(seen, "gero_model_first_byte_seconds_sum", **by) == 0.2
    assert value(seen, "gero_model_tokens_total", direction="input", **by) == 7
    assert value(seen, "gero_model_tokens_total", direction="output", **by) == 6
    assert value(seen, "gero_model_cost_usd_total", **by) == 0.25
    assert value(seen, "gero_refusals_total", reason="token_rate") == 1
    assert value(seen, "gero_refusals_total", reason="budget") == 0


async def test_a_run_is_seen_in_calls_jobs_commits_and_statements(
    client: httpx2.AsyncClient, tenant: Tenant, process: Process, peer: ModelPeer, worker: None
) -> None:
    peer.answer = lambda name, question: (
        JSONResponse({}, 400) if name == "broken" else question
    )  # fmt: skip
    board, _ = await make_board(process, tenant, peer, "echo", "broken")
    before = await scrape(client)
    await await_run(client, board.id, await start(client, board.id))
    seen = await scrape(client)
    by = {"source": "run", "provider": "custom"}
    assert value(seen, "gero_model_calls_total", outcome="ok", **by) == 4
    assert value(seen, "gero_model_calls_total", outcome="rejected", **by) == 4
    assert value(seen, "gero_model_cost_usd_total", **by) == pytest.approx(0.004)
    assert value(seen, "gero_jobs_total", kind="run.shard", outcome="succeeded") == 1
    assert value(seen, "gero_job_duration_seconds_count", kind="run.shard") == 1
    assert value(seen, "gero_commit_items_sum", store="run_results") == 8
    assert value(seen, "gero_commit_waiting", store="run_results") == 0
    for kind in ("read", "write"):
        counter = "gero_database_statement_duration_seconds_count"
        assert value(seen, counter, kind=kind) > (value(before, counter, kind=kind) or 0)  # type: ignore[operator]


CHAT: dict[str, Any] = {
    "model": "leaderboard/sums",
    "messages": [{"role": "user", "content": "What is 2 + 3?"}],
}


async def make_serving(process: Process, tenant: Tenant, *models: str) -> None:
    """Have a leaderboard whose models are ranked in this order, and the first serves."""
    board = await make_leaderboard(process, tenant.workspace_id, slug="sums")
    prices: dict[str, Any] = {"input_price_per_million_usd": 1, "output_price_per_million_usd": 1}
    candidates = [
        await make_candidate(process, board, model_id=f"sandbox/{model}", **prices)
        for model in models
    ]
    await make_ranked_run(process, board, candidates)


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_call_of_production_is_counted_whole_or_in_parts(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, *, is_streamed: bool
) -> None:
    await make_serving(process, tenant, "balanced-medium")
    answered = await client.post("/v1/chat/completions", json={**CHAT, "stream": is_streamed})
    assert answered.status_code == 200, answered.text
    seen = await scrape(client)
    by = {"source": "inference", "provider": "openrouter"}
    assert value(seen, "gero_model_calls_total", outcome="ok", **by) == 1
    assert value(seen, "gero_model_call_duration_seconds_count", **by) == 1
    assert value(seen, "gero_model_first_byte_seconds_count", **by) == (1 if is_streamed else 0)
    for direction in ("input", "output"):
        assert value(seen, "gero_model_tokens_total", direction=direction, **by)
    route = {"route": "/v1/chat/completions", "method": "POST"}
    assert value(seen, "gero_http_requests_total", status="2xx", **route) == 1
    assert value(seen, "gero_commit_items_sum", store="calls") == 1
    assert value(seen, "gero_inferences_in_flight") == 0


async def test_an_answer_that_breaks_off_is_counted_once_with_what_had_come(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    await make_serving(process, tenant, "fault-disconnect")
    await client.post("/v1/chat/completions", json={**CHAT, "stream": True})
    seen = await scrape(client)
    by = {"source": "inference", "provider": "openrouter"}
    assert value(seen, "gero_model_calls_total", outcome="connection_lost", **by) == 1
    assert value(seen, "gero_model_call_duration_seconds_count", **by) == 1
    assert value(seen, "gero_model_tokens_total", direction="output", **by)


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_call_whose_caller_leaves_is_counted_once(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, peer: ModelPeer, *,
    is_streamed: bool,
) -> None:  # fmt: skip
    board = await make_leaderboard(process, tenant.workspace_id, slug="sums")
    candidate = await make_candidate(process, board, endpoint_url=peer.endpoint("slow"))
    await make_ranked_run(process, board, [candidate])
    peer.open.clear()
    with pytest.raises(httpx2.ReadTimeout):
        await client.post("/v1/chat/completions", json={**CHAT, "stream": is_streamed}, timeout=0.3)
    by = {"source": "inference", "provider": "custom", "outcome": "cancelled"}
    async with asyncio.timeout(10):
        while value(await scrape(client), "gero_model_calls_total", **by) != 1:
            await asyncio.sleep(0.05)
        while process.services.admission.count:
            await asyncio.sleep(0.01)
    assert value(await scrape(client), "gero_model_calls_total", **by) == 1
    peer.open.set()  # so that it can end at once


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"budget_limit_usd": Decimal("0.000001")}, "budget"),
        ({"requests_per_minute": 1}, "request_rate"),
        ({"tokens_per_minute": 1}, "token_rate"),
    ],
)
@pytest.mark.parametrize("setting_overrides", [{"cron_secret": SECRET, "budget_wait_seconds": 0}])
async def test_a_refusal_is_counted_by_what_refuses(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, limits: dict[str, Any],
    reason: str,
) -> None:  # fmt: skip
    await make_serving(process, tenant, "balanced-medium")
    token = await make_token(process, tenant.workspace_id, **limits)
    headers = {"Authorization": f"Bearer {token}"}
    answers = [
        await client.post("/v1/chat/completions", json=CHAT, headers=headers) for _ in range(2)
    ]
    assert answers[-1].status_code in {402, 429}
    seen = await scrape(client)
    times = 1 if reason == "request_rate" else 2
    refusals = {each: value(seen, "gero_refusals_total", reason=each) for each in Refusal}
    assert refusals == {each: times if each == reason else 0 for each in Refusal}


@pytest.mark.parametrize("setting_overrides", [{"cron_secret": SECRET, "max_inferences": 1}])
@pytest.mark.parametrize("full", ["admission", "door"])
async def test_a_call_that_finds_no_place_is_counted(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, full: str
) -> None:
    await make_serving(process, tenant, "balanced-medium")
    getattr(process.services, full).enter()
    refused = await client.post("/v1/chat/completions", json=CHAT)
    assert refused.status_code == 503
    seen = await scrape(client)
    assert value(seen, "gero_refusals_total", reason="concurrency") == 1
    assert value(seen, "gero_inferences_in_flight") == (full == "admission")


@pytest.mark.parametrize("outcome", list(JobOutcome))
async def test_an_attempt_at_a_job_ends_as_it_says(
    anonymous: httpx2.AsyncClient, process: Process, outcome: JobOutcome
) -> None:
    with process.meters.job("run.shard", "job-1") as attempt:
        if outcome is not JobOutcome.RETRIED:
            attempt.outcome = outcome
    seen = await scrape(anonymous)
    assert value(seen, "gero_jobs_total", kind="run.shard", outcome=outcome) == 1


async def test_the_depth_of_the_queue_is_asked_at_most_every_few_seconds(
    anonymous: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    async def queue_a_job() -> None:
        async with process.database.write() as session:
            await PgJobQueue().enqueue(
                session, "run.advance", workspace_id=tenant.workspace_id,
                subject_id=tenant.workspace_id, arguments=[{}],
            )  # fmt: skip

    await queue_a_job()
    first = await scrape(anonymous)
    assert value(first, "gero_jobs_unfinished", state="queued") == 1
    assert value(first, "gero_jobs_unfinished", state="running") == 0
    await queue_a_job()
    again = await scrape(anonymous)
    assert value(again, "gero_jobs_unfinished", state="queued") == 1


async def test_who_holds_a_connection_and_who_waits_for_one_is_seen(
    anonymous: httpx2.AsyncClient, process: Process, settings: Settings
) -> None:
    async def hold(database: Database, until: asyncio.Event) -> None:
        async with database.read() as session:
            await session.execute(text("SELECT 1"))
            await until.wait()

    enough = asyncio.Event()
    crowd = settings.database_pool_size + 3
    holding = [asyncio.create_task(hold(process.database, enough)) for _ in range(crowd)]
    async with asyncio.timeout(10):
        while process.database.session_pool != PoolUse(settings.database_pool_size, waiting=3):
            await asyncio.sleep(0.01)
    seen = await scrape(anonymous)
    held = value(seen, "gero_database_connections_in_use", pool="requests")
    assert held == settings.database_pool_size
    assert value(seen, "gero_database_connections_waiting", pool="requests") == 3
    enough.set()
    await asyncio.gather(*holding)
    seen = await scrape(anonymous)
    assert value(seen, "gero_database_connections_in_use", pool="requests") == 0
    assert value(seen, "gero_database_connections_waiting", pool="requests") == 0


async def test_the_process_is_seen_too(anonymous: httpx2.AsyncClient) -> None:
    wanted = ("gero_event_loop_lag_seconds_count", "gero_change_feed_connected")
    async with asyncio.timeout(10):
        seen = await scrape(anonymous)
        while not all(value(seen, name) for name in wanted):
            await asyncio.sleep(0.1)
            seen = await scrape(anonymous)
    for name in ("process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total"):
        assert value(seen, name) > 0  # type: ignore[operator]
    assert value(seen, "gero_circuits_open") == 0
    assert value(seen, "gero_gc_pause_seconds_count", generation="2") is not None


async def test_a_batch_that_can_not_be_stored_is_counted_as_what_was_stored(
    process: Process, anonymous: httpx2.AsyncClient
) -> None:
    async def store(_: object) -> None:
        pass

    commits: GroupCommit[int] = GroupCommit(store, max_waiting=10)
    process.meters.watch_commits("pushes", commits)
    for each in await asyncio.gather(*(commits.offer(n) for n in range(3))):
        await each
    seen = await scrape(anonymous)
    assert value(seen, "gero_commit_items_sum", store="pushes") == 3
    assert value(seen, "gero_commit_items_count", store="pushes") in {1, 2}


async def pour(base_url: str, count: int, write: Any) -> None:
    """Send requests over one connection without waiting, and read as many answers."""
    host, port = base_url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))

    async def send() -> None:
        for number in range(count):
            method, path, body = write(number)
            head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
            writer.write(f"{head}Content-Type: application/json\r\n\r\n{body}".encode())
            await writer.drain()

    sending = asyncio.create_task(send())
    try:
        for _ in range(count):
            head = await reader.readuntil(b"\r\n\r\n")
            (length,) = re.findall(rb"content-length: (\d+)", head.lower())
            await reader.readexactly(int(length))
        await sending
    finally:
        writer.close()


async def test_ten_thousand_paths_models_and_names_make_no_series(
    anonymous: httpx2.AsyncClient, base_url: str, process: Process
) -> None:
    def write_path(number: int) -> tuple[str, str, str]:
        method = ("GET", "PROPFIND", "PURGE", "SUBSCRIBE")[number % 4]
        return method, f"/nope/{number}?q={number}", ""

    def write_operation(number: int) -> tuple[str, str, str]:
        query = f"query Named{number} {{ a{number}: __typename }}"
        return "POST", f"/graphql?n={number}", f'{{"query": "{query}"}}'

    async def send(count: int) -> None:
        await pour(base_url, count, write_path)
        await pour(base_url, count // 10, write_operation)
        for number in range(count):
            target = replace(TARGET, provider=f"provider-{number}", model_id=f"model-{number}")
            calls = process.meters.calls(CallSource.INFERENCE)
            calls.note(target, ANSWER, None, 0.1)

    await send(10)
    await scrape(anonymous)  # which is counted as well
    before = await scrape(anonymous)
    await send(MANY)
    after = await scrape(anonymous)
    assert after.keys() == before.keys()
    name = "gero_http_requests_total"
    counted = sum(amount for (each, _), amount in after.items() if each == name)
    assert counted > MANY
    by = {"source": "inference", "provider": "other", "outcome": "ok"}
    assert value(after, "gero_model_calls_total", **by) == MANY + 10


@pytest.mark.parametrize(
    ("sql", "operation"),
    [
        ("SELECT 1", "SELECT"),
        ("\n  insert INTO x VALUES ($1)", "INSERT"),
        ("UPDATE x SET y = 1", "UPDATE"),
        ("DELETE FROM x", "DELETE"),
        ("WITH a AS (SELECT 1) SELECT * FROM a", "SELECT"),
        ("WITH a AS (DELETE FROM b RETURNING *) SELECT * FROM a", "DELETE"),
        ("with a as (select 1)\nupdate b set updated_at = now()", "UPDATE"),
        ("WITH a AS (SELECT updated_at FROM b) SELECT 1", "SELECT"),
        ("SET LOCAL synchronous_commit = off", "SET"),
        ("LISTEN run", "OTHER"),
        ("", "OTHER"),
    ],
)
def test_a_statement_is_named_by_what_it_does(sql: str, operation: str) -> None:
    assert operation_of(sql) == operation


async def test_a_worker_shows_its_metrics_where_it_is_told_to(
    settings: Settings, process: Process
) -> None:
    listener = listen("127.0.0.1", 0)
    async with (
        serving(create_worker_app(settings, process), listener),
        httpx2.AsyncClient(base_url=url_of(listener), verify=NO_TLS) as client,
    ):
        with process.meters.job("run.shard", "job-1") as attempt:
            attempt.outcome = JobOutcome.SUCCEEDED
        seen = await scrape(client)
        refused = await client.get("/metrics")
        other = await client.get("/api/leaderboards", headers=OPERATOR)
    assert value(seen, "gero_jobs_total", kind="run.shard", outcome="succeeded") == 1
    assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
    assert other.status_code == 404
