"""Dataset rows: from whatever a client pushed to one checked form, its line and its hash."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from engine.canonical import canonical_json, fold_text, iter_scalars
from engine.prompts import text_of_messages

FIELD_ALIASES: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "example_id", "trace_id"),
    "input": ("input", "prompt", "question", "query"),
    "expected": ("output", "response", "completion", "answer", "expected"),
    "messages": ("messages",),
    "rubric": ("rubric",),
    "metadata": ("metadata",),
    "tags": ("tags",),
}
"""The published names of each field of a row; the first that is present and not null wins."""

ROW_HOLDERS = ("rows", "events", "samples")
"""The published names of the array in a push that is an object."""

_INPUT_NAMES = (*FIELD_ALIASES["input"], *FIELD_ALIASES["messages"])
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # PostgreSQL text and jsonb hold neither
_KINDS: Mapping[type, str] = {
    type(None): "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "an array",
    tuple: "an array",
    dict: "an object",
}
_SEEN_NAMES_SHOWN = 20
_SEEN_NAME_CHARS_SHOWN = 50


class RowError(Exception):
    """A row that can't be taken.

    Attributes:
        code: `not_an_object`, `no_usable_field`, `wrong_type`, `empty_input` or `invalid_text`.
        message: What is wrong, naming the field.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """One example: what goes in, and what is known about what should come out.

    Attributes:
        quality: How good an example it is, 0 to 1, where somebody said so.
        weight: How likely a weighted draw takes it, against others.
        labels: Who gave a field its value after the row came: by field, its origin and more.
    """

    input: str
    expected: str | None = None
    messages: list[dict[str, Any]] | None = None
    rubric: str | None = None
    external_id: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    quality: float | None = None
    weight: float = 1.0
    labels: dict[str, Any] = field(default_factory=dict)


def normalize_row(value: object) -> DatasetRow:
    """Check one row as pushed or downloaded, and bring it to its one form.

    Expected outputs and ids that aren't text become their canonical JSON; a blank id is no
    id, since it would make every such row a duplicate of the first. Unknown fields are ignored.

    Args:
        value: One parsed JSON value. Its fields may go by any of `FIELD_ALIASES`.

    Returns:
        The row. Its `input` is never blank.

    Raises:
        RowError: `not_an_object`; `no_usable_field` when there is neither an input nor
            messages; `wrong_type` when a field isn't what it should be or isn't JSON;
            `empty_input`; `invalid_text` for NUL characters and unpaired surrogates.
    """
    if not isinstance(value, dict):
        raise RowError("not_an_object", f"a row is a JSON object, not {_kind(value)}")
    fields = {name: _first_present(value, aliases) for name, aliases in FIELD_ALIASES.items()}
    messages = _checked_messages(*fields["messages"])
    external_id = _as_text(*fields["id"])
    return DatasetRow(
        input=_checked_input(value, *fields["input"], messages),
        expected=_as_text(*fields["expected"]),
        messages=messages or None,
        rubric=_checked_str(*fields["rubric"]),
        external_id=external_id if external_id and external_id.strip() else None,
        metadata=_checked_metadata(*fields["metadata"]),
        tags=_checked_tags(*fields["tags"]),
    )


def find_names(value: Mapping[str, Any]) -> dict[str, str]:
    """Return by which of its own names a row gives each of our fields that it has."""
    present = {name: _first_present(value, aliases) for name, aliases in FIELD_ALIASES.items()}
    return {name: theirs for name, (theirs, found) in present.items() if found is not None}


def row_line(row: DatasetRow) -> bytes:
    """Encode a row as one line of a snapshot.

    Args:
        row: The row.

    Returns:
        Canonical JSON without a newline, with the fields `id`, `input`, `expected`,
        `messages`, `rubric`, `metadata`, `tags`, `quality`, `weight` and `labels` that the row
        has. `read_line` makes it the same row again.

    Raises:
        ValueError: The row was not made by `normalize_row` and holds no JSON value.
    """
    fields = {
        "id": row.external_id,
        "input": row.input,
        "expected": row.expected,
        "messages": row.messages,
        "rubric": row.rubric,
        "metadata": row.metadata or None,
        "tags": row.tags or None,
        "quality": row.quality,
        "weight": None if row.weight == 1 else row.weight,
        "labels": row.labels or None,
    }
    return canonical_json({name: value for name, value in fields.items() if value is not None})


def read_line(line: bytes) -> DatasetRow:
    """Return the row that `row_line` wrote.

    Raises:
        RowError: The line was written by somebody else.
    """
    value = orjson.loads(line)
    row = normalize_row(value)
    own = {name: value[name] for name in ("quality", "weight", "labels") if name in value}
    return replace(row, **own) if own else row


def row_hash(row: DatasetRow) -> bytes:
    """Digest what makes two rows duplicates: their input and expected output.

    Letter case, white space and Unicode compatibility forms don't count; a row without an
    expected output differs from one whose expected output is empty.

    Args:
        row: The row.

    Returns:
        A BLAKE2b digest of 16 bytes.
    """
    expected = None if row.expected is None else fold_text(row.expected)
    content = canonical_json([fold_text(row.input), expected])
    return hashlib.blake2b(content, digest_size=16).digest()


def row_key(row: DatasetRow, content_hash: bytes | None = None) -> bytes:
    """Say who a row is, so that it is found again in later snapshots and under labels.

    A row is its id, whatever else changes about it; one without an id is its content.

    Args:
        row: The row as its source gave it, before any edit.
        content_hash: Its `row_hash`, when that is known already.

    Returns:
        16 bytes.
    """
    if row.external_id is None:
        return content_hash if content_hash is not None else row_hash(row)
    return id_key(row.external_id)


def id_key(external_id: str) -> bytes:
    """Say who the row with an id is."""
    return hashlib.blake2b(external_id.encode(), digest_size=16, person=b"row id").digest()


def repeated_key(content_hash: bytes, earlier: int) -> bytes:
    """Say who a row is that has no id, and the same content as *earlier* rows before it."""
    if earlier == 0:
        return content_hash
    repeat = content_hash + earlier.to_bytes(8, "big")
    return hashlib.blake2b(repeat, digest_size=16, person=b"repeat").digest()


def rows_of_payload(payload: object) -> list[Any]:
    """Return the rows of a push: one row, an array of rows, or an object that holds such an array.

    Args:
        payload: Parsed JSON.

    Returns:
        The rows as they came, at least one.

    Raises:
        RowError: `not_rows`: it is none of these, or holds no row.
    """
    if isinstance(payload, dict):
        holders = [name for name in ROW_HOLDERS if isinstance(payload.get(name), list)]
        is_row = any(payload.get(name) is not None for name in _INPUT_NAMES)
        if is_row or not holders:
            return [payload]
        unknown = sorted(set(payload) - {holders[0]})
        if unknown:
            raise RowError("not_rows", f"{unknown[0]}: unknown field beside {holders[0]}")
        payload = payload[holders[0]]
    if not isinstance(payload, list):
        raise RowError("not_rows", f"a push is a row or an array of rows, not {_kind(payload)}")
    if not payload:
        raise RowError("not_rows", "there are no rows in it")
    return payload


def _first_present(value: Mapping[str, Any], aliases: tuple[str, ...]) -> tuple[str, Any]:
    """Return the alias in use and its value, or the first alias and None."""
    for alias in aliases:
        found = value.get(alias)
        if found is not None:
            return alias, found
    return aliases[0], None


def _checked_input(
    row: dict[str, Any], name: str, value: Any, messages: list[dict[str, Any]] | None
) -> str:
    if value is None and messages is None:
        accepted = ", ".join((*FIELD_ALIASES["input"], *FIELD_ALIASES["messages"]))
        raise RowError(
            "no_usable_field", f"a row needs one of {accepted}; this one has {_names_of(row)}"
        )
    if value is None:
        name, text = "messages", text_of_messages(messages or [])
    else:
        text = _checked_str(name, value) or ""
    if not text.strip():
        raise RowError("empty_input", f"{name} holds no text")
    return text


def _checked_str(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise RowError("wrong_type", f"{name} must be a string, not {_kind(value)}")
    _check_storable(name, value)
    return value


def _as_text(name: str, value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return _checked_str(name, value)
    _check_json(name, value)
    return canonical_json(value).decode()


def _checked_messages(name: str, value: Any) -> list[dict[str, Any]] | None:
    if value is None:
        return None
    if not isinstance(value, list):
        raise RowError("wrong_type", f"{name} must be an array, not {_kind(value)}")
    for index, message in enumerate(value):
        where = f"{name}[{index}]"
        if not isinstance(message, dict):
            raise RowError("wrong_type", f"{where} must be an object, not {_kind(message)}")
        if not isinstance(message.get("role"), str):
            raise RowError(
                "wrong_type", f"{where}.role must be a string, not {_kind(message.get('role'))}"
            )
        if not isinstance(message.get("content"), str | list | None):
            raise RowError(
                "wrong_type",
                f"{where}.content must be a string, an array of parts or null,"
                f" not {_kind(message['content'])}",
            )
    _check_json(name, value)
    return value


def _checked_metadata(name: str, value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RowError("wrong_type", f"{name} must be an object, not {_kind(value)}")
    _check_json(name, value)
    return value


def _checked_tags(name: str, value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise RowError("wrong_type", f"{name} must be an array of strings, not {_kind(value)}")
    for index, tag in enumerate(value):
        if not isinstance(tag, str):
            raise RowError("wrong_type", f"{name}[{index}] must be a string, not {_kind(tag)}")
        _check_storable(name, tag)
    return tuple(value)


def _check_json(name: str, value: Any) -> None:
    """Check a value as it will stand in the row's line, one level down."""
    in_line = {name: value}
    try:
        for scalar in iter_scalars(in_line):
            if isinstance(scalar, str):
                _check_storable(name, scalar)
        canonical_json(in_line)
    except ValueError as error:
        raise RowError("wrong_type", f"{name} can't be kept as JSON: {error}") from error


def _check_storable(name: str, text: str) -> None:
    if text.isascii() and "\x00" not in text:
        return
    if found := _UNSTORABLE.search(text):
        what = "a NUL character" if found.group() == "\x00" else "an unpaired surrogate"
        raise RowError("invalid_text", f"{name} holds {what} at position {found.start()}")


def _names_of(row: dict[str, Any]) -> str:
    """Name a row's fields; repr, because the names may hold what can't be stored."""
    shown = [repr(str(name)[:_SEEN_NAME_CHARS_SHOWN]) for name in list(row)[:_SEEN_NAMES_SHOWN]]
    more = len(row) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "") if shown else "no fields"


def _kind(value: object) -> str:
    return _KINDS.get(type(value), f"a Python {type(value).__name__}")
