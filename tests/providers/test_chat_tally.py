"""Chunks add up to the completion that they are parts of."""

import copy
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.base import ChatAnswer, ChatTarget
from providers.chat_answers import read_answer, read_as_chunk
from providers.chat_tally import ChatTally
from tests.providers.http_peer import target_at

HEAD = {"id": "c1", "created": 7, "model": "m", "object": "chat.completion.chunk"}
PRICED = target_at(
    None,
    input_price_per_million_usd=Decimal(2),
    output_price_per_million_usd=Decimal(10),
)


def chunk(delta: Any, *, index: int = 0, **fields: Any) -> dict[str, Any]:
    return {**HEAD, "choices": [{"index": index, "delta": delta, **fields}]}


def tally(*chunks: dict[str, Any], target: ChatTarget = PRICED) -> ChatTally:
    """Add *chunks*, and make sure that they are left as they were."""
    total = ChatTally(target)
    before = copy.deepcopy(chunks)
    for each in chunks:
        total.add(each)
    total.answer()
    assert chunks == before
    return total


def test_text_usage_and_ending_are_put_together() -> None:
    answer = tally(
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Hel"}),
        chunk({"content": "lo"}),
        chunk({}, finish_reason="stop"),
        {**HEAD, "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
    ).answer()
    assert answer == ChatAnswer(
        output="Hello",
        completion={
            "id": "c1",
            "created": 7,
            "model": "m",
            "usage": {"prompt_tokens": 3, "completion_tokens": 2},
            "object": "chat.completion",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": "Hello"},
                }
            ],
        },
        prompt_tokens=3,
        completion_tokens=2,
        cost_usd=Decimal("0.000026"),
        cost_source="computed",
    )


def test_what_was_cut_off_is_there_without_usage() -> None:
    cut = tally(chunk({"role": "assistant", "content": "Hel"}), chunk({"content": "lo"}))
    assert cut.text == "Hello"
    answer = cut.answer()
    assert (answer.output, answer.prompt_tokens, answer.completion_tokens) == ("Hello", None, None)
    assert (answer.cost_usd, answer.cost_source) == (None, "unknown")


def test_nothing_adds_up_to_nothing() -> None:
    assert ChatTally(PRICED).text == ""
    assert ChatTally(PRICED).answer().output == ""


@pytest.mark.parametrize(
    ("fields", "cost_usd", "source"),
    [
        ({"usage": {"cost": 0.5, "prompt_tokens": 1, "completion_tokens": 1}}, "0.5", "provider"),
        ({"cost_usd": "0.25", "usage": {}}, "0.25", "provider"),
        ({"usage": {"prompt_tokens": 1, "completion_tokens": 1}}, "0.000012", "computed"),
        ({"usage": {"prompt_tokens": 1}}, None, "unknown"),
        ({}, None, "unknown"),
    ],
)
def test_the_cost_has_a_source(fields: dict[str, Any], cost_usd: str | None, source: str) -> None:
    answer = tally(chunk({"content": "x"}), {**HEAD, "choices": [], **fields}).answer()
    whole = {"choices": [{"message": {"content": "x"}}], **fields}
    expected = (cost_usd if cost_usd is None else Decimal(cost_usd), source)
    assert (answer.cost_usd, answer.cost_source) == expected
    read = read_answer(orjson.dumps(whole), PRICED)
    assert (read.cost_usd, read.cost_source) == expected


def calls(*parts: dict[str, Any]) -> dict[str, Any]:
    return chunk({"tool_calls": list(parts)})


def test_tool_calls_are_merged_by_their_index() -> None:
    answer = tally(
        chunk({"role": "assistant", "content": None}),
        calls({"index": 1, "id": "b", "type": "function", "function": {"name": "g"}}),
        calls({"index": 0, "id": "a", "type": "function", "function": {"name": "f"}}),
        calls({"index": 0, "function": {"arguments": '{"x"'}}),
        calls(
            {"index": 1, "function": {"arguments": "{}"}},
            {"index": 0, "id": "a", "type": "function", "function": {"arguments": ": 1}"}},
        ),
        chunk({}, finish_reason="tool_calls"),
    ).answer()
    assert answer.output == ""
    assert answer.completion is not None
    assert answer.completion["choices"][0]["message"] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}},
            {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
        ],
    }


def test_tool_calls_without_an_index_are_each_whole() -> None:
    first = {"id": "a", "function": {"name": "f", "arguments": "{}"}}
    second = {"id": "b", "function": {"name": "f", "arguments": "{}"}}
    completion = tally(calls(first), calls(second)).answer().completion
    assert completion is not None
    assert completion["choices"][0]["message"]["tool_calls"] == [first, second]


def test_choices_refusals_reasoning_and_unknown_fields_are_kept() -> None:
    completion = (
        tally(
            {**chunk({"role": "assistant", "refusal": "I "}), "service_tier": "flex"},
            chunk({"role": "assistant", "content": "two"}, index=1),
            chunk({"refusal": "can't"}, logprobs={"content": [{"token": "a"}]}),
            chunk({"reasoning_details": [{"index": 0, "type": "t", "text": "be"}]}),
            chunk({"reasoning_details": [{"index": 0, "type": "t", "text": "cause"}]}),
            chunk({"annotations": [{"url": "u"}]}, logprobs={"content": [{"token": "b"}]}),
            chunk({"annotations": [{"url": "v"}]}, finish_reason="stop"),
            chunk({}, index=1, finish_reason="length", native_finish_reason="MAX"),
        )
        .answer()
        .completion
    )
    assert completion is not None
    assert completion["service_tier"] == "flex"
    assert completion["choices"] == [
        {
            "index": 0,
            "finish_reason": "stop",
            "logprobs": {"content": [{"token": "a"}, {"token": "b"}]},
            "message": {
                "role": "assistant",
                "content": None,
                "refusal": "I can't",
                "reasoning_details": [{"index": 0, "type": "t", "text": "because"}],
                "annotations": [{"url": "u"}, {"url": "v"}],
            },
        },
        {
            "index": 1,
            "finish_reason": "length",
            "native_finish_reason": "MAX",
            "message": {"role": "assistant", "content": "two"},
        },
    ]


MESSAGES = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": st.text()},
    optional={
        "refusal": st.none() | st.text(),
        "tool_calls": st.lists(
            st.fixed_dictionaries(
                {
                    "id": st.text(min_size=1),
                    "function": st.fixed_dictionaries({"name": st.text(), "arguments": st.text()}),
                }
            ),
            max_size=3,
        ),
    },
)


@given(MESSAGES, st.sampled_from(["stop", "length"]), st.integers(0, 10))
def test_a_whole_answer_as_one_chunk_adds_up_to_the_whole_answer(
    message: dict[str, Any], ending: str, tokens: int
) -> None:
    whole = {
        "id": "x",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": ending}],
        "usage": {"prompt_tokens": tokens, "completion_tokens": 1},
    }
    content = orjson.dumps(whole)
    assert tally(read_as_chunk(content, PRICED)).answer() == read_answer(content, PRICED)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["index", "delta", "choices", "content", "tool_calls", "id", "usage", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(st.lists(st.dictionaries(st.sampled_from(["choices", "usage", "id"]), JSON)))
def test_whatever_the_chunks_hold_they_add_up_to_something(chunks: list[dict[str, Any]]) -> None:
    assert isinstance(tally(*chunks).answer().output, str)


def test_what_is_nested_without_end_does_no_harm() -> None:
    nested: Any = "x"
    for _ in range(500):
        nested = {"x": [nested]}
    total = ChatTally(PRICED)
    total.add(chunk(nested))
    total.add(chunk(nested))
    assert total.answer().output == ""


def test_100_000_small_parts_are_joined_once() -> None:
    total = ChatTally(PRICED)
    for _ in range(100_000):
        total.add(chunk({"content": "ab"}))
    assert len(total.text) == 200_000
