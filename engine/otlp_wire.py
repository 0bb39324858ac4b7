"""OTLP on the wire: trace requests and their answers, as protobuf and as JSON."""

import base64
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

import orjson
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError, Message
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

MAX_VALUE_DEPTH = 32
"""Arrays and lists of keys that a value may be inside of; protobuf itself allows some 45."""

_INTEGER = re.compile(r"-?[0-9]{1,20}")
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2})*")
_BASE64_OF_URLS = str.maketrans("-_", "+/")
_INT64, _UINT64, _INT32 = (-(2**63), 2**63), (0, 2**64), (-(2**31), 2**31)
_CODES = {
    400: Code.INVALID_ARGUMENT,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    413: Code.INVALID_ARGUMENT,
    429: Code.RESOURCE_EXHAUSTED,
    503: Code.UNAVAILABLE,
}


class OtlpEncoding(StrEnum):
    """How a request is encoded, and then its answer too; by its media type."""

    PROTOBUF = "application/x-protobuf"
    JSON = "application/json"


class OtlpError(ValueError):
    """A body that is no trace request.

    Attributes:
        field: Where it is wrong, in the names of the JSON encoding; empty for all of it.
        reason: What is wrong.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.reason = reason

    def inside(self, outer: str) -> "OtlpError":
        """Return the same error, of a field of *outer*."""
        return OtlpError(f"{outer}.{self.field}" if self.field else outer, self.reason)


@dataclass(frozen=True, slots=True)
class WireSpan:
    """One span as it was sent.

    Attributes:
        attributes: Strings, booleans, numbers, None, and lists and dicts of them; bytes are
            base64 text.
        events: Their names and attributes, in order.
        resource: The attributes of what made the span.
    """

    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes
    name: str
    start_ns: int
    end_ns: int
    status_code: int
    status_message: str
    attributes: Mapping[str, Any]
    events: tuple[tuple[str, Mapping[str, Any]], ...]
    resource: Mapping[str, Any]
    scope_name: str
    scope_version: str


@dataclass(frozen=True, slots=True)
class WireRequest:
    """The spans of a request.

    Attributes:
        left_out_count: How many there were beyond those that are taken.
    """

    spans: tuple[WireSpan, ...]
    left_out_count: int


def decode_request(body: bytes, encoding: OtlpEncoding, *, max_spans: int) -> WireRequest:
    """Read the body of a trace request.

    Args:
        body: As it was sent, decompressed.
        encoding: By its content type.
        max_spans: How many are read; the others are counted.

    Raises:
        OtlpError: It can't be read. Nothing else is raised, whatever the body is.

    Source: OpenTelemetry Protocol Specification, OTLP/HTTP: ids are hexadecimal in JSON, enums
    are integers, 64-bit integers may be strings, names are in lowerCamelCase, unknown ones are
    ignored.
    """
    read = _iterate_json if encoding is OtlpEncoding.JSON else _iterate_protobuf
    spans: list[WireSpan] = []
    count = 0
    for make_span in read(body):
        count += 1
        if count <= max_spans:
            spans.append(make_span())
    return WireRequest(tuple(spans), count - len(spans))


def encode_answer(encoding: OtlpEncoding, *, rejected_count: int = 0, message: str = "") -> bytes:
    """Return the body of an answer with status 200.

    Args:
        encoding: That of the request.
        rejected_count: How many spans were not taken.
        message: Why; or, if all were taken, a warning. Both are left out when there is neither.

    Source: OpenTelemetry Protocol Specification, Full Success and Partial Success.
    """
    answer = ExportTraceServiceResponse()
    if rejected_count or message:
        answer.partial_success.rejected_spans = rejected_count
        answer.partial_success.error_message = message
    return _encode(answer, encoding)


def encode_failure(
    encoding: OtlpEncoding, status: int, message: str, *, field: str | None = None
) -> bytes:
    """Return the body of an answer with a status of 400 or more.

    Args:
        encoding: That of the request.
        status: Of HTTP. Clients try again after 429, 502, 503 and 504, and when `Retry-After`
            says so.
        message: For a developer.
        field: What of the request is wrong, if that is why.

    Source: OpenTelemetry Protocol Specification, Failures: a google.rpc.Status, for bad data
    with a google.rpc.BadRequest in its details.
    """
    failure = Status(code=_CODES.get(status, Code.INTERNAL), message=message)
    if field is not None:
        violation = BadRequest.FieldViolation(field=field, description=message)
        failure.details.add().Pack(BadRequest(field_violations=[violation]))
    return _encode(failure, encoding)


def _encode(message: Message, encoding: OtlpEncoding) -> bytes:
    if encoding is OtlpEncoding.JSON:
        return orjson.dumps(MessageToDict(message))
    return message.SerializeToString()


def _iterate_protobuf(body: bytes) -> Iterator[Callable[[], WireSpan]]:
    try:
        request = ExportTraceServiceRequest.FromString(body)
    except DecodeError as error:
        raise OtlpError("", f"the body is no ExportTraceServiceRequest: {error}") from error
    for from_resource in request.resource_spans:
        resource = _attributes_of(from_resource.resource.attributes)
        for from_scope in from_resource.scope_spans:
            scope = from_scope.scope.name, from_scope.scope.version
            for span in from_scope.spans:
                yield partial(_span_of, span, resource, *scope)


def _span_of(span: Span, resource: dict[str, Any], scope_name: str, version: str) -> WireSpan:
    return WireSpan(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent_span_id,
        name=_storable(span.name),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        status_code=span.status.code,
        status_message=_storable(span.status.message),
        attributes=_attributes_of(span.attributes),
        events=tuple((event.name, _attributes_of(event.attributes)) for event in span.events),
        resource=resource,
        scope_name=_storable(scope_name),
        scope_version=_storable(version),
    )


def _attributes_of(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    return {_storable(pair.key): _value_of(pair.value, 0) for pair in pairs}


def _value_of(value: AnyValue, depth: int) -> Any:
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return _storable(value.string_value)
    if kind == "array_value":
        _check_depth(depth)
        return [_value_of(part, depth + 1) for part in value.array_value.values]
    if kind == "kvlist_value":
        _check_depth(depth)
        pairs = value.kvlist_value.values
        return {_storable(pair.key): _value_of(pair.value, depth + 1) for pair in pairs}
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    return None if kind is None else getattr(value, kind)


def _iterate_json(body: bytes) -> Iterator[Callable[[], WireSpan]]:
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise OtlpError("", f"the body is not JSON: {error}") from error
    if not isinstance(request, dict):
        raise OtlpError("", "the body must be an object")
    for place, from_resource in _objects(request, "resourceSpans"):
        with _inside(place):
            resource = _read_attributes(_object(from_resource, "resource"))
            scopes = list(_objects(from_resource, "scopeSpans"))
        for inner_place, from_scope in scopes:
            with _inside(f"{place}.{inner_place}"):
                scope = _object(from_scope, "scope")
                names = _string(scope, "name"), _string(scope, "version")
                spans = list(_objects(from_scope, "spans"))
            for span_place, span in spans:
                where = f"{place}.{inner_place}.{span_place}"
                yield partial(_read_span, where, span, resource, *names)


@contextmanager
def _inside(place: str) -> Iterator[None]:
    try:
        yield
    except OtlpError as error:
        raise error.inside(place) from error


def _read_span(
    where: str, span: Mapping[str, Any], resource: dict[str, Any], scope_name: str, version: str
) -> WireSpan:
    with _inside(where):
        status = _object(span, "status")
        return WireSpan(
            trace_id=_hex(span, "traceId"),
            span_id=_hex(span, "spanId"),
            parent_span_id=_hex(span, "parentSpanId"),
            name=_string(span, "name"),
            start_ns=_integer(span, "startTimeUnixNano", *_UINT64),
            end_ns=_integer(span, "endTimeUnixNano", *_UINT64),
            status_code=_integer(status, "code", *_INT32),
            status_message=_string(status, "message"),
            attributes=_read_attributes(span),
            events=tuple(
                (_string(event, "name"), _read_attributes(event))
                for _, event in _objects(span, "events")
            ),
            resource=resource,
            scope_name=scope_name,
            scope_version=version,
        )


def _read_attributes(holder: Mapping[str, Any]) -> dict[str, Any]:
    return {
        _string(pair, "key"): _read_value(_object(pair, "value"), 0)
        for _, pair in _objects(holder, "attributes")
    }


def _read_value(value: Mapping[str, Any], depth: int) -> Any:
    if value.get("stringValue") is not None:
        return _string(value, "stringValue")
    if value.get("boolValue") is not None:
        return _boolean(value, "boolValue")
    if value.get("intValue") is not None:
        return _integer(value, "intValue", *_INT64)
    if value.get("doubleValue") is not None:
        return _double(value, "doubleValue")
    if value.get("arrayValue") is not None:
        _check_depth(depth)
        parts = _objects(_object(value, "arrayValue"), "values")
        return [_read_value(part, depth + 1) for _, part in parts]
    if value.get("kvlistValue") is not None:
        _check_depth(depth)
        pairs = _objects(_object(value, "kvlistValue"), "values")
        return {
            _string(pair, "key"): _read_value(_object(pair, "value"), depth + 1)
            for _, pair in pairs
        }
    if value.get("bytesValue") is not None:
        return _base64(value, "bytesValue")
    return None


def _check_depth(depth: int) -> None:
    if depth >= MAX_VALUE_DEPTH:
        raise OtlpError("attributes", f"a value is nested more than {MAX_VALUE_DEPTH} deep")


def _object(holder: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = holder.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise OtlpError(name, "must be an object")
    return value


def _objects(holder: Mapping[str, Any], name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the objects of an array, each with where it is."""
    values = holder.get(name)
    if values is None:
        return
    if not isinstance(values, list):
        raise OtlpError(name, "must be an array")
    for place, value in enumerate(values):
        if not isinstance(value, dict):
            raise OtlpError(f"{name}[{place}]", "must be an object")
        yield f"{name}[{place}]", value


def _string(holder: Mapping[str, Any], name: str) -> str:
    value = holder.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise OtlpError(name, "must be a string")
    return _storable(value)


def _boolean(holder: Mapping[str, Any], name: str) -> bool:
    value = holder[name]
    if not isinstance(value, bool):
        raise OtlpError(name, "must be true or false")
    return value


def _integer(holder: Mapping[str, Any], name: str, least: int, beyond: int) -> int:
    value = holder.get(name)
    if value is None:
        return 0
    is_text = isinstance(value, str) and _INTEGER.fullmatch(value)
    if is_text or (isinstance(value, float) and value.is_integer()):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < beyond:
        raise OtlpError(name, f"must be an integer of {least} to {beyond - 1}, as one or as text")
    return value


def _double(holder: Mapping[str, Any], name: str) -> float:
    value = holder[name]
    try:
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return float(value)
    except (ValueError, OverflowError) as error:
        raise OtlpError(name, "must be a number") from error
    raise OtlpError(name, "must be a number")


def _base64(holder: Mapping[str, Any], name: str) -> str:
    """Return base64 text in its usual form; JSON may have the one for URLs, without padding."""
    text = _string(holder, name)
    try:
        padded = text.translate(_BASE64_OF_URLS).rstrip("=")
        content = base64.b64decode(padded + "=" * (-len(padded) % 4), validate=True)
    except ValueError as error:
        raise OtlpError(name, "must be base64") from error
    return base64.b64encode(content).decode()


def _hex(holder: Mapping[str, Any], name: str) -> bytes:
    text = _string(holder, name)
    if not _HEX.fullmatch(text):
        raise OtlpError(name, "must be hexadecimal digits, two for each byte")
    return bytes.fromhex(text)


def _storable(text: str) -> str:
    """Return *text* as PostgreSQL takes it, which has no NUL character."""
    return text.replace("\x00", "\ufffd") if "\x00" in text else text
