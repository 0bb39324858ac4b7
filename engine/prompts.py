"""Text that is sent to a model: prompt rendering, and chat messages as plain text."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

_PLACEHOLDER = re.compile(r"\{(?:input|question|query)\}")


def render_prompt(system_prompt: str, user_input: str) -> str:
    """Put the user's input into a leaderboard's prompt.

    Every `{input}`, `{question}` and `{query}` is replaced in one pass, so that a
    placeholder which arrives inside the input stays as it is; other braces are left
    alone. Without a placeholder the input follows the prompt after a blank line, and
    an empty prompt is no prompt: the input is returned alone.

    Args:
        system_prompt: The leaderboard's prompt, with or without placeholders.
        user_input: The text of one row or of one inference request.

    Returns:
        The content of the one user message that is sent.
    """
    rendered, replaced_count = _PLACEHOLDER.subn(lambda _: user_input, system_prompt)
    if replaced_count:
        return rendered
    return f"{system_prompt}\n\n{user_input}" if system_prompt else user_input


def text_of_messages(messages: Sequence[Mapping[str, Any]]) -> str:
    """Turn chat messages into text input, for rows that have no input of their own.

    With exactly one user message that message is the input: a system message beside it
    is the prompt's business, and an assistant's reply beside it would give the answer away.
    Any other conversation becomes `role: content` lines; messages without text (a bare
    tool call, an image) give no line.

    Args:
        messages: Chat messages in the OpenAI form. `content` is a string, a list of
            content parts whose texts are joined by newlines, or null.

    Returns:
        The text, empty when no message holds any.
    """
    turns, questions = [], []
    for message in messages:
        role, text = message.get("role", "user"), _text_of(message.get("content"))
        turns.append((role, text))
        if role == "user":
            questions.append(text)
    if len(questions) == 1:
        return questions[0]
    return "\n".join(f"{role}: {text}" for role, text in turns if text)


def _text_of(content: object) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        return ""
    texts = (part.get("text") for part in content if isinstance(part, Mapping))
    return "\n".join(text for text in texts if isinstance(text, str))
