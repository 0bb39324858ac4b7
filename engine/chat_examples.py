"""Rows as examples that a chat model is fine-tuned on, in the form that OpenAI takes."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from engine.prompts import render_prompt


def chat_example(row: Mapping[str, Any], system_prompt: str) -> bytes:
    """Return a row as one line of a fine-tuning file: what is asked, and the answer to learn.

    What is asked is the row's own messages, as they are, so that a `weight` of 0 on an earlier
    reply goes on keeping that reply from being learned. A reply at their end is what was
    answered once; the expected output stands in its place. Without messages it is what runs and
    inference send: the prompt, rendered with the input.

    Args:
        row: The parsed line of a snapshot, with an expected output.
        system_prompt: The leaderboard's.

    Returns:
        JSON without a newline.

    Source: OpenAI API reference, FineTuneChatRequestInput: `messages`, of which those of the
    assistant may have a `weight` of 0 or 1; and the guide to supervised fine-tuning: one such
    object a line.
    """
    asked = _without_reply(row.get("messages") or [])
    if not asked:
        asked = [{"role": "user", "content": render_prompt(system_prompt, row["input"])}]
    answer = {"role": "assistant", "content": row["expected"]}
    return orjson.dumps({"messages": [*asked, answer]})


def _without_reply(messages: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    end = len(messages)
    while end and messages[end - 1].get("role") == "assistant":
        end -= 1
    return messages[:end]
