"""Trace requests as real clients make them: spans of the SDK, in both encodings."""

import base64
import json
from collections.abc import Callable
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Span

STARTED_NS = 1_795_680_000_123_456_789  # 2026-11-26T08:00:00.123456789Z


def request_of(*write: Callable[[Span], None], resource: dict[str, Any] | None = None) -> bytes:
    """Have the SDK make a span of 1,500 ms for each function, which writes to it; as protobuf."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource(resource or {"service.name": "shop"}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("instrumentation.openai", "2.1")
    for each in write:
        span = tracer.start_span("chat gpt-4o", start_time=STARTED_NS)
        each(span)
        span.end(end_time=STARTED_NS + 1_500_000_000)
    return encode_spans(exporter.get_finished_spans()).SerializeToString()


def as_json(protobuf: bytes) -> bytes:
    """Return the same request in OTLP's JSON: ids in hexadecimal, enums as integers."""
    request = ExportTraceServiceRequest.FromString(protobuf)
    told = MessageToDict(request, use_integers_for_enums=True)

    def with_hex_ids(value: Any) -> Any:
        if isinstance(value, list):
            return [with_hex_ids(part) for part in value]
        if not isinstance(value, dict):
            return value
        return {
            name: base64.b64decode(part).hex()
            if name in {"traceId", "spanId", "parentSpanId"}
            else with_hex_ids(part)
            for name, part in value.items()
        }

    return json.dumps(with_hex_ids(told)).encode()
