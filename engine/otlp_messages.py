"""Conversations in the attributes and events of spans, in the forms that clients write them."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from engine.canonical import MAX_JSON_DEPTH, iter_scalars
from engine.prompts import text_of_messages

_RAW_INPUTS = ("gen_ai.prompt", "input.value", "traceloop.entity.input")
_RAW_OUTPUTS = ("gen_ai.completion", "output.value", "traceloop.entity.output")
_CONTENT_NAMES = frozenset(
    {
        "gen_ai.input.messages",
        "gen_ai.output.messages",
        "gen_ai.system_instructions",
        "input.mime_type",
        "output.mime_type",
        *_RAW_INPUTS,
        *_RAW_OUTPUTS,
    }
)
_INPUT_PREFIXES = ("gen_ai.prompt.", "llm.input_messages.")
_OUTPUT_PREFIXES = ("gen_ai.completion.", "llm.output_messages.")
_CONTENT_EVENTS = frozenset(
    {
        "gen_ai.client.inference.operation.details",
        "gen_ai.content.prompt",
        "gen_ai.content.completion",
    }
)
_ROLES_OF_EVENTS = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
}
# Tuples: what is asked for in them may be anything, and not hashable.
_TOOL_PARTS = ("tool_call", "tool_call_response")
_TEXT_PARTS = ("text", "input_text", "output_text")
_IMAGE_PARTS = ("image", "image_url", "uri", "blob")
_MAX_PARTS = 10_000  # messages of a conversation, or parts of a message, that are told apart
_MAX_NAME_PARTS = 12
_MAX_INDEX_DIGITS = 6

Message = dict[str, Any]
Attributes = Mapping[str, Any]
Events = Sequence[tuple[str, Attributes]]


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a model was sent, and what it answered.

    Attributes:
        input: As text; None when the span doesn't say.
        messages: The same in the OpenAI form, if it was messages.
        output: The text of the first answer.
        answers: All answers in the OpenAI form, if there were several or tools were called.
    """

    input: str | None
    messages: list[Message] | None
    output: str | None
    answers: list[Message] | None


def is_content(name: str) -> bool:
    """Tell whether an attribute of this name is part of a conversation."""
    return name in _CONTENT_NAMES or name.startswith((*_INPUT_PREFIXES, *_OUTPUT_PREFIXES))


def read_conversation(attributes: Attributes, events: Events) -> Conversation:
    """Find the conversation of a model call; of several tellings, the most exact one counts.

    Args:
        attributes: Those of the span.
        events: Its events, in order.

    Source: OpenTelemetry, Semantic Conventions for GenAI: client spans, with the schemas of
    `gen_ai.input.messages`, `gen_ai.output.messages` and `gen_ai.system_instructions`, and their
    versions 1.27 to 1.36, in which messages were events; OpenLLMetry, semantic conventions:
    `gen_ai.prompt.<n>`; OpenInference, semantic conventions: `llm.input_messages.<n>`.
    """
    for name, of_event in events:
        if name in _CONTENT_EVENTS:
            attributes = {**of_event, **attributes}
    messages = list(_find_input(attributes, events))
    answers = list(_find_output(attributes, events))
    raw_input = _first_text(attributes, (*_RAW_INPUTS, "gen_ai.input.messages"))
    raw_output = _first_text(attributes, (*_RAW_OUTPUTS, "gen_ai.output.messages"))
    is_plain = len(answers) < 2 and not any("tool_calls" in answer for answer in answers)  # noqa: PLR2004
    return Conversation(
        input=text_of_messages(messages) or raw_input if messages else raw_input,
        messages=messages or None,
        output=_answer_text(answers[0]) if answers else raw_output,
        answers=None if is_plain else answers,
    )


def _find_input(attributes: Attributes, events: Events) -> Iterable[Message]:
    told = _list_of(attributes.get("gen_ai.input.messages"))
    instructions = _list_of(attributes.get("gen_ai.system_instructions"))
    if told or instructions:
        system = [{"role": "system", "parts": instructions}] if instructions else []
        return _chat_messages([*system, *told], "user")
    for prefix in _INPUT_PREFIXES:
        if told := _indexed(attributes, prefix):
            return _chat_messages(told, "user")
    told = [
        {"role": _ROLES_OF_EVENTS[name], **_body_of(of_event)}
        for name, of_event in events
        if name in _ROLES_OF_EVENTS
    ]
    if told:
        return _chat_messages(told, "user")
    for name in _RAW_INPUTS:
        if told := _messages_in(attributes.get(name), "messages"):
            return _chat_messages(told, "user")
    return ()


def _find_output(attributes: Attributes, events: Events) -> Iterable[Message]:
    if told := _list_of(attributes.get("gen_ai.output.messages")):
        return _chat_messages(told, "assistant")
    for prefix in _OUTPUT_PREFIXES:
        if told := _indexed(attributes, prefix):
            return _chat_messages(told, "assistant")
    told = [_body_of(of_event) for name, of_event in events if name == "gen_ai.choice"]
    if told:
        return _chat_messages(told, "assistant")
    for name in _RAW_OUTPUTS:
        if told := _messages_in(attributes.get(name), "choices"):
            return _chat_messages(told, "assistant")
    return ()


def _body_of(event: Attributes) -> Message:
    """Return what an event says, whether as attributes, as a body or as JSON in one attribute."""
    body = {**event, **_object_of(event.get("gen_ai.event.content"))}
    return {**body, **_object_of(body.get("message"))}


def _messages_in(value: Any, holder: str) -> list[Message]:
    """Return the messages of a JSON text: an array of them, or a request or answer of OpenAI's."""
    parsed = _parsed(value)
    if isinstance(parsed, dict):
        parsed = parsed.get(holder)
    if not isinstance(parsed, list) or len(parsed) > _MAX_PARTS:
        return []
    told = [_object_of(part.get("message")) or part for part in parsed if isinstance(part, dict)]
    return [message for message in told if "role" in message]


def _indexed(attributes: Attributes, prefix: str) -> list[Message]:
    """Build a list of messages out of attributes such as `<prefix>0.role`."""
    tree: Message = {}
    for name, value in attributes.items():
        if name.startswith(prefix):
            *path, last = name.removeprefix(prefix).split(".", _MAX_NAME_PARTS)
            node = tree
            for part in path:
                inner = node.setdefault(part, {})
                if not isinstance(inner, dict):  # `a` is told beside `a.b`
                    inner = node[part] = {}
                node = inner
            node.setdefault(last, value)
    listed = _listed(tree)
    messages = listed if isinstance(listed, list) else []
    return [
        _object_of(message.get("message")) or message
        for message in messages
        if isinstance(message, dict)
    ]


def _listed(node: Any) -> Any:
    """Return a tree with lists in the place of objects whose names are all numbers."""
    if not isinstance(node, dict):
        return node
    parts = {name: _listed(part) for name, part in node.items()}
    if parts and all(_is_index(name) for name in parts):
        return [parts[name] for name in sorted(parts, key=int)]
    return parts


def _is_index(name: str) -> bool:
    return name.isascii() and name.isdigit() and len(name) <= _MAX_INDEX_DIGITS


def _chat_messages(told: Iterable[Any], role: str) -> Iterator[Message]:
    for message in told:
        if isinstance(message, dict):
            yield from _chat_message(message, role)


def _chat_message(told: Message, default_role: str) -> Iterator[Message]:
    """Yield one message in the OpenAI form, after the tool results that it holds."""
    role = told.get("role")
    role = role if isinstance(role, str) and role else default_role
    parts = _parts_of(told)
    shown = [part for part in parts if part.get("type") not in _TOOL_PARTS]
    results = [part for part in parts if part.get("type") == "tool_call_response"]
    for part in results:
        result = part.get("response", part.get("result"))
        yield {"role": "tool", "tool_call_id": _text(part.get("id")), "content": _text(result)}
    asked = [part for part in parts if part.get("type") == "tool_call"]
    calls = [_tool_call(call) for call in [*asked, *_list_of(told.get("tool_calls"))]]
    if results and not shown and not calls:
        return
    message: Message = {"role": role, "content": _content_of(told, shown)}
    if calls:
        message["tool_calls"] = calls
    if isinstance(told.get("name"), str):
        message["name"] = told["name"]
    call_id = told.get("tool_call_id") or (told.get("id") if role == "tool" else None)
    if call_id:
        message["tool_call_id"] = _text(call_id)
    yield message


def _parts_of(told: Message) -> list[Message]:
    for name in ("parts", "contents", "content"):
        if isinstance(told.get(name), list | dict) or (
            name == "content" and str(told.get(name)).startswith('[{"type"')
        ):
            found = [part for part in _list_of(told[name]) if isinstance(part, dict)]
            return [_object_of(part.get("message_content")) or part for part in found]
    return []


def _content_of(told: Message, parts: Sequence[Message]) -> str | list[Message] | None:
    if not parts:
        content = told.get("content")
        return None if content is None or isinstance(content, list | dict) else _text(content)
    written = [_chat_part(part) for part in parts if part.get("type") != "reasoning"]
    if all(part["type"] == "text" for part in written):
        return "\n".join(part["text"] for part in written) if written else None
    return written


def _chat_part(part: Message) -> Message:
    """Return a part of a message in the OpenAI form; one that has none there as text."""
    kind = part.get("type")
    text = part.get("text", part.get("content"))
    if kind in _TEXT_PARTS and isinstance(text, str):
        return {"type": "text", "text": text}
    url = _image_url(part) if kind in _IMAGE_PARTS else None
    if url is not None:
        return {"type": "image_url", "image_url": {"url": url}}
    return {"type": "text", "text": _text(part)}


def _image_url(part: Message) -> str | None:
    if part.get("type") == "blob" and part.get("modality") == "image":
        return f"data:{part.get('mime_type') or 'image/*'};base64,{_text(part.get('content'))}"
    if part.get("type") == "uri" and part.get("modality") == "image":
        return _text(part.get("uri"))
    image = _object_of(part.get("image"))
    image = _object_of(image.get("image")) or image or _object_of(part.get("image_url"))
    url = image.get("url")
    return url if isinstance(url, str) else None


def _tool_call(told: Any) -> Message:
    call = _object_of(told)
    call = _object_of(call.get("tool_call")) or call
    function = _object_of(call.get("function")) or call
    arguments = function.get("arguments")
    return {
        "id": _text(call.get("id")),
        "type": "function",
        "function": {
            "name": _text(function.get("name")),
            "arguments": "{}" if arguments is None else _text(arguments),
        },
    }


def _answer_text(answer: Message) -> str | None:
    content = answer["content"]
    if content is None or isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part["type"] == "text") or None


def _first_text(attributes: Attributes, names: Iterable[str]) -> str | None:
    values = (attributes.get(name) for name in names)
    return next((_text(value) for value in values if value not in (None, "")), None)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else orjson.dumps(value).decode()


def _list_of(value: Any) -> list[Any]:
    parsed = _parsed(value)
    if isinstance(parsed, dict):
        return [parsed]
    return parsed if isinstance(parsed, list) and len(parsed) <= _MAX_PARTS else []


def _object_of(value: Any) -> Message:
    parsed = _parsed(value)
    return parsed if isinstance(parsed, dict) else {}


def _parsed(value: Any) -> Any:
    """Return a value, or what it says if it is JSON as text, and not too deep to be kept."""
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[")):
        return value
    try:
        parsed = orjson.loads(value.replace("\\u0000", "\\ufffd"))  # no NUL can be stored
        if value.count("{") + value.count("[") > MAX_JSON_DEPTH:
            deque(iter_scalars(parsed), maxlen=0)
    except ValueError:
        return value
    return parsed
