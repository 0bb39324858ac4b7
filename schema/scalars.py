"""How GraphQL's own values become ours."""

from dataclasses import replace
from datetime import datetime
from typing import Final
from uuid import UUID

import strawberry
from strawberry.exceptions import StrawberryInputCoercionError
from strawberry.schema.types.base_scalars import DateTimeDefinition
from strawberry.types.scalar import ScalarDefinition

from resolvers.errors import InvalidInputError


def _read_instant(value: object) -> object:
    try:
        return DateTimeDefinition.parse_value(value)  # type: ignore[misc]
    except OverflowError as error:
        raise StrawberryInputCoercionError(
            f'Value cannot represent a DateTime: "{value}". {error}'
        ) from error


# Strawberry's own fails at the midnight that ends the year 9999.
INSTANTS: Final[dict[object, ScalarDefinition]] = {
    datetime: replace(DateTimeDefinition, parse_value=_read_instant)
}


def read_id(name: str, value: strawberry.ID) -> UUID:
    """Return the UUID that an ID argument holds.

    Raises:
        InvalidInputError: It holds none.
    """
    try:
        return UUID(value)
    except ValueError as error:
        raise InvalidInputError(f"{name}: {value!r} is not a UUID") from error


def read_optional_id(name: str, value: strawberry.ID | None) -> UUID | None:
    """Return the UUID that an ID argument holds, or None when it is not given."""
    return None if value is None else read_id(name, value)
