"""Rows as examples for fine-tuning."""

from typing import Any

import orjson
import pytest

from engine.chat_examples import chat_example

USER = {"role": "user", "content": "2 + 2?"}
REPLY = {"role": "assistant", "content": "5"}
LEARNED = {"role": "assistant", "content": "4"}


def messages_of(row: dict[str, Any], prompt: str = "Solve: {input}") -> Any:
    example = orjson.loads(chat_example({"input": "2 + 2?", "expected": "4", **row}, prompt))
    assert list(example) == ["messages"]
    return example["messages"]


def test_a_row_is_asked_as_runs_ask_it() -> None:
    assert messages_of({}) == [{"role": "user", "content": "Solve: 2 + 2?"}, LEARNED]
    assert messages_of({}, prompt="") == [USER, LEARNED]


def test_a_conversation_is_kept_as_it_is() -> None:
    earlier = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
        {"role": "assistant", "content": "Yes?", "weight": 0},
        USER,
    ]
    assert messages_of({"messages": earlier}) == [*earlier, LEARNED]


@pytest.mark.parametrize("replies", [[REPLY], [REPLY, REPLY], [LEARNED]])
def test_the_expected_output_stands_in_place_of_the_reply(replies: list[Any]) -> None:
    assert messages_of({"messages": [USER, *replies]}) == [USER, LEARNED]


def test_a_conversation_of_nothing_but_replies_asks_for_the_input() -> None:
    assert messages_of({"messages": [REPLY]}, prompt="") == [USER, LEARNED]
