"""How GraphQL's own values become ours."""

from uuid import UUID

import strawberry

from resolvers.errors import InvalidInputError


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
