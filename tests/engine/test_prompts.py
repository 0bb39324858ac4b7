"""Prompt rendering, and chat messages as text."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.prompts import render_prompt, text_of_messages

WITHOUT_BRACES = st.text(st.characters(exclude_characters="{}"))


@pytest.mark.parametrize("name", ["input", "question", "query"])
def test_each_placeholder_is_replaced(name: str) -> None:
    assert render_prompt(f"Say {{{name}}} twice", "hi") == "Say hi twice"


def test_every_occurrence_of_every_placeholder_is_replaced() -> None:
    assert render_prompt("{input}{query} {question} {input}", "x") == "xx x x"


def test_a_placeholder_that_arrives_in_the_input_is_never_substituted() -> None:
    assert render_prompt("Q: {input} {query}", "{query}{input}") == (
        "Q: {query}{input} {query}{input}"
    )


def test_other_braces_are_left_alone() -> None:
    prompt = '{"a": {input}, "b": {}} {{input}} {Input} { input } {output}'
    assert render_prompt(prompt, "1") == '{"a": 1, "b": {}} {1} {Input} { input } {output}'


def test_backslashes_in_the_input_are_text_and_not_group_references() -> None:
    assert render_prompt("{input}", r"\1 \g<0> \n") == r"\1 \g<0> \n"


def test_without_a_placeholder_the_input_follows_a_blank_line() -> None:
    assert render_prompt("Be brief.", "Why?") == "Be brief.\n\nWhy?"


def test_an_empty_prompt_gives_the_input_alone() -> None:
    assert render_prompt("", "Why?") == "Why?"


@given(before=WITHOUT_BRACES, after=WITHOUT_BRACES, user_input=st.text())
def test_what_stands_around_a_placeholder_is_kept_whatever_the_input(
    before: str, after: str, user_input: str
) -> None:
    assert render_prompt(f"{before}{{input}}{after}", user_input) == before + user_input + after


def test_a_single_user_message_is_the_input_without_its_role() -> None:
    assert text_of_messages([{"role": "user", "content": "Why?"}]) == "Why?"


def test_neither_a_system_message_nor_a_reply_gets_into_a_single_question() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "Because."},
    ]
    assert text_of_messages(messages) == "Why?"


def test_a_conversation_becomes_role_and_content_lines() -> None:
    messages = [
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "Because."},
        {"role": "user", "content": "Really?"},
    ]
    assert text_of_messages(messages) == "user: Why?\nassistant: Because.\nuser: Really?"


def test_text_parts_are_joined_and_images_left_out() -> None:
    content: list[object] = [
        {"type": "text", "text": "What is"},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "text", "text": "this?"},
    ]
    assert text_of_messages([{"role": "user", "content": content}]) == "What is\nthis?"


def test_messages_without_text_give_no_line() -> None:
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "tool"},
        {"role": "user", "content": "b"},
    ]
    assert text_of_messages(messages) == "user: a\nuser: b"


def test_no_messages_give_no_text() -> None:
    assert text_of_messages([]) == ""


@given(st.text())
def test_any_single_user_text_comes_back_unchanged(text: str) -> None:
    assert text_of_messages([{"role": "user", "content": text}]) == text
