"""What the chunks of a streamed answer add up to."""

from collections.abc import Mapping
from typing import Any

from providers.base import ChatAnswer, ChatTarget
from providers.chat_answers import build_answer

# These are said once, or again and again, and never in parts.
WHOLE_TEXTS = frozenset({"id", "type", "role", "name", "format", "model", "finish_reason"})
# Of these, what is no part of what a model says.
_LABELS = WHOLE_TEXTS - {"name"} | {"data", "url", "signature", "encrypted_content"}
# Deeper than anything that is sent in parts: what lies below is replaced.
DEEPEST = 8


class ChatTally:
    """Folds `chat.completion.chunk` objects into the completion that they are parts of.

    Texts grow, lists grow or are merged by their items' `index`, objects are merged, and of
    anything else the last value counts. Fields that nobody has heard of are kept. Each chunk takes
    time in proportion to its own size.

    Args:
        target: Who answers, and at what price.

    Source: https://platform.openai.com/docs/api-reference/chat-streaming.
    """

    def __init__(self, target: ChatTarget) -> None:
        self._target = target
        self._fields: dict[str, Any] = {}
        self._choices: dict[Any, dict[str, Any]] = {}

    def add(self, chunk: Mapping[str, Any]) -> None:
        """Add the next chunk."""
        for name, value in chunk.items():
            if value is not None and name not in {"choices", "object"}:
                self._fields[name] = value
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                index = choice.get("index")
                index = index if isinstance(index, int) else 0
                _merge(self._choices.setdefault(index, {"index": index}), choice, DEEPEST)

    @property
    def text(self) -> str:
        """What the first choice says so far."""
        delta = self._choices.get(0, {}).get("delta")
        content = delta.get("content") if isinstance(delta, dict) else None
        if isinstance(content, _Parts):
            return "".join(content)
        return content if isinstance(content, str) else ""

    @property
    def generated_bytes(self) -> int:
        """How many bytes of text the model has generated so far, as UTF-8.

        All choices count, and in each what is said, thought, refused and called.
        """
        return sum(map(_generated_bytes, self._choices.values()))

    def answer(self) -> ChatAnswer:
        """Return what has come so far as an answer; the last chunk tells what it costs."""
        choices = [_as_message(self._choices[index]) for index in sorted(self._choices)]
        completion = {**self._fields, "object": "chat.completion", "choices": choices}
        return build_answer(self.text, completion, completion, self._target)


def _generated_bytes(choice: dict[str, Any]) -> int:
    message = _as_message(choice)["message"]
    # Which many tell by two names, as a text and in detail.
    thoughts = {name: message[name] for name in message if name.startswith("reasoning")}
    others = {name: message[name] for name in message if name not in thoughts}
    return _text_bytes(others) + max(map(_text_bytes, thoughts.values()), default=0)


def _text_bytes(value: Any) -> int:
    total = 0
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, str):
            total += len(each.encode("utf-8", "surrogatepass"))
        elif isinstance(each, list):
            left += each
        elif isinstance(each, dict):
            left += [part for name, part in each.items() if name not in _LABELS]
    return total


class _Parts(list[str]):
    """The parts of a text: joined once, since joining at each would be quadratic."""


class _Items(list[Any]):
    """A list that grows, and where in it the items are that have an index."""

    def __init__(self) -> None:
        super().__init__()
        self.places: dict[int, int] = {}


def _merge(into: dict[str, Any], delta: Mapping[str, Any], depth: int) -> None:
    for name, value in delta.items():
        into[name] = _merged(name, into.get(name), value, depth)


def _merged(name: str, old: Any, value: Any, depth: int) -> Any:
    """Return *old* with *value* added; what is not of ours is never changed."""
    if value is None:
        return old
    if isinstance(value, str):
        if name in WHOLE_TEXTS:
            return old or value
        if isinstance(old, _Parts):
            old.append(value)
            return old
        return _Parts([old, value]) if isinstance(old, str) else value
    if depth and isinstance(value, dict):
        fields = old if isinstance(old, dict) else {}
        _merge(fields, value, depth - 1)
        return fields
    if depth and isinstance(value, list):
        items = old if isinstance(old, _Items) else _Items()
        for item in value:
            _add_item(items, item, depth - 1)
        return items
    return value


def _add_item(items: _Items, item: Any, depth: int) -> None:
    index = item.get("index") if isinstance(item, dict) else None
    if isinstance(index, int) and index in items.places:
        place = items.places[index]
        items[place] = _merged("", items[place], item, depth)
        return
    if isinstance(index, int):
        items.places[index] = len(items)
    items.append(_merged("", None, item, depth))


def _as_message(choice: dict[str, Any]) -> dict[str, Any]:
    """Return a choice as a completion has it: with a message, whose tool calls have no index."""
    finished = _finished(choice, DEEPEST + 1)
    delta = finished.pop("delta", None)
    message = {"role": "assistant", "content": None, **(delta if isinstance(delta, dict) else {})}
    calls = message.get("tool_calls")
    if isinstance(calls, list):
        calls = sorted((each for each in calls if isinstance(each, dict)), key=_index)
        message["tool_calls"] = [
            {name: call[name] for name in call if name != "index"} for call in calls
        ]
    return {**finished, "message": message}


def _index(call: Mapping[str, Any]) -> int:
    index = call.get("index")
    return index if isinstance(index, int) else 0


def _finished(value: Any, depth: int) -> Any:
    """Return *value* with its texts joined, as deep as there can be any in parts."""
    if isinstance(value, _Parts):
        return "".join(value)
    if depth and isinstance(value, dict):
        return {name: _finished(each, depth - 1) for name, each in value.items()}
    if depth and isinstance(value, list):
        return [_finished(each, depth - 1) for each in value]
    return value
