"""Spans of what a process does, sent to an OpenTelemetry collector.

This is the one module that knows OpenTelemetry's SDK; it is loaded where a collector is set.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai
from opentelemetry.semconv.attributes import (
    db_attributes,
    error_attributes,
    http_attributes,
    service_attributes,
    url_attributes,
)
from opentelemetry.trace import (
    Span,
    SpanKind,
    StatusCode,
    format_trace_id,
    get_current_span,
    use_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import Scope

from app.logs import current_otel_trace_id
from app.version import VERSION
from providers.base import ChatAnswer, ChatTarget, ProviderError
from resolvers.meters import JobAttempt, JobOutcome

TRACES_PATH: Final = "/v1/traces"
NANOSECONDS: Final = 1_000_000_000
# How long the end of the process waits for spans to be sent.
CLOSE_SECONDS: Final = 3.0
SERVER_ERROR: Final = 500
PROPAGATED: Final = ("traceparent", "tracestate")
KNOWN_METHODS: Final = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY"}
)


class RequestSpan:
    """The span of a request.

    Attributes:
        trace_id: In hexadecimal, as logs and collectors write it.
    """

    def __init__(self, span: Span, method: str) -> None:
        self._span = span
        self._method = method
        self.trace_id = format_trace_id(span.get_span_context().trace_id)

    def end(self, route: str, status: int) -> None:
        """Say how the request ended."""
        self._span.update_name(f"{self._method} {route}")
        self._span.set_attribute(http_attributes.HTTP_ROUTE, route)
        self._span.set_attribute(http_attributes.HTTP_RESPONSE_STATUS_CODE, status)
        if status >= SERVER_ERROR:
            self._span.set_attribute(error_attributes.ERROR_TYPE, str(status))
            self._span.set_status(StatusCode.ERROR)


class Tracing:
    """Makes spans, and sends them in the background; what can't be sent in time is dropped.

    Sampling, headers, and the sizes of queue and batch are OpenTelemetry's own variables, such as
    OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS and OTEL_BSP_MAX_QUEUE_SIZE.

    Source: https://opentelemetry.io/docs/specs/semconv/ for HTTP, databases and generative AI.

    Args:
        endpoint: The collector's base URL.
        service_name: What the spans' service is called.
    """

    def __init__(self, endpoint: str, service_name: str) -> None:
        resource = Resource.create(
            {
                service_attributes.SERVICE_NAME: service_name,
                service_attributes.SERVICE_VERSION: VERSION,
            }
        )
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=f"{endpoint}{TRACES_PATH}")
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("gero", VERSION)
        self._propagator = TraceContextTextMapPropagator()

    def close(self) -> None:
        """Send what is left, for a bounded time: nobody waits for a collector that is away."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)

    @contextmanager
    def request(self, scope: Scope, headers: Mapping[bytes, bytes]) -> Iterator[RequestSpan]:
        """Trace a request while the block runs, as a part of its client's trace if it names one."""
        carrier = {
            name: value.decode("latin-1")
            for name in PROPAGATED
            if (value := headers.get(name.encode())) is not None
        }
        method = scope["method"] if scope["method"] in KNOWN_METHODS else "_OTHER"
        attributes = {
            http_attributes.HTTP_REQUEST_METHOD: method,
            url_attributes.URL_SCHEME: scope["scheme"],
            url_attributes.URL_PATH: scope["raw_path"].decode("ascii", errors="backslashreplace"),
            "gero.request_id": scope["request_id"],
        }
        span = self._tracer.start_span(
            method,
            context=self._propagator.extract(carrier),
            kind=SpanKind.SERVER,
            attributes=attributes,
        )
        with _current(span):
            yield RequestSpan(span, method)

    @contextmanager
    def job(self, kind: str, attempt: JobAttempt) -> Iterator[None]:
        """Trace an attempt at a job while the block runs."""
        span = self._tracer.start_span(
            f"job {kind}", kind=SpanKind.CONSUMER, attributes={"gero.job.kind": kind}
        )
        trace_id = format_trace_id(span.get_span_context().trace_id)
        before = current_otel_trace_id.set(trace_id)
        with _current(span):
            try:
                yield
            finally:
                current_otel_trace_id.reset(before)
                span.set_attribute("gero.job.outcome", attempt.outcome)
                if attempt.outcome is not JobOutcome.SUCCEEDED:
                    span.set_status(StatusCode.ERROR)

    def note_call(
        self,
        target: ChatTarget,
        answer: ChatAnswer | None,
        error: ProviderError | None,
        seconds: float,
    ) -> None:
        """Leave the span of a model call that has just ended; never what was said in it."""
        if not get_current_span().is_recording():
            return
        attributes: dict[str, Any] = {
            gen_ai.GEN_AI_OPERATION_NAME: "chat",
            gen_ai.GEN_AI_PROVIDER_NAME: target.provider,
        }
        if target.model_id is not None:
            attributes[gen_ai.GEN_AI_REQUEST_MODEL] = target.model_id
        if answer is not None and answer.prompt_tokens is not None:
            attributes[gen_ai.GEN_AI_USAGE_INPUT_TOKENS] = answer.prompt_tokens
        if answer is not None and answer.completion_tokens is not None:
            attributes[gen_ai.GEN_AI_USAGE_OUTPUT_TOKENS] = answer.completion_tokens
        name = f"chat {target.model_id}" if target.model_id else "chat"
        self._leave(name, attributes, seconds, error=None if error is None else error.code)

    def note_statement(self, operation: str, seconds: float) -> None:
        """Leave the span of a statement that has just been answered."""
        if get_current_span().is_recording():
            attributes = {
                db_attributes.DB_SYSTEM_NAME: "postgresql",
                db_attributes.DB_OPERATION_NAME: operation,
            }
            self._leave(operation, attributes, seconds)

    def _leave(
        self, name: str, attributes: Mapping[str, Any], seconds: float, error: str | None = None
    ) -> None:
        """Leave the span of something that the present request or job has just done."""
        end_ns = time.time_ns()
        span = self._tracer.start_span(
            name,
            kind=SpanKind.CLIENT,
            attributes=attributes,
            start_time=end_ns - int(seconds * NANOSECONDS),
        )
        if error is not None:
            span.set_attribute(error_attributes.ERROR_TYPE, error)
            span.set_status(StatusCode.ERROR)
        span.end(end_ns)


@contextmanager
def _current(span: Span) -> Iterator[None]:
    """Have *span* be what is done at present; an exception is told by its type alone."""
    with use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield
        except BaseException as error:
            span.set_attribute(error_attributes.ERROR_TYPE, type(error).__name__)
            span.set_status(StatusCode.ERROR)
            raise
