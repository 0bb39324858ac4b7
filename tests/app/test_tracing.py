"""Spans, as a collector on loopback receives them."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.services import Process
from app.serving import listen, serving, url_of
from app.settings import load_settings
from app.tracing import Tracing
from tests.conftest import ask, await_run
from tests.factories import Tenant, make_candidate, make_leaderboard
from tests.jobs.conftest import make_board
from tests.jobs.test_run_lifecycle import start
from tests.model_peer import ModelPeer, model_peer

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"
SECRETS = ("PROMPT-5d3c", "ANSWER-0b7e", "QUERY-91fa")
PROMPT, ANSWER, QUERY = SECRETS


@dataclass
class Collector:
    """Keeps the spans it is sent."""

    url: str = ""
    spans: list[Span] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)
    raw: bytes = b""

    async def take(self, request: Request) -> Response:
        body = await request.body()
        self.raw += body
        assert request.headers["content-type"] == "application/x-protobuf"
        for each in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append(attributes_of(each.resource.attributes))
            for scope in each.scope_spans:
                self.spans += scope.spans
        return Response(
            ExportTraceServiceResponse().SerializeToString(), media_type="application/x-protobuf"
        )

    def named(self, name: str) -> Span:
        (found,) = [each for each in self.spans if each.name == name]
        return found


def attributes_of(pairs: Any) -> dict[str, Any]:
    """Return attributes as plain values."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    made = Collector()
    app = Starlette(routes=[Route("/v1/traces", made.take, methods=["POST"])])
    listener = listen("127.0.0.1", 0)
    made.url = url_of(listener)
    async with serving(app, listener):
        yield made


@pytest.fixture
async def peer() -> AsyncIterator[ModelPeer]:
    async with model_peer(2) as made:
        yield made


@pytest.fixture
def setting_overrides(collector: Collector, peer: ModelPeer) -> dict[str, Any]:
    return {
        "otlp_endpoint": collector.url,
        "service_name": "ours",
        "huggingface_url": peer.url,
        "log_format": "json",
    }


async def flush(process: Process) -> None:
    """Have every span sent that has ended."""
    assert process.tracing is not None
    await asyncio.to_thread(process.tracing.close)


async def test_a_request_goes_on_with_its_clients_trace(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, collector: Collector
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    path = f"/v1/leaderboard/{board.id}/traces"
    answered = await client.get(
        f"{path}?search={QUERY}",
        headers={
            "traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01",
            "tracestate": "vendor=1",
            "X-Request-Id": "mine-1",
        },
    )
    assert answered.status_code == 200
    await ask(client, "{ __typename }")
    await flush(process)
    route = "/v1/leaderboard/{leaderboard_id}/traces"
    span = collector.named(f"GET {route}")
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE_ID, PARENT_ID)
    assert (span.kind, span.trace_state) == (Span.SPAN_KIND_SERVER, "vendor=1")
    assert attributes_of(span.attributes) == {
        "http.request.method": "GET",
        "http.route": route,
        "http.response.status_code": 200,
        "url.scheme": "http",
        "url.path": path,
        "gero.request_id": "mine-1",
    }
    statements = [each for each in collector.spans if each.parent_span_id == span.span_id]
    assert {each.name for each in statements} == {"SELECT"}
    assert attributes_of(statements[0].attributes) == {
        "db.system.name": "postgresql", "db.operation.name": "SELECT",
    }  # fmt: skip
    assert all(
        span.start_time_unix_nano <= each.start_time_unix_nano <= each.end_time_unix_nano
        for each in statements
    )
    graphql = collector.named("POST /graphql")
    assert graphql.parent_span_id == b""
    assert graphql.trace_id != span.trace_id
    (resource,) = {str(each): each for each in collector.resources}.values()
    assert resource["service.name"] == "ours"
    assert QUERY.encode() not in collector.raw


async def test_a_trusted_proxy_tells_how_its_client_came(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, collector: Collector
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    client.headers["X-Forwarded-Proto"] = "https"
    path = f"/v1/leaderboard/{board.id}/inference"
    asked = await ask(client, f'{{ leaderboard(id: "{board.id}") {{ inferenceUrl }} }}')
    url = asked["data"]["leaderboard"]["inferenceUrl"]
    assert url == f"https://{client.base_url.netloc.decode()}{path}"
    assert (await client.post(path, json={"input": "hi"})).status_code == 409
    await client.get("/healthz")
    await flush(process)
    for name in (
        "POST /graphql",
        "POST /v1/leaderboard/{leaderboard_id}/inference",
        "GET /healthz",
    ):
        assert attributes_of(collector.named(name).attributes)["url.scheme"] == "https"


async def test_a_jobs_calls_are_its_parts_and_hold_nothing_of_what_was_said(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, peer: ModelPeer, worker: None,
    collector: Collector,
) -> None:  # fmt: skip
    peer.rows = [{"input": PROMPT, "expected": ANSWER}]

    def answer(name: str, question: str) -> Response | str:
        if name == "broken":
            return JSONResponse({"error": f"can't do {question}"}, 400)
        usage = {"prompt_tokens": 7, "completion_tokens": 3}
        message = {"role": "assistant", "content": ANSWER}
        return JSONResponse({"choices": [{"message": message}], "usage": usage})

    peer.answer = answer
    board, _ = await make_board(process, tenant, peer, "broken")
    await make_candidate(
        process, board, endpoint_url=peer.endpoint("good"), model_id="house/model-1"
    )
    await await_run(client, board.id, await start(client, board.id))
    await flush(process)
    call = collector.named("chat house/model-1")
    assert call.kind == Span.SPAN_KIND_CLIENT
    assert attributes_of(call.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "custom",
        "gen_ai.request.model": "house/model-1",
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 3,
    }
    failed = collector.named("chat")
    assert attributes_of(failed.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "custom",
        "error.type": "rejected",
    }
    assert failed.status.code == Status.STATUS_CODE_ERROR
    (job,) = [each for each in collector.spans if each.span_id == call.parent_span_id]
    assert (job.name, job.kind) == ("job run.shard", Span.SPAN_KIND_CONSUMER)
    assert attributes_of(job.attributes) == {
        "gero.job.kind": "run.shard", "gero.job.outcome": "succeeded",
    }  # fmt: skip
    # Statements that no request or job made, such as a shared commit's, leave none.
    ids = {each.span_id for each in collector.spans}
    orphans = [
        each.name
        for each in collector.spans
        if each.kind == Span.SPAN_KIND_CLIENT and each.parent_span_id not in ids
    ]
    assert orphans == []
    assert [secret for secret in SECRETS if secret.encode() in collector.raw] == []


async def test_the_log_names_the_trace(
    client: httpx2.AsyncClient,
    process: Process,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level("INFO", "gero.http")
    await client.get("/healthz", headers={"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01"})
    assert f'"otel_trace_id":"{TRACE_ID}"' in capsys.readouterr().err


@pytest.mark.parametrize("setting_overrides", [{"otlp_endpoint": "http://127.0.0.1:9"}])
async def test_a_collector_that_is_away_costs_no_request_and_bounded_time_at_the_end(
    client: httpx2.AsyncClient, process: Process
) -> None:
    answers = await asyncio.gather(*(client.get("/healthz") for _ in range(200)))
    assert {answer.status_code for answer in answers} == {200}
    async with asyncio.timeout(10):
        await flush(process)


async def test_a_collector_that_never_answers_holds_up_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        tracing = Tracing(f"http://127.0.0.1:{silent.getsockname()[1]}", "ours")
        scope = {
            "type": "http", "method": "GET", "scheme": "http", "raw_path": b"/x",
            "request_id": "r",
        }  # fmt: skip
        for _ in range(10_000):  # more than the queue holds
            with tracing.request(scope, {}) as span:
                span.end("/x", 200)
        async with asyncio.timeout(10):
            await asyncio.to_thread(tracing.close)


@pytest.mark.parametrize("variable", ["GERO_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"])
def test_opentelemetrys_own_variables_are_read(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "http://127.0.0.1:4318/")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "theirs")
    given = load_settings(database_url="postgresql://x", secret_key="A" * 43 + "=")
    assert (given.otlp_endpoint, given.service_name) == ("http://127.0.0.1:4318", "theirs")
    monkeypatch.setenv(variable, "")
    assert (
        load_settings(database_url="postgresql://x", secret_key="A" * 43 + "=").otlp_endpoint
        is None
    )


def test_a_server_without_a_collector_loads_no_sdk() -> None:
    code = (
        "import sys, app.cli; "
        "print([name for name in sys.modules if name.startswith('opentelemetry.') "
        "and name.split('.')[1] in {'sdk', 'exporter'}])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"
