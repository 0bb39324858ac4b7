"""How a field that is computed is declared."""

from collections.abc import Callable
from typing import Any

import strawberry


def resolved(resolver: Callable[..., Any], description: str) -> Any:
    """Declare a field that *resolver* answers, with a source of the annotated type.

    Strawberry takes the GraphQL type from the class's annotation; the resolver
    returns the row, or the plain object, that stands behind it. No type checker
    can relate the two, so the field is Any to it: the tests over the whole
    schema are the check.
    """
    return strawberry.field(resolver=resolver, description=description)
