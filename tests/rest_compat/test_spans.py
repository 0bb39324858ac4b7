"""Spans over OTLP/HTTP, sent by OpenTelemetry's own SDK and by hand, to the real server."""

import asyncio
import gzip
import json
import random
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from google.protobuf.json_format import MessageToDict
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExportResult,
)
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import select

from app.services import Process
from db.models import Trace, TraceHour
from resolvers.errors import UnavailableError
from resolvers.span_intake import MAX_REQUESTS
from tests.conftest import ask
from tests.engine.otlp_requests import as_json
from tests.factories import Tenant, make_leaderboard, make_tenant, make_token

PATH = "/v1/otlp/traces"
JSON = {"Content-Type": "application/json"}
PROTOBUF = {"Content-Type": "application/x-protobuf"}
DAY_NS = 24 * 3600 * 10**9
CHAT: dict[str, Any] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.usage.input_tokens": 12,
    "gen_ai.usage.output_tokens": 3,
    "gen_ai.input.messages": json.dumps(
        [{"role": "user", "parts": [{"type": "text", "content": "What is 2 + 2?"}]}]
    ),
    "gen_ai.output.messages": json.dumps(
        [{"role": "assistant", "parts": [{"type": "text", "content": "4"}]}]
    ),
    "shop.order": "A-17",
}


def exporter_of(base_url: str, tenant: Tenant, **options: Any) -> OTLPSpanExporter:
    """Return the SDK's exporter with its defaults; of a base address, as its variable has it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"{base_url}/v1/otlp")
        patch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"authorization=Bearer%20{tenant.token}")
        return OTLPSpanExporter(**options)


def make_spans(
    count: int = 1,
    *,
    resource: dict[str, Any] | None = None,
    started_ns: int | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> Sequence[ReadableSpan]:
    """Have the SDK make spans of calls that took 1,500 ms."""
    kept = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource(resource or {"service.name": "shop"}))
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer("instrumentation.openai", "2.1")
    began = time.time_ns() if started_ns is None else started_ns
    for _ in range(count):
        span = tracer.start_span(
            "chat gpt-4o", start_time=began, attributes={**CHAT, **(attributes or {})}
        )
        span.end(end_time=began + 1_500_000_000)
    return kept.get_finished_spans()


async def export(exporter: OTLPSpanExporter, spans: Sequence[ReadableSpan]) -> SpanExportResult:
    return await asyncio.to_thread(exporter.export, spans)


def encoded(spans: Sequence[ReadableSpan]) -> bytes:
    """Return what the exporter would send."""
    return encode_spans(spans).SerializeToString()


async def stored_traces(process: Process) -> Sequence[Trace]:
    async with process.database.read() as session:
        return (await session.scalars(select(Trace).order_by(Trace.id))).all()


async def test_the_sdk_s_spans_arrive_as_traces(
    base_url: str, tenant: Tenant, client: httpx2.AsyncClient, process: Process
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id, slug="tickets")
    (span,) = make_spans(attributes={"drgero.leaderboard_id": "tickets"})
    result = await export(exporter_of(base_url, tenant), [span])
    assert result is SpanExportResult.SUCCESS
    listed = await client.get(f"/v1/leaderboard/{board.id}/traces?format=json")
    (row,) = listed.json()["rows"]
    token_id, trace_id = row.pop("token_id"), row.pop("id")
    assert span.start_time is not None
    created_at = row.pop("created_at")
    assert UUID(trace_id).int >> 80 == span.start_time // 1_000_000
    assert created_at.endswith(f"{span.start_time // 1_000_000 % 1000:03}Z")
    assert token_id is not None
    assert row == {
        "leaderboard_id": str(board.id), "run_id": None, "source": "manual", "status": "ok",
        "provider": "openai", "model": "gpt-4o", "leaderboard_model_id": None,
        "input": "What is 2 + 2?",
        "messages": [{"role": "user", "content": "What is 2 + 2?"}], "output": "4",
        "expected": None, "score": None, "error": None, "latency_ms": 1500.0,
        "prompt_tokens": 12, "completion_tokens": 3, "cost_usd": None,
        "metadata": {
            "gen_ai.operation.name": "chat", "shop.order": "A-17", "service.name": "shop",
            "otel.span.name": "chat gpt-4o", "otel.scope.name": "instrumentation.openai",
            "otel.scope.version": "2.1",
            "otel.trace_id": f"{span.context.trace_id:032x}",
            "otel.span_id": f"{span.context.span_id:016x}",
        },
    }  # fmt: skip


@pytest.mark.parametrize("compression", [Compression.Gzip, Compression.Deflate])
async def test_a_batch_processor_sends_compressed_batches(
    base_url: str, tenant: Tenant, process: Process, compression: Compression
) -> None:
    provider = TracerProvider()
    exporter = exporter_of(base_url, tenant, compression=compression)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_export_batch_size=20))
    tracer = provider.get_tracer("shop")
    for _ in range(50):
        with tracer.start_as_current_span("agent"), tracer.start_as_current_span("chat") as span:
            span.set_attributes(CHAT)
    await asyncio.to_thread(provider.shutdown)
    traces = await stored_traces(process)
    assert len(traces) == 50
    assert {trace.leaderboard_id for trace in traces} == {None}


async def test_the_same_span_from_two_exporters_at_once_is_one_trace(
    base_url: str, tenant: Tenant, process: Process
) -> None:
    spans = make_spans(30)
    exporters = [exporter_of(base_url, tenant) for _ in range(4)]
    orders = [spans, spans[::-1], spans[:20], spans[10:]]
    results = await asyncio.gather(*map(export, exporters, orders))
    assert set(results) == {SpanExportResult.SUCCESS}
    assert len(await stored_traces(process)) == 30
    async with process.database.read() as session:
        counts = (await session.scalars(select(TraceHour.trace_count))).all()
    assert sum(counts) == 30


async def test_another_workspace_s_span_of_the_same_ids_is_another_trace(
    base_url: str, tenant: Tenant, process: Process
) -> None:
    spans = make_spans()
    for each in (tenant, await make_tenant(process)):
        assert await export(exporter_of(base_url, each), spans) is SpanExportResult.SUCCESS
    assert len({trace.workspace_id for trace in await stored_traces(process)}) == 2


async def test_the_span_s_own_leaderboard_counts_before_the_resource_s_and_the_header_s(
    client: httpx2.AsyncClient, tenant: Tenant, process: Process
) -> None:
    first, second, third = [
        await make_leaderboard(process, tenant.workspace_id, slug=slug) for slug in "abc"
    ]
    own = {"drgero.leaderboard_id": str(first.id).upper()}
    requests = [
        make_spans(resource={"drgero.leaderboard_id": "b"}, attributes=own),
        make_spans(resource={"drgero.leaderboard_id": "b"}),
        make_spans(),
    ]
    for spans in requests:
        headers = PROTOBUF | {"X-Dr.Gero-Leaderboard-Id": str(third.id)}
        answer = await client.post(PATH, content=encoded(spans), headers=headers)
        assert (answer.status_code, answer.content) == (200, b"")
    traces = await stored_traces(process)
    assert {trace.leaderboard_id for trace in traces} == {first.id, second.id, third.id}


def encode_in(encoding: str, spans: Sequence[ReadableSpan]) -> bytes:
    body = encoded(spans)
    return as_json(body) if "json" in encoding else body


def decode_answer(answer: httpx2.Response) -> Any:
    """Return an answer's ExportTraceServiceResponse, as JSON."""
    if answer.headers["content-type"] == JSON["Content-Type"]:
        return answer.json()
    assert answer.headers["content-type"] == PROTOBUF["Content-Type"]
    return MessageToDict(ExportTraceServiceResponse.FromString(answer.content))


@pytest.mark.parametrize("encoding", [JSON, PROTOBUF], ids=["json", "protobuf"])
async def test_what_can_t_be_taken_is_rejected_by_itself_with_the_reason(
    client: httpx2.AsyncClient, process: Process, encoding: dict[str, str]
) -> None:
    other = await make_tenant(process)
    strange = await make_leaderboard(process, other.workspace_id, slug="theirs")
    now = time.time_ns()
    bad = [
        *make_spans(attributes={"drgero.leaderboard_id": str(strange.id)}),
        *make_spans(attributes={"drgero.leaderboard_id": "theirs"}),
        *make_spans(started_ns=now - 91 * DAY_NS),
        *make_spans(started_ns=now + 6 * 60 * 10**9),
    ]
    good = [*make_spans(started_ns=now - 89 * DAY_NS), *make_spans(started_ns=now + 60 * 10**9)]
    content = encode_in(encoding["Content-Type"], [*bad, *good])
    answer = await client.post(PATH, content=content, headers=encoding)
    assert answer.status_code == 200
    told = decode_answer(answer)["partialSuccess"]
    assert told["rejectedSpans"] == "4"
    ids = [f"span {span.context.span_id:016x}: " for span in bad]
    reasons = told["errorMessage"].split("; ")
    assert all(each.startswith(began) for each, began in zip(reasons, ids, strict=True))
    assert reasons[0].endswith(f"the workspace has no leaderboard '{strange.id}'")
    assert reasons[1].endswith("drgero.leaderboard_id: the workspace has no leaderboard 'theirs'")
    assert "startTimeUnixNano: " in reasons[2]
    assert reasons[2].endswith("is longer ago than the 90 days that are kept")
    assert reasons[3].endswith("is more than 5 minutes in the future")
    traces = await stored_traces(process)
    assert {trace.trace_metadata["otel.span_id"] for trace in traces} == {
        f"{span.context.span_id:016x}" for span in good
    }


LONG = random.Random(1).randbytes(2_000).hex()  # which no compression makes fit into an index


@pytest.mark.parametrize(
    "attributes",
    [
        {"gen_ai.request.model": LONG},
        {"gen_ai.provider.name": LONG},
        {"gen_ai.request.model": "模" * 200, "gen_ai.provider.name": "型" * 200},
        {"gen_ai.request.model": "a\x00b", "a\x00b": "c\x00d"},
        {"error.type": LONG},
        {LONG: LONG, "shop.orders": [LONG] * 100},
        {"gen_ai.usage.cost": "1e-999999"},
        {"gen_ai.usage.cost": "0e999999999"},
        {"gen_ai.usage.cost": 5e-324, "gen_ai.usage.input_tokens": 1e308},
        {"shop.total": float("nan"), "shop.count": 2**63 - 1},
        {"gen_ai.input.messages": '[{"role": "user", "content": "\\u0000"}]'},
        {"gen_ai.prompt.0.content": "[" * 40_000},
    ],
    ids=range(12),
)
@pytest.mark.parametrize("encoding", [JSON, PROTOBUF], ids=["json", "protobuf"])
async def test_a_span_of_extreme_values_is_stored_with_those_beside_it(
    client: httpx2.AsyncClient,
    process: Process,
    attributes: dict[str, Any],
    encoding: dict[str, str],
) -> None:
    spans = [*make_spans(attributes=attributes), *make_spans()]
    content = encode_in(encoding["Content-Type"], spans)
    answer = await client.post(PATH, content=content, headers=encoding)
    assert (answer.status_code, decode_answer(answer)) == (200, {})
    assert len(await stored_traces(process)) == 2


async def test_a_name_that_is_too_long_is_metadata_and_a_leaderboard_s_is_rejected(
    client: httpx2.AsyncClient, process: Process
) -> None:
    spans = [
        *make_spans(attributes={"gen_ai.request.model": LONG, "gen_ai.response.model": "gpt-4o"}),
        *make_spans(attributes={"drgero.leaderboard_id": LONG}),
    ]
    answer = await client.post(PATH, content=encoded(spans), headers=PROTOBUF)
    assert decode_answer(answer)["partialSuccess"]["rejectedSpans"] == "1"
    (trace,) = await stored_traces(process)
    assert (trace.model, trace.trace_metadata["gen_ai.request.model"]) == ("gpt-4o", LONG)


@pytest.mark.parametrize("setting_overrides", [{"otlp_max_spans": 3}])
async def test_spans_beyond_the_most_are_rejected_and_spans_of_other_things_are_skipped(
    client: httpx2.AsyncClient, process: Process
) -> None:
    spans = [
        *make_spans(2),
        *make_spans(attributes={"gen_ai.operation.name": "embeddings"}),
        *make_spans(2),
    ]
    answer = await client.post(PATH, content=encoded(spans), headers=PROTOBUF)
    assert decode_answer(answer) == {
        "partialSuccess": {
            "rejectedSpans": "2",
            "errorMessage": "a request may have 3 spans; send smaller batches",
        }
    }
    assert len(await stored_traces(process)) == 2


def read_status(answer: httpx2.Response) -> Status:
    """Return the google.rpc.Status of a failure, told in protobuf."""
    assert answer.headers["content-type"] == PROTOBUF["Content-Type"]
    return Status.FromString(answer.content)


async def test_failures_are_statuses_in_the_request_s_encoding(
    client: httpx2.AsyncClient, anonymous: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    body = encoded(make_spans())
    malformed = await client.post(
        PATH, json={"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "zz"}]}]}]}
    )
    assert malformed.status_code == 400
    field = "resourceSpans[0].scopeSpans[0].spans[0].traceId"
    message = "must be hexadecimal digits, two for each byte"
    assert malformed.json() == {
        "code": 3,
        "message": f"{field}: {message}",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.BadRequest",
                "fieldViolations": [{"field": field, "description": f"{field}: {message}"}],
            }
        ],
    }
    garbled = read_status(await client.post(PATH, content=b"\xff" * 9, headers=PROTOBUF))
    violations = BadRequest()
    assert garbled.code == 3
    assert garbled.details[0].Unpack(violations)
    unknown = await anonymous.post(PATH, content=body, headers=PROTOBUF)
    assert (unknown.status_code, read_status(unknown).code) == (401, 16)
    assert unknown.headers["www-authenticate"] == "Bearer"
    reader = await make_token(process, tenant.workspace_id, scopes=["leaderboards:read"])
    refused = await anonymous.post(
        PATH, content=body, headers=PROTOBUF | {"Authorization": f"Bearer {reader}"}
    )
    assert (refused.status_code, read_status(refused).code) == (403, 7)
    for headers in ({"Content-Type": "text/plain"}, JSON | {"Content-Encoding": "br"}):
        other = await client.post(PATH, content=body, headers=headers)
        assert (other.status_code, other.json()["code"]) == (415, 3)
    assert await stored_traces(process) == []


@pytest.mark.parametrize("setting_overrides", [{"otlp_max_bytes": 20_000}])
async def test_a_body_is_bounded_as_it_is_sent_and_once_it_is_inflated(
    client: httpx2.AsyncClient, process: Process
) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    for content, headers in (
        (bytes(20_001), PROTOBUF),
        (bomb, PROTOBUF | {"Content-Encoding": "gzip"}),
        (zlib.compress(bytes(20_001)), PROTOBUF | {"Content-Encoding": "deflate"}),
        (bytes(6 * 1024 * 1024), PROTOBUF),
    ):
        answer = await client.post(PATH, content=content, headers=headers)
        assert (answer.status_code, read_status(answer).code) == (413, 3)
    cut = gzip.compress(encoded(make_spans()))[:-9]
    headers = PROTOBUF | {"Content-Encoding": "gzip"}
    answer = await client.post(PATH, content=cut, headers=headers)
    assert answer.status_code == 400
    assert read_status(answer).message == "the body is gzip that is cut off"
    assert await stored_traces(process) == []


@contextmanager
def full(process: Process) -> Iterator[None]:
    """Take every place for requests."""
    admission = process.services.span_room.admission
    for _ in range(MAX_REQUESTS):
        admission.enter()
    with pytest.raises(UnavailableError):
        admission.enter()
    try:
        yield
    finally:
        for _ in range(MAX_REQUESTS):
            admission.leave()


async def test_the_sdk_sends_again_what_there_was_no_room_for(
    base_url: str, tenant: Tenant, client: httpx2.AsyncClient, process: Process
) -> None:
    spans = make_spans(3)
    with full(process):
        answer = await client.post(PATH, content=encoded(spans), headers=PROTOBUF)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert read_status(answer).code == 14
        exporting = asyncio.create_task(export(exporter_of(base_url, tenant), spans))
        await asyncio.sleep(0.2)  # refused, and waiting to try again
        assert not exporting.done()
    assert await exporting is SpanExportResult.SUCCESS
    assert len(await stored_traces(process)) == 3


async def test_a_reported_call_is_read_by_graphql(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    attributes = {
        "drgero.leaderboard_id": str(board.id),
        "gen_ai.usage.cost": "0.0125",
        "error.type": "timeout",
    }
    answer = await client.post(
        PATH, content=encoded(make_spans(attributes=attributes)), headers=PROTOBUF
    )
    assert answer.status_code == 200
    query = """query ($id: ID!) { leaderboard(id: $id) { traces { nodes {
      source status error model costUsd costSource candidate { id } } } } }"""
    answered = await ask(client, query, id=str(board.id))
    assert answered["data"]["leaderboard"]["traces"]["nodes"] == [
        {
            "source": "MANUAL", "status": "ERROR", "error": "timeout", "model": "gpt-4o",
            "costUsd": "0.0125", "costSource": None, "candidate": None,
        }
    ]  # fmt: skip


async def test_a_full_request_is_stored_while_others_are_answered(
    client: httpx2.AsyncClient, process: Process
) -> None:
    (span,) = make_spans()
    told = json.loads(as_json(encoded([span])))
    (one,) = told["resourceSpans"][0]["scopeSpans"][0]["spans"]
    spans = [one | {"spanId": uuid4().hex[:16]} for _ in range(3_000)]
    told["resourceSpans"][0]["scopeSpans"][0]["spans"] = spans
    content = gzip.compress(json.dumps(told).encode())
    headers = JSON | {"Content-Encoding": "gzip"}
    sending = asyncio.create_task(client.post(PATH, content=content, headers=headers))
    beats = 0
    while not sending.done():
        assert (await client.get("/healthz")).status_code == 200
        beats += 1
    assert (sending.result().status_code, sending.result().json()) == (200, {})
    assert beats > 3
    assert len(await stored_traces(process)) == 3_000
