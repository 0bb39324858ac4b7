"""Labels by models: what a row lacks of them, what a reply amounts to, and what it may change."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from engine.edits import Edit, EditField, EditOrigin, effective_edits, find_value_problem
from engine.json_replies import UNSTORABLE, ReplyError, read_json_object, shown
from engine.rows import DatasetRow

MAX_LABEL_CHARACTERS: Final = 100_000
"""Of one text that a model gives: far more than a label takes."""

MAX_TAG_CHARACTERS: Final = 200


def find_wanted(
    row: DatasetRow, fields: Sequence[EditField], *, replaces: bool
) -> tuple[EditField, ...]:
    """Return those of *fields* that a labelling model is to fill in.

    They are those without a value, and with *replaces* those that a model gave their value. What
    the row came with, and what a person or an accepted improvement said, be it that there is no
    value, is not among them.
    """
    return tuple(field for field in fields if _is_wanted(row, field, replaces=replaces))


def _is_wanted(row: DatasetRow, field: EditField, *, replaces: bool) -> bool:
    label = row.labels.get(field.value)
    has_value = getattr(row, field.value) not in {None, ()}
    if label is None:
        return not has_value
    return label["origin"] == EditOrigin.MODEL and (replaces or not has_value)


def find_open(
    fields: Iterable[EditField], edits: Iterable[Edit], *, seen: int, replaces: bool
) -> frozenset[EditField]:
    """Return those of *fields* of a row that a label may still be stored for.

    Args:
        fields: What the model was asked for.
        edits: All of the row's, at the moment of storing.
        seen: The number of the newest edit in what the model was shown. A label of an input that
            was corrected since is none of the row's.
        replaces: Whether what a model said earlier is replaced.
    """
    last = effective_edits(edits)
    corrected = last.get(EditField.INPUT)
    if corrected is not None and corrected.number > seen:
        return frozenset()
    return frozenset(field for field in fields if _is_open(last.get(field), replaces=replaces))


def _is_open(edit: Edit | None, *, replaces: bool) -> bool:
    if edit is None:
        return True
    return edit.origin is EditOrigin.MODEL and (replaces or edit.value is None)


def read_labels(text: str, fields: Sequence[EditField]) -> Mapping[EditField, Any]:
    """Read the reply to `label_messages`.

    The whole reply must be one JSON object of exactly *fields*; white space and one code fence may
    surround it. So a reply that repeats labels which a row made up, beside the model's own, is
    refused rather than taken for either.

    Args:
        text: The reply.
        fields: What was asked for.

    Returns:
        The labels; what the model could not tell, or left blank, is not among them.

    Raises:
        ReplyError: The reply is anything else, or one of its values can't be a label.
    """
    reply = read_json_object(text)
    names = [field.value for field in fields]
    if reply.keys() != set(names):
        found = shown(", ".join(reply))
        raise ReplyError(f"the keys must be {', '.join(names)}, not {found}")
    labels = {field: _read_value(field, reply[field.value]) for field in fields}
    return {field: value for field, value in labels.items() if value not in (None, "", [])}


def _read_value(field: EditField, value: Any) -> Any:
    problem = find_value_problem(field, value) or _find_text_problem(value)
    if problem is not None:
        raise ReplyError(f"{field.value} {problem}, not {shown(value)}")
    if isinstance(value, list):
        tags = dict.fromkeys(tag.strip() for tag in value)
        return [tag for tag in tags if tag]
    return value.strip() if isinstance(value, str) else value


def _find_text_problem(value: Any) -> str | None:
    """Return why the texts of a label can't be stored, or None when they can."""
    parts = value if isinstance(value, list) else [value]
    texts = [part for part in parts if isinstance(part, str)]
    most = MAX_TAG_CHARACTERS if isinstance(value, list) else MAX_LABEL_CHARACTERS
    if any(len(text) > most for text in texts):
        return f"must be at most {most} characters long"
    if any(UNSTORABLE.search(text) for text in texts):
        return "must hold no NUL characters and no unpaired surrogates"
    return None
