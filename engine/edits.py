"""Labels and corrections of rows: what each field may be, and what a row is with them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from engine.rows import DatasetRow

MAX_WEIGHT: Final = 1_000.0
MAX_TAGS: Final = 100


class EditField(StrEnum):
    """What of a row can be edited."""

    INPUT = "input"
    EXPECTED = "expected"
    RUBRIC = "rubric"
    TAGS = "tags"
    QUALITY = "quality"
    WEIGHT = "weight"
    EXCLUDED = "excluded"


class EditOrigin(StrEnum):
    """Who says so; the earlier ones have the last word."""

    HUMAN = "human"
    IMPROVEMENT = "improvement"
    MODEL = "model"


_PRECEDENCE: Final = list(EditOrigin)


@dataclass(frozen=True, slots=True)
class Edit:
    """What one field of a row is to be.

    Attributes:
        number: Later edits of the same origin win.
        value: None takes the field away, and of `excluded`, `weight` and `input` the edit back.
        provenance: Which model, prompt and run; shown with the row.
    """

    number: int
    field: EditField
    value: Any
    origin: EditOrigin
    provenance: Mapping[str, Any]


def find_value_problem(field: EditField, value: Any) -> str | None:
    """Return why *field* can't be *value*, or None when it can."""
    if value is None:
        return None
    match field:
        case EditField.INPUT:
            is_good = isinstance(value, str) and bool(value.strip())
            return None if is_good else "must be a text that is not blank"
        case EditField.EXPECTED | EditField.RUBRIC:
            return None if isinstance(value, str) else "must be a text"
        case EditField.TAGS:
            is_good = isinstance(value, list) and all(isinstance(tag, str) for tag in value)
            if not is_good:
                return "must be an array of texts"
            return None if len(value) <= MAX_TAGS else f"must be at most {MAX_TAGS} tags"
        case EditField.QUALITY:
            return None if _is_number(value) and 0 <= value <= 1 else "must be 0 to 1"
        case EditField.WEIGHT:
            is_good = _is_number(value) and 0 <= value <= MAX_WEIGHT
            return None if is_good else f"must be 0 to {MAX_WEIGHT:g}"
        case EditField.EXCLUDED:
            return None if isinstance(value, bool) else "must be true or false"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _as_field(name: EditField, value: Any) -> Any:
    if name is EditField.TAGS:
        return tuple(value or ())
    if name in {EditField.QUALITY, EditField.WEIGHT} and value is not None:
        return float(value)
    return value


def effective_edits(edits: Iterable[Edit]) -> dict[EditField, Edit]:
    """Return the edit of each field that has the last word.

    A person's stands above what an accepted improvement says, and that above a labelling model,
    whichever came later; of one origin the latest counts.
    """
    last: dict[EditField, Edit] = {}
    for edit in edits:
        present = last.get(edit.field)
        if present is None or _rank(edit) > _rank(present):
            last[edit.field] = edit
    return last


def _rank(edit: Edit) -> tuple[int, int]:
    return -_PRECEDENCE.index(edit.origin), edit.number


def apply_edits(row: DatasetRow, edits: Iterable[Edit]) -> DatasetRow | None:
    """Return *row* with its edits, or None when it is excluded.

    Each edited field says in `labels` who gave it its value.
    """
    last = effective_edits(edits)
    excluded = last.pop(EditField.EXCLUDED, None)
    if excluded is not None and excluded.value:
        return None
    changes: dict[str, Any] = {}
    labels: dict[str, Any] = {}
    for name, edit in last.items():
        if edit.value is None and name in {EditField.INPUT, EditField.WEIGHT}:
            continue
        changes[name.value] = _as_field(name, edit.value)
        labels[name.value] = {"origin": edit.origin.value, **edit.provenance}
    if EditField.INPUT in changes:
        changes["messages"] = None  # they say what the input was
    return replace(row, **changes, labels={**row.labels, **labels})
