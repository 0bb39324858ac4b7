"""From spans of real clients to traces."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import Span, StatusCode

from engine.otlp import (
    ReadSpans,
    SpanTrace,
    is_model_call,
    read_spans,
    trace_uuid,
)
from engine.otlp_wire import OtlpEncoding, decode_request
from tests.engine.otlp_requests import as_json, request_of

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Weather in Paris?"},
]
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city":"Paris"}'},
}
PARTS: dict[str, Any] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.response.model": "gpt-4o-2024-08-06",
    "gen_ai.usage.input_tokens": 100,
    "gen_ai.usage.output_tokens": 18,
    "gen_ai.system_instructions": json.dumps([{"type": "text", "content": "Be brief."}]),
    "gen_ai.input.messages": json.dumps(
        [{"role": "user", "parts": [{"type": "text", "content": "Weather in Paris?"}]}]
    ),
    "gen_ai.output.messages": json.dumps(
        [
            {
                "role": "assistant",
                "parts": [{"type": "text", "content": "Rainy."}],
                "finish_reason": "stop",
            }
        ]
    ),
}
OPENLLMETRY: dict[str, Any] = {
    "llm.request.type": "chat",
    "gen_ai.system": "OpenAI",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.usage.prompt_tokens": 100,
    "gen_ai.usage.completion_tokens": 18,
    "gen_ai.prompt.0.role": "system",
    "gen_ai.prompt.0.content": "Be brief.",
    "gen_ai.prompt.1.role": "user",
    "gen_ai.prompt.1.content": "Weather in Paris?",
    "gen_ai.completion.0.role": "assistant",
    "gen_ai.completion.0.content": "Rainy.",
    "gen_ai.completion.0.finish_reason": "stop",
}
OPENINFERENCE: dict[str, Any] = {
    "openinference.span.kind": "LLM",
    "llm.provider": "openai",
    "llm.model_name": "gpt-4o",
    "llm.token_count.prompt": 100,
    "llm.token_count.completion": 18,
    "llm.input_messages.0.message.role": "system",
    "llm.input_messages.0.message.content": "Be brief.",
    "llm.input_messages.1.message.role": "user",
    "llm.input_messages.1.message.contents.0.message_content.type": "text",
    "llm.input_messages.1.message.contents.0.message_content.text": "Weather in Paris?",
    "llm.output_messages.0.message.role": "assistant",
    "llm.output_messages.0.message.content": "Rainy.",
    "input.value": json.dumps({"messages": MESSAGES}),
    "input.mime_type": "application/json",
    "output.value": "{}",
}
VALUES_ALONE: dict[str, Any] = {
    "openinference.span.kind": "LLM",
    "llm.system": "openai",
    "llm.model_name": "gpt-4o",
    "llm.token_count.prompt": 100,
    "llm.token_count.completion": 18,
    "input.value": json.dumps({"messages": MESSAGES}),
    "output.value": json.dumps(
        {"choices": [{"message": {"role": "assistant", "content": "Rainy."}}]}
    ),
}
BEFORE_EVENTS: dict[str, Any] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.system": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.usage.input_tokens": 100,
    "gen_ai.usage.output_tokens": 18,
}


def with_events(span: Span) -> None:
    span.set_attributes(BEFORE_EVENTS)
    span.add_event("gen_ai.system.message", {"content": "Be brief."})
    span.add_event("gen_ai.user.message", {"content": "Weather in Paris?", "role": "user"})
    span.add_event("gen_ai.choice", {"index": 0, "message": '{"content": "Rainy."}'})


def with_events_of_json(span: Span) -> None:
    span.set_attributes(BEFORE_EVENTS)
    for name, message in zip(("system", "user"), MESSAGES, strict=True):
        event = {"gen_ai.event.content": json.dumps(message)}
        span.add_event(f"gen_ai.{name}.message", event)
    choice = {"message": {"content": "Rainy."}, "finish_reason": "stop"}
    span.add_event("gen_ai.choice", {"gen_ai.event.content": json.dumps(choice)})


def with_content_events(span: Span) -> None:
    span.set_attributes(BEFORE_EVENTS)
    span.add_event("gen_ai.content.prompt", {"gen_ai.prompt": json.dumps(MESSAGES)})
    answer = json.dumps([{"role": "assistant", "content": "Rainy."}])
    span.add_event("gen_ai.content.completion", {"gen_ai.completion": answer})


def with_details(span: Span) -> None:
    span.set_attributes(BEFORE_EVENTS)
    told = {name: value for name, value in PARTS.items() if name.startswith("gen_ai.")}
    span.add_event("gen_ai.client.inference.operation.details", told)


def attributes_alone(attributes: dict[str, Any]) -> Any:
    return lambda span: span.set_attributes(attributes)


def read(*write: Any, **request: Any) -> ReadSpans:
    """Read a request in both encodings, which must not differ."""
    protobuf = request_of(*write, **request)
    told = read_spans(decode_request(protobuf, OtlpEncoding.PROTOBUF, max_spans=100))
    wire_request = decode_request(as_json(protobuf), OtlpEncoding.JSON, max_spans=100)
    assert read_spans(wire_request) == told
    return told


def read_one(write: Any, **request: Any) -> SpanTrace:
    told = read(write, **request)
    assert (told.skipped_count, told.rejected_count, told.message) == (0, 0, "")
    (trace,) = told.traces
    return trace


@pytest.mark.parametrize(
    ("write", "provider"),
    [
        (attributes_alone(PARTS), "openai"),
        (attributes_alone(OPENLLMETRY), "OpenAI"),
        (attributes_alone(OPENINFERENCE), "openai"),
        (attributes_alone(VALUES_ALONE), "openai"),
        (with_events, "openai"),
        (with_events_of_json, "openai"),
        (with_content_events, "openai"),
        (with_details, "openai"),
    ],
)
def test_every_convention_tells_the_same_call(write: Any, provider: str) -> None:
    trace = read_one(write)
    assert trace.started_at == datetime(2026, 11, 26, 8, 0, 0, 123456, UTC)
    assert trace.latency_ms == 1_500.0
    assert (trace.status, trace.error) == ("ok", None)
    assert (trace.provider, trace.model) == (provider, "gpt-4o")
    assert trace.messages == MESSAGES
    assert (trace.input, trace.output) == ("Weather in Paris?", "Rainy.")
    assert (trace.prompt_tokens, trace.completion_tokens) == (100, 18)
    assert trace.cost_usd is None
    assert trace.leaderboard is None
    assert len(trace.trace_id) == 32
    assert len(trace.span_id) == 16
    assert "Paris" not in json.dumps(trace.metadata)


def test_what_is_left_of_a_span_is_metadata() -> None:
    more = {
        "gen_ai.conversation.id": "c1",
        "user.id": "u1",
        "session.id": "s1",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.response.finish_reasons": ["stop"],
        "traceloop.association.properties.team": "a",
        "gen_ai.usage.cost": 0.00125,
        "drgero.leaderboard_id": "from the span",
        "odd": float("nan"),
    }
    trace = read_one(
        attributes_alone(PARTS | more),
        resource={"service.name": "shop", "drgero.leaderboard_id": "from the resource"},
    )
    assert trace.cost_usd == Decimal("0.00125")
    assert trace.leaderboard == "from the span"
    assert trace.metadata == {
        "gen_ai.operation.name": "chat",
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "gen_ai.conversation.id": "c1",
        "user.id": "u1",
        "session.id": "s1",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.response.finish_reasons": ["stop"],
        "traceloop.association.properties.team": "a",
        "odd": "nan",
        "service.name": "shop",
        "otel.span.name": "chat gpt-4o",
        "otel.scope.name": "instrumentation.openai",
        "otel.scope.version": "2.1",
    }


def test_a_resource_may_name_the_leaderboard() -> None:
    trace = read_one(attributes_alone(PARTS), resource={"drgero.leaderboard_id": "0190"})
    assert trace.leaderboard == "0190"


@pytest.mark.parametrize(
    "attributes",
    [
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.input.messages": json.dumps(
                [
                    {
                        "role": "assistant",
                        "parts": [
                            {"type": "reasoning", "content": "Hm."},
                            {
                                "type": "tool_call",
                                "id": "call_1",
                                "name": "get_weather",
                                "arguments": {"city": "Paris"},
                            },
                        ],
                    },
                    {
                        "role": "tool",
                        "parts": [
                            {"type": "tool_call_response", "id": "call_1", "response": "wet"}
                        ],
                    },
                ]
            ),
        },
        {
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.prompt.0.role": "assistant",
            "gen_ai.prompt.0.tool_calls.0.id": "call_1",
            "gen_ai.prompt.0.tool_calls.0.name": "get_weather",
            "gen_ai.prompt.0.tool_calls.0.arguments": '{"city":"Paris"}',
            "gen_ai.prompt.1.role": "tool",
            "gen_ai.prompt.1.tool_call_id": "call_1",
            "gen_ai.prompt.1.content": "wet",
        },
        {
            "openinference.span.kind": "LLM",
            "llm.input_messages.0.message.role": "assistant",
            "llm.input_messages.0.message.tool_calls.0.tool_call.id": "call_1",
            "llm.input_messages.0.message.tool_calls.0.tool_call.function.name": "get_weather",
            "llm.input_messages.0.message.tool_calls.0.tool_call.function.arguments": (
                '{"city":"Paris"}'
            ),
            "llm.input_messages.1.message.role": "tool",
            "llm.input_messages.1.message.tool_call_id": "call_1",
            "llm.input_messages.1.message.content": "wet",
        },
    ],
)
def test_tool_calls_and_their_results_are_told_in_one_form(attributes: dict[str, Any]) -> None:
    assert read_one(attributes_alone(attributes)).messages == [
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "wet", "tool_call_id": "call_1"},
    ]


def test_an_answer_that_calls_a_tool_is_kept_in_the_metadata() -> None:
    part = {
        "type": "tool_call",
        "id": "call_1",
        "name": "get_weather",
        "arguments": {"city": "Paris"},
    }
    told = json.dumps([{"role": "assistant", "parts": [part], "finish_reason": "tool_call"}])
    trace = read_one(attributes_alone(PARTS | {"gen_ai.output.messages": told}))
    assert trace.output is None
    assert trace.metadata["gen_ai.output.messages"] == [
        {"role": "assistant", "content": None, "tool_calls": [CALL]}
    ]


def test_images_are_parts_and_other_parts_are_told_as_text() -> None:
    parts = [
        {"type": "text", "content": "What is it?"},
        {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "AAAA"},
        {"type": "uri", "modality": "image", "uri": "https://example.com/a.png"},
        {"type": "file", "modality": "document", "file_id": "f1"},
    ]
    told = json.dumps([{"role": "user", "parts": parts}])
    trace = read_one(
        attributes_alone({"gen_ai.operation.name": "chat", "gen_ai.input.messages": told})
    )
    assert trace.messages == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is it?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                {"type": "text", "text": '{"type":"file","modality":"document","file_id":"f1"}'},
            ],
        }
    ]


def test_a_plain_prompt_is_input_without_messages() -> None:
    told = {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.prompt": "Once upon",
        "gen_ai.completion": " a time",
    }
    trace = read_one(attributes_alone(told))
    assert (trace.messages, trace.input, trace.output) == (None, "Once upon", " a time")


def test_content_that_is_not_what_it_should_be_is_told_as_it_is() -> None:
    for raw in ("[" * 1_000 + "]" * 1_000, "{not json", '[{"no": "role"}]'):
        told = {"gen_ai.operation.name": "chat", "input.value": raw}
        trace = read_one(attributes_alone(told))
        assert (trace.messages, trace.input) == (None, raw)


@pytest.mark.parametrize("raw", ["[" + "{}," * 20_000 + "{}]", '[{"role": "user", "parts": [{"ty'])
def test_messages_that_can_not_be_told_apart_are_the_input_as_they_are(raw: str) -> None:
    trace = read_one(
        attributes_alone({"gen_ai.operation.name": "chat", "gen_ai.input.messages": raw})
    )
    assert (trace.messages, trace.input) == (None, raw)


def test_a_nul_in_escaped_json_is_replaced() -> None:
    told = json.dumps([{"role": "user", "parts": [{"type": "text", "content": "a\x00b"}]}])
    trace = read_one(attributes_alone(PARTS | {"gen_ai.input.messages": told}))
    assert trace.input == "a\ufffdb"


def test_an_error_says_its_kind_and_its_message() -> None:
    def failing(span: Span) -> None:
        span.set_attributes(PARTS | {"error.type": "RateLimitError"})
        span.record_exception(ValueError("slow down"))
        span.set_status(StatusCode.ERROR)

    def described(span: Span) -> None:
        span.set_attributes(PARTS)
        span.set_status(StatusCode.ERROR, "no such model")

    def bare(span: Span) -> None:
        span.set_attributes(PARTS)
        span.set_status(StatusCode.ERROR)

    traces = read(failing, described, bare).traces
    assert [trace.status for trace in traces] == ["error"] * 3
    assert [trace.error for trace in traces] == [
        "RateLimitError: slow down",
        "no such model",
        "error",
    ]


@pytest.mark.parametrize(
    ("attributes", "is_call"),
    [
        ({"gen_ai.operation.name": "chat"}, True),
        ({"gen_ai.operation.name": "generate_content"}, True),
        ({"gen_ai.operation.name": "embeddings", "gen_ai.request.model": "m"}, False),
        ({"gen_ai.operation.name": "invoke_agent", "gen_ai.request.model": "m"}, False),
        ({"gen_ai.operation.name": ["chat"]}, False),
        ({"openinference.span.kind": "LLM"}, True),
        ({"openinference.span.kind": "CHAIN", "llm.model_name": "m"}, False),
        ({"llm.request.type": "rerank", "gen_ai.request.model": "m"}, False),
        ({"traceloop.span.kind": "workflow"}, False),
        ({"gen_ai.request.model": "m"}, True),
        ({"http.request.method": "POST"}, False),
        ({}, False),
    ],
)
def test_model_calls_are_told_from_other_spans(
    attributes: dict[str, Any],
    is_call: bool,  # noqa: FBT001 - an expected value
) -> None:
    assert is_model_call(attributes) is is_call


def test_other_spans_are_skipped_and_malformed_calls_rejected_with_reasons() -> None:
    protobuf = request_of(attributes_alone(PARTS), attributes_alone({"http.route": "/"}))
    told = json.loads(as_json(protobuf))
    (scope,) = told["resourceSpans"][0]["scopeSpans"]
    good = next(span for span in scope["spans"] if len(span["attributes"]) > 1)
    scope["spans"] += [
        {**good, "traceId": "00" * 16},
        {**good, "spanId": "ab"},
        {**good, "startTimeUnixNano": 0},
        {**good, "endTimeUnixNano": 5},
    ]
    request = decode_request(json.dumps(told).encode(), OtlpEncoding.JSON, max_spans=5)
    outcome = read_spans(request)
    assert (len(outcome.traces), outcome.skipped_count, outcome.rejected_count) == (1, 1, 4)
    assert outcome.message == (
        "span 2 ('chat gpt-4o'): traceId must be 16 bytes that are not all zero; "
        "span 3 ('chat gpt-4o'): spanId must be 8 bytes that are not all zero; "
        "span 4 ('chat gpt-4o'): startTimeUnixNano must be nanoseconds since 1970 (got 0); "
        "a request may have 5 spans; send smaller batches"
    )


def test_nothing_is_cut_before_it_is_redacted() -> None:
    told = PARTS | {"gen_ai.prompt": "é" * 1_500_000, "note": "x" * 1_500_000}
    del told["gen_ai.input.messages"], told["gen_ai.system_instructions"]
    trace = read_one(attributes_alone(told))
    assert (trace.input, trace.metadata["note"]) == (told["gen_ai.prompt"], told["note"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gen_ai.usage.input_tokens", -1),
        ("gen_ai.usage.input_tokens", 2**31),
        ("gen_ai.usage.input_tokens", "many"),
        ("gen_ai.usage.cost", -0.5),
        ("gen_ai.usage.cost", float("inf")),
        ("gen_ai.usage.cost", "free"),
        ("gen_ai.usage.cost", True),
    ],
)
def test_a_figure_that_can_not_be_is_metadata_alone(name: str, value: Any) -> None:
    trace = read_one(attributes_alone({"gen_ai.operation.name": "chat", name: value}))
    assert (trace.prompt_tokens, trace.cost_usd) == (None, None)
    assert str(trace.metadata[name]) == str(value)


IDS = st.binary(min_size=16, max_size=16)
INSTANTS = st.integers(0, 253_402_300_799_999).map(
    lambda at_ms: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)
)


@given(workspace=st.uuids(), trace_id=IDS, span_id=IDS.map(lambda b: b[:8]), at=INSTANTS)
def test_a_call_has_one_id_of_version_7_at_its_time(
    workspace: UUID, trace_id: bytes, span_id: bytes, at: datetime
) -> None:
    made = trace_uuid(workspace, trace_id.hex(), span_id.hex(), at)
    assert made == trace_uuid(workspace, trace_id.hex(), span_id.hex(), at)
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert made.int >> 80 == (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def test_another_workspace_trace_or_span_is_another_id() -> None:
    at = datetime(2026, 11, 26, tzinfo=UTC)
    ids = {
        trace_uuid(UUID(int=workspace), f"{trace:032x}", f"{span:016x}", at)
        for workspace in (1, 2)
        for trace in range(1, 100)
        for span in range(1, 50)
    }
    assert len(ids) == 2 * 99 * 49
