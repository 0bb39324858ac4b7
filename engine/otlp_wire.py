"""OTLP on the wire: trace requests and their answers, as protobuf and as JSON."""

import base64
from collections.abc import Iterable, Iterator
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

from engine.otlp_json import iterate_json
from engine.otlp_spans import Group, OtlpError, WireRequest, WireSpan, check_depth, storable

_CODES = {
    400: Code.INVALID_ARGUMENT,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    413: Code.INVALID_ARGUMENT,
    415: Code.INVALID_ARGUMENT,
    429: Code.RESOURCE_EXHAUSTED,
    503: Code.UNAVAILABLE,
}


class OtlpEncoding(StrEnum):
    """How a request is encoded, and then its answer too; by its media type."""

    PROTOBUF = "application/x-protobuf"
    JSON = "application/json"


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
    read = iterate_json if encoding is OtlpEncoding.JSON else _iterate_protobuf
    spans: list[WireSpan] = []
    count = 0
    for told, read_span in read(body):
        count += len(told)
        taken = told[: max_spans - len(spans)]
        spans.extend(read_span(place, span) for place, span in enumerate(taken))
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


def _iterate_protobuf(body: bytes) -> Iterator[Group]:
    try:
        request = ExportTraceServiceRequest.FromString(body)
    except DecodeError as error:
        raise OtlpError("", f"the body is no ExportTraceServiceRequest: {error}") from error
    for from_resource in request.resource_spans:
        resource = _attributes_of(from_resource.resource.attributes)
        for from_scope in from_resource.scope_spans:
            scope = from_scope.scope.name, from_scope.scope.version
            yield from_scope.spans, partial(_span_of, resource, *scope)


def _span_of(
    resource: dict[str, Any], scope_name: str, version: str, _place: int, span: Span
) -> WireSpan:
    return WireSpan(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent_span_id,
        name=storable(span.name),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        status_code=span.status.code,
        status_message=storable(span.status.message),
        attributes=_attributes_of(span.attributes),
        events=tuple(
            (storable(event.name), _attributes_of(event.attributes)) for event in span.events
        ),
        resource=resource,
        scope_name=storable(scope_name),
        scope_version=storable(version),
    )


def _attributes_of(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    try:
        return {storable(pair.key): _value_of(pair.value, 0) for pair in pairs}
    except OtlpError as error:
        raise error.inside("attributes") from error


def _value_of(value: AnyValue, depth: int) -> Any:
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return storable(value.string_value)
    if kind == "array_value":
        check_depth(depth)
        return [_value_of(part, depth + 1) for part in value.array_value.values]
    if kind == "kvlist_value":
        check_depth(depth)
        pairs = value.kvlist_value.values
        return {storable(pair.key): _value_of(pair.value, depth + 1) for pair in pairs}
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    return None if kind is None else getattr(value, kind)
