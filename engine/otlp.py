"""Model calls that clients report over OTLP: from spans to what a trace keeps of them."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar
from uuid import UUID

from engine.otlp_messages import Message, is_content, read_conversation
from engine.otlp_spans import WireRequest, WireSpan
from engine.trace_ids import derive_trace_id

MAX_NAME_CHARACTERS = 200
"""Of a model or a provider: indexes hold no more than some 2,700 bytes."""
LEADERBOARD = "drgero.leaderboard_id"
"""The attribute, of a span or of its resource, that says to which leaderboard a call belongs."""

_PROVIDERS = ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system")
_MODELS = (
    "gen_ai.request.model",
    "gen_ai.response.model",
    "llm.request.model_name",
    "llm.model_name",
    "llm.response.model_name",
)
_PROMPT_TOKENS = (
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.prompt_tokens",
    "llm.token_count.prompt",
)
_COMPLETION_TOKENS = (
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.completion_tokens",
    "llm.token_count.completion",
)
_COSTS = ("gen_ai.usage.cost", "gen_ai.usage.cost_usd", "gen_ai.usage.total_cost", "llm.cost.total")
_OPERATIONS = frozenset({"chat", "text_completion", "generate_content", "completion"})
_REQUEST_TYPES = frozenset({"chat", "completion"})
_STATUS_OK, _STATUS_ERROR = 1, 2
_TRACE_ID_BYTES, _SPAN_ID_BYTES = 16, 8
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_END_OF_TIME_NS = 253_402_300_800 * 10**9  # the year 10000, which datetime doesn't have
_MAX_TOKENS = 2**31 - 1
_MAX_COST_USD = Decimal(1_000_000)
_MAX_COST_CHARACTERS = 40
_MAX_REASONS = 5

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class SpanTrace:
    """One model call, as a client reported it.

    Attributes:
        trace_id: 32 hexadecimal digits.
        span_id: 16 hexadecimal digits.
        error: What went wrong; None when nothing did.
        model: By the name that it was asked for by, if that is known.
        messages: What the model was sent, in the OpenAI form, if it was messages.
        leaderboard: To which leaderboard the client says that it belongs.
        metadata: All else of the span that is a scalar or a list of scalars, by the name of its
            attribute.
    """

    trace_id: str
    span_id: str
    started_at: datetime
    latency_ms: float
    error: str | None
    provider: str | None
    model: str | None
    input: str | None
    messages: list[Message] | None
    output: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_usd: Decimal | None
    leaderboard: str | None
    metadata: dict[str, Any]

    @property
    def status(self) -> str:
        """`ok` or `error`."""
        return "ok" if self.error is None else "error"


@dataclass(frozen=True, slots=True)
class ReadSpans:
    """What became of the spans of a request.

    Attributes:
        traces: Those that are model calls.
        skipped_count: How many are not.
        rejected_count: How many are, or may be, and can't be taken.
        message: Why those can't; empty when there are none.
    """

    traces: tuple[SpanTrace, ...]
    skipped_count: int
    rejected_count: int
    message: str


def read_spans(request: WireRequest) -> ReadSpans:
    """Make traces of the spans that are model calls.

    Args:
        request: As it was decoded. Spans that were left out of it count as rejected.
    """
    traces: list[SpanTrace] = []
    skipped_count = 0
    reasons: list[str] = []
    for place, span in enumerate(request.spans):
        if not is_model_call(span.attributes):
            skipped_count += 1
        elif reason := _find_fault(span):
            reasons.append(f"span {place} ({span.name[:100]!r}): {reason}")
        else:
            traces.append(_trace_of(span))
    rejected_count = len(reasons) + request.left_out_count
    del reasons[_MAX_REASONS:]
    if request.left_out_count:
        reasons.append(f"a request may have {len(request.spans)} spans; send smaller batches")
    return ReadSpans(tuple(traces), skipped_count, rejected_count, "; ".join(reasons))


def is_model_call(attributes: Mapping[str, Any]) -> bool:
    """Tell whether a span is one call of a model that generates text.

    Calls of tools, agents, retrievers and embedding models are none, and neither are the spans of
    workflows around calls.

    Source: `gen_ai.operation.name` of OpenTelemetry's Semantic Conventions for GenAI;
    `openinference.span.kind` of OpenInference; `traceloop.span.kind` and `llm.request.type` of
    OpenLLMetry. Clients from before these name a model and nothing else.
    """
    if (operation := attributes.get("gen_ai.operation.name")) is not None:
        return _name(operation) in _OPERATIONS
    if (kind := attributes.get("openinference.span.kind")) is not None:
        return bool(kind == "LLM")
    if (request_type := attributes.get("llm.request.type")) is not None:
        return _name(request_type) in _REQUEST_TYPES
    if "traceloop.span.kind" in attributes:
        return False
    return any(name in attributes for name in _MODELS)


def trace_uuid(workspace_id: UUID, trace_id: str, span_id: str, started_at: datetime) -> UUID:
    """Return the id of a reported call, which is the same whenever it is reported.

    Args:
        workspace_id: Whose it is: another workspace's span of the same ids is another call.
        trace_id: As in `SpanTrace`.
        span_id: As in `SpanTrace`.
        started_at: When the span began, so that ids sort by it.
    """
    content = workspace_id.bytes + bytes.fromhex(trace_id) + bytes.fromhex(span_id)
    return derive_trace_id(b"otlp span id", content, started_at)


def _find_fault(span: WireSpan) -> str | None:
    """Return why a span can't be taken.

    Source: OpenTelemetry, trace.proto: ids of 16 and 8 bytes, not all zero; both times are
    expected, the end not before the start.
    """
    if len(span.trace_id) != _TRACE_ID_BYTES or not any(span.trace_id):
        return f"traceId must be {_TRACE_ID_BYTES} bytes that are not all zero"
    if len(span.span_id) != _SPAN_ID_BYTES or not any(span.span_id):
        return f"spanId must be {_SPAN_ID_BYTES} bytes that are not all zero"
    if not 0 < span.start_ns < _END_OF_TIME_NS:
        return f"startTimeUnixNano must be nanoseconds since 1970 (got {span.start_ns})"
    if not span.start_ns <= span.end_ns < _END_OF_TIME_NS:
        return f"endTimeUnixNano must not be before the start (got {span.end_ns})"
    return None


def _trace_of(span: WireSpan) -> SpanTrace:
    conversation = read_conversation(span.attributes, span.events)
    rest = {name: value for name, value in span.attributes.items() if not is_content(name)}
    leaderboard = _take(rest, (LEADERBOARD,), _name) or _name(span.resource.get(LEADERBOARD))
    return SpanTrace(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        started_at=_EPOCH + timedelta(microseconds=span.start_ns // 1_000),
        latency_ms=(span.end_ns - span.start_ns) / 1e6,
        error=_error_of(span, rest),
        provider=_take(rest, _PROVIDERS, _short_name),
        model=_take(rest, _MODELS, _short_name),
        input=conversation.input,
        messages=conversation.messages,
        output=conversation.output,
        prompt_tokens=_take(rest, _PROMPT_TOKENS, _token_count),
        completion_tokens=_take(rest, _COMPLETION_TOKENS, _token_count),
        cost_usd=_take(rest, _COSTS, _cost),
        leaderboard=leaderboard,
        metadata=_metadata_of(span, rest, conversation.answers),
    )


def _take(
    attributes: dict[str, Any], names: Iterable[str], read: Callable[[Any], Value | None]
) -> Value | None:
    """Remove the first of some attributes that *read* makes something of, and return that."""
    for name in names:
        value = read(attributes.get(name))
        if value is not None:
            del attributes[name]
            return value
    return None


def _name(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _short_name(value: Any) -> str | None:
    """Return a name that can be indexed; what is longer stays an attribute as others are."""
    name = _name(value)
    return name if name is not None and len(name) <= MAX_NAME_CHARACTERS else None


def _token_count(value: Any) -> int | None:
    is_count = isinstance(value, int | float) and not isinstance(value, bool)
    return int(value) if is_count and 0 <= value <= _MAX_TOKENS else None


def _cost(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        cost = Decimal(str(value)[:_MAX_COST_CHARACTERS])
    except InvalidOperation:
        return None
    return cost if cost.is_finite() and 0 <= cost <= _MAX_COST_USD else None


def _error_of(span: WireSpan, attributes: Mapping[str, Any]) -> str | None:
    """Say what went wrong.

    Source: OpenTelemetry, Semantic Conventions, Recording errors: the status is an error and
    describes it, `error.type` names it, and an `exception` event may tell more.
    """
    kind = _name(attributes.get("error.type"))
    if span.status_code != _STATUS_ERROR and (kind is None or span.status_code == _STATUS_OK):
        return None
    told = (
        of_event.get("exception.message") for name, of_event in span.events if name == "exception"
    )
    message = span.status_message or next(filter(None, map(_name, told)), None)
    return ": ".join(filter(None, (kind, message))) or "error"


def _metadata_of(
    span: WireSpan, attributes: Mapping[str, Any], answers: list[Message] | None
) -> dict[str, Any]:
    metadata = {name: _scalar(value) for name, value in attributes.items() if _is_kept(value)}
    own = {
        "service.name": span.resource.get("service.name"),
        "otel.span.name": span.name,
        "otel.parent_span_id": span.parent_span_id.hex(),
        "otel.scope.name": span.scope_name,
        "otel.scope.version": span.scope_version,
        "gen_ai.output.messages": answers,
    }
    return metadata | {name: value for name, value in own.items() if value}


def _is_kept(value: Any) -> bool:
    if isinstance(value, list):
        return not any(isinstance(part, list | dict) for part in value)
    return value is not None and not isinstance(value, dict)


def _scalar(value: Any) -> Any:
    if isinstance(value, list):
        return [_scalar(part) for part in value]
    is_json = not isinstance(value, float) or math.isfinite(value)
    return value if is_json else str(value)
