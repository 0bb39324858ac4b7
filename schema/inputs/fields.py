"""From a GraphQL input to the fields that a use case's own input is checked from."""

import dataclasses
from enum import Enum
from typing import Any

from strawberry import UNSET


def given_fields(value: Any, *, without: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return the fields of an input that were given, with enums as their values.

    Args:
        value: A Strawberry input.
        without: Fields that are not the use case's.
    """
    return {
        field.name: _plain(given)
        for field in dataclasses.fields(value)
        if field.name not in without and (given := getattr(value, field.name)) is not UNSET
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value):
        return given_fields(value)
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value
