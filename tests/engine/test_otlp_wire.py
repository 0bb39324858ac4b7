"""OTLP on the wire: both encodings say the same, and nothing sent can do harm."""

import base64
import json
from contextlib import suppress
from typing import Any

import orjson
import pytest
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import (
    AnyValue,
    ArrayValue,
    InstrumentationScope,
    KeyValue,
    KeyValueList,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import (
    ResourceSpans,
    ScopeSpans,
    Span,
)
from opentelemetry.proto.trace.v1.trace_pb2 import (
    Status as Outcome,
)

from engine.otlp import read_spans
from engine.otlp_spans import MAX_VALUE_DEPTH, OtlpError, WireRequest
from engine.otlp_wire import OtlpEncoding, decode_request, encode_answer, encode_failure
from tests.engine.otlp_requests import STARTED_NS, as_json, request_of

JSON, PROTOBUF = OtlpEncoding.JSON, OtlpEncoding.PROTOBUF
NAMES = st.sampled_from(
    [
        "gen_ai.operation.name",
        "gen_ai.request.model",
        "gen_ai.input.messages",
        "gen_ai.prompt.0.content",
        "gen_ai.prompt.0",
        "gen_ai.completion.1.tool_calls.0.name",
        "llm.input_messages.0.message.contents.0.message_content.type",
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.cost",
        "input.value",
        "drgero.leaderboard_id",
    ]
) | st.text(max_size=8)
STRINGS = st.text(max_size=8) | st.sampled_from(
    ["chat", '[{"role":"user","parts":[{"type":["a"],"content":{}}]}]', '{"messages":[{"role":1}]}']
)
VALUES = st.recursive(
    st.just(AnyValue())
    | st.builds(AnyValue, string_value=STRINGS)
    | st.builds(AnyValue, bool_value=st.booleans())
    | st.builds(AnyValue, int_value=st.integers(-(2**63), 2**63 - 1))
    | st.builds(AnyValue, double_value=st.floats())
    | st.builds(AnyValue, bytes_value=st.binary(max_size=8)),
    lambda inner: (
        st.builds(AnyValue, array_value=st.builds(ArrayValue, values=st.lists(inner, max_size=3)))
        | st.builds(
            AnyValue,
            kvlist_value=st.builds(
                KeyValueList,
                values=st.lists(st.builds(KeyValue, key=NAMES, value=inner), max_size=3),
            ),
        )
    ),
    max_leaves=6,
)
ATTRIBUTES = st.lists(st.builds(KeyValue, key=NAMES, value=VALUES), max_size=6)
IDS = st.binary(max_size=17) | st.binary(min_size=16, max_size=16) | st.just(b"\x01" * 8)
INSTANTS = st.integers(0, 2**64 - 1) | st.just(STARTED_NS)
EVENT_NAMES = st.sampled_from(["gen_ai.user.message", "gen_ai.choice", "exception"])
SPANS = st.builds(
    Span,
    trace_id=IDS,
    span_id=IDS,
    parent_span_id=IDS,
    name=st.text(max_size=5),
    kind=st.integers(0, 5),
    start_time_unix_nano=INSTANTS,
    end_time_unix_nano=INSTANTS,
    attributes=ATTRIBUTES,
    events=st.lists(st.builds(Span.Event, name=EVENT_NAMES, attributes=ATTRIBUTES), max_size=2),
    status=st.builds(Outcome, code=st.integers(0, 2), message=st.text(max_size=5)),
)
REQUESTS = st.builds(
    ExportTraceServiceRequest,
    resource_spans=st.lists(
        st.builds(
            ResourceSpans,
            resource=st.builds(Resource, attributes=ATTRIBUTES),
            scope_spans=st.lists(
                st.builds(
                    ScopeSpans,
                    scope=st.builds(InstrumentationScope, name=st.text(max_size=5)),
                    spans=st.lists(SPANS, max_size=3),
                ),
                max_size=2,
            ),
        ),
        max_size=2,
    ),
)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
SPAN_JSON = {
    "traceId": "5B8EFFF798038103D269B633813FC60C",
    "spanId": "eee19b7ec3c1b174",
    "name": "chat",
    "kind": 3,
    "startTimeUnixNano": "1544712660000000000",
    "endTimeUnixNano": 1544712661000000000,
    "attributes": [
        {"key": "text", "value": {"stringValue": "a\x00b"}},
        {"key": "yes", "value": {"boolValue": True}},
        {"key": "count", "value": {"intValue": "-9223372036854775808"}},
        {"key": "ratio", "value": {"doubleValue": "Infinity"}},
        {"key": "bytes", "value": {"bytesValue": "_-8"}},
        {"key": "list", "value": {"arrayValue": {"values": [{"intValue": 1.0}, {}]}}},
        {"key": "map", "value": {"kvlistValue": {"values": [{"key": "a", "value": {}}]}}},
        {"key": "nothing"},
    ],
    "status": {"code": 2, "message": "no"},
    "aFieldOfTheFuture": {"is": "ignored"},
}


def json_request(span: Any) -> dict[str, Any]:
    scope_spans = [{"scope": {"name": "s", "version": "1"}, "spans": [span]}]
    return {"resourceSpans": [{"scopeSpans": scope_spans}]}


def decode(body: bytes, encoding: OtlpEncoding, max_spans: int = 5_000) -> WireRequest:
    return decode_request(body, encoding, max_spans=max_spans)


def test_json_is_read_as_the_specification_writes_it() -> None:
    (span,) = decode(json.dumps(json_request(SPAN_JSON)).encode(), JSON).spans
    assert span.trace_id.hex() == "5b8efff798038103d269b633813fc60c"
    assert span.span_id.hex() == "eee19b7ec3c1b174"
    assert span.parent_span_id == b""
    assert (span.start_ns, span.end_ns) == (1544712660000000000, 1544712661000000000)
    assert (span.status_code, span.status_message) == (2, "no")
    assert (span.scope_name, span.scope_version) == ("s", "1")
    assert span.attributes == {
        "text": "a\ufffdb",
        "yes": True,
        "count": -(2**63),
        "ratio": float("inf"),
        "bytes": base64.b64encode(b"\xff\xef").decode(),
        "list": [1, None],
        "map": {"a": None},
        "nothing": None,
    }


@given(request=REQUESTS)
def test_both_encodings_say_the_same(request: ExportTraceServiceRequest) -> None:
    protobuf = request.SerializeToString()
    told = decode(protobuf, PROTOBUF)
    assert repr(decode(as_json(protobuf), JSON)) == repr(told)  # repr: NaN is not equal to itself
    read = read_spans(told)
    count = len(read.traces) + read.skipped_count + read.rejected_count
    assert count == sum(
        len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans
    )
    assert bool(read.message) is (read.rejected_count > 0)
    for trace in read.traces:
        orjson.dumps([trace.messages, trace.metadata])


@given(body=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    for encoding in OtlpEncoding:
        with suppress(OtlpError):
            decode(body, encoding)


@given(request=REQUESTS, cut=st.integers(0, 400), flipped=st.integers(0, 400))
def test_damaged_protobuf_is_read_or_refused(
    request: ExportTraceServiceRequest, cut: int, flipped: int
) -> None:
    body = bytearray(request.SerializeToString())
    if flipped < len(body):
        body[flipped] ^= 0xFF
    for damaged in (bytes(body), bytes(body[:cut])):
        with suppress(OtlpError):
            read_spans(decode(damaged, PROTOBUF))


@given(data=st.data(), value=ANY_JSON)
def test_json_of_any_types_is_read_or_refused(data: st.DataObject, value: Any) -> None:
    request: Any = json.loads(json.dumps(json_request(SPAN_JSON)))
    node = request
    for _ in range(data.draw(st.integers(0, 8))):
        inner = [key for key, part in _items(node) if isinstance(part, dict | list) and part]
        if not inner:
            break
        node = node[data.draw(st.sampled_from(inner))]
    node[data.draw(st.sampled_from([key for key, _ in _items(node)]))] = value
    with suppress(OtlpError):
        read_spans(decode(json.dumps(request).encode(), JSON))


def _items(node: Any) -> list[tuple[Any, Any]]:
    return list(node.items()) if isinstance(node, dict) else list(enumerate(node))


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("traceId", 5, "traceId: must be a string"),
        ("traceId", "W47/95gDgQPSabYzgT/GDA==", "traceId: must be hexadecimal digits, two for"),
        ("startTimeUnixNano", "soon", "startTimeUnixNano: must be an integer of 0 to 18446744073"),
        ("startTimeUnixNano", -1, "startTimeUnixNano: must be an integer of 0 to"),
        ("startTimeUnixNano", "18446744073709551616", "startTimeUnixNano: must be an integer of 0"),
        ("attributes", {"a": 1}, "attributes: must be an array"),
        ("attributes", ["a"], "attributes[0]: must be an object"),
        ("attributes", [{"key": "a", "value": "b"}], "attributes[0].value: must be"),
        ("attributes", [{}, {"key": 5}], "attributes[1].key: must be a string"),
        ("attributes", [{"value": {"boolValue": 1}}], "attributes[0].value.boolValue: must be tr"),
        ("attributes", [{"value": {"doubleValue": "x"}}], "attributes[0].value.doubleValue: must"),
        ("attributes", [{"value": {"bytesValue": "é"}}], "attributes[0].value.bytesValue: must"),
        ("attributes", [{"value": {"arrayValue": {"values": [{}, {"intValue": "x"}]}}}],
         "attributes[0].value.arrayValue.values[1].intValue: must be an integer of"),
        ("attributes", [{"value": {"kvlistValue": {"values": [{"value": {"intValue": 0.5}}]}}}],
         "attributes[0].value.kvlistValue.values[0].value.intValue: must be an integer of"),
        ("events", [{}, {"name": 5}], "events[1].name: must be a string"),
        ("events", [{"attributes": [5]}], "events[0].attributes[0]: must be an object"),
        ("status", 5, "status: must be an object"),
        ("status", {"code": "STATUS_CODE_ERROR"}, "status.code: must be an integer of -2147483648"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_json_is_named(name: str, value: Any, told: str) -> None:
    body = json.dumps(json_request({**SPAN_JSON, name: value})).encode()
    with pytest.raises(OtlpError) as refused:
        decode(body, JSON)
    assert str(refused.value).startswith(f"resourceSpans[0].scopeSpans[0].spans[0].{told}")


@pytest.mark.parametrize(
    ("of", "value", "told"),
    [
        ("resource", {"attributes": [{"value": {"intValue": {}}}]},
         "resource.attributes[0].value.intValue: must be an integer of"),
        ("resource", [], "resource: must be an object"),
        ("scopeSpans", [{"scope": {"name": 5}}], "scopeSpans[0].scope.name: must be a string"),
        ("scopeSpans", [{"spans": {}}], "scopeSpans[0].spans: must be an array"),
    ],
)  # fmt: skip
def test_what_is_wrong_around_spans_is_named(of: str, value: Any, told: str) -> None:
    body = json.dumps({"resourceSpans": [{}, {of: value}]}).encode()
    with pytest.raises(OtlpError) as refused:
        decode(body, JSON)
    assert str(refused.value).startswith(f"resourceSpans[1].{told}")


def deep_value(depth: int) -> AnyValue:
    value = AnyValue(int_value=1)
    for _ in range(depth):
        value = AnyValue(array_value=ArrayValue(values=[value]))
    return value


@pytest.mark.parametrize("depth", [MAX_VALUE_DEPTH + 1, 90, 400])
def test_values_nested_too_deeply_are_refused_in_both_encodings(depth: int) -> None:
    value: dict[str, Any] = {"intValue": 1}
    for _ in range(depth):
        value = {"arrayValue": {"values": [value]}}
    span = {**SPAN_JSON, "attributes": [{"key": "a", "value": value}]}
    with pytest.raises(OtlpError):
        decode(orjson.dumps(json_request(span)) if depth < 60 else b"[" * 10**6, JSON)
    body = b""
    for _ in range(depth):
        body = field(5, field(1, body))  # AnyValue.array_value of ArrayValue.values
    span_body = field(9, field(1, b"a") + field(2, body))
    with pytest.raises(OtlpError):
        decode(field(1, field(2, field(2, span_body))), PROTOBUF)


def field(number: int, content: bytes) -> bytes:
    length, size = len(content), b""
    while length > 0x7F:
        size += bytes([length & 0x7F | 0x80])
        length >>= 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + content


def test_the_deepest_value_that_is_taken_is_taken_in_both_encodings() -> None:
    span = Span(attributes=[KeyValue(key="a", value=deep_value(MAX_VALUE_DEPTH))])
    request = ExportTraceServiceRequest(
        resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=[span])])]
    ).SerializeToString()
    assert decode(request, PROTOBUF) == decode(as_json(request), JSON)


@pytest.mark.parametrize(
    "body",
    [
        b"\x0a\xff\xff\xff\xff\x0f",  # a length far beyond the end
        b"\xff" * 11,  # a varint without an end
        b"\x0b" * 1_000,  # groups that open and never close
        field(1, field(2, field(2, field(5, b"\xff\xfe")))),  # a name that is not UTF-8
    ],
)
def test_broken_protobuf_is_refused(body: bytes) -> None:
    with pytest.raises(OtlpError, match="the body is no ExportTraceServiceRequest"):
        decode(body, PROTOBUF)


@pytest.mark.parametrize("body", [b"", b"\xff", b"[]", b"1", b'{"a"', b'{"resourceSpans": 1}'])
def test_broken_json_is_refused(body: bytes) -> None:
    with pytest.raises(OtlpError):
        decode(body, JSON)


@pytest.mark.parametrize("encoding", list(OtlpEncoding))
def test_spans_beyond_the_bound_are_counted_alone(encoding: OtlpEncoding) -> None:
    protobuf = request_of(*[lambda span: span.add_event("a")] * 7)
    request = decode(protobuf if encoding is PROTOBUF else as_json(protobuf), encoding, 3)
    assert (len(request.spans), request.left_out_count) == (3, 4)


def test_an_empty_request_has_no_spans() -> None:
    assert decode(b"", PROTOBUF) == decode(b"{}", JSON) == WireRequest((), 0)


def test_an_answer_tells_what_was_rejected_or_nothing() -> None:
    assert encode_answer(JSON) == b"{}"
    assert encode_answer(PROTOBUF) == b""
    assert orjson.loads(encode_answer(JSON, rejected_count=2, message="why")) == {
        "partialSuccess": {"rejectedSpans": "2", "errorMessage": "why"}
    }
    answer = ExportTraceServiceResponse.FromString(
        encode_answer(PROTOBUF, rejected_count=2, message="why")
    )
    assert answer.partial_success.rejected_spans == 2
    assert answer.partial_success.error_message == "why"


def test_a_failure_is_a_status_with_what_is_wrong() -> None:
    assert orjson.loads(encode_failure(JSON, 400, "must be hex", field="traceId")) == {
        "code": 3,
        "message": "must be hex",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.BadRequest",
                "fieldViolations": [{"field": "traceId", "description": "must be hex"}],
            }
        ],
    }
    failure = Status.FromString(encode_failure(PROTOBUF, 400, "must be hex", field="traceId"))
    detail = BadRequest()
    assert failure.details[0].Unpack(detail)
    assert [violation.field for violation in detail.field_violations] == ["traceId"]


@pytest.mark.parametrize(
    ("status", "code"), [(401, 16), (403, 7), (413, 3), (429, 8), (500, 13), (503, 14)]
)
def test_every_status_has_its_code(status: int, code: int) -> None:
    assert orjson.loads(encode_failure(JSON, status, "no")) == {"code": code, "message": "no"}
