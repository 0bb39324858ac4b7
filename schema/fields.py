"""How fields that are computed are declared."""

from collections.abc import Callable, Sequence
from typing import Any

import strawberry

from compiled_graphql.batch import BatchResolver, for_each_parent, metadata


def resolved(resolver: Callable[..., Any], description: str, *, needs: Sequence[str] = ()) -> Any:
    """Declare a field that *resolver* answers, with a source of the annotated type.

    Strawberry takes the GraphQL type from the class's annotation; the resolver
    returns the row, or the plain object, that stands behind it. No type checker
    can relate the two, so the field is Any to it: the tests over the whole
    schema are the check.

    Args:
        resolver: Takes one source, as `root`, or none.
        description: For API users.
        needs: The columns of its source that the resolver reads, beside `id`.
    """
    return strawberry.field(
        resolver=resolver, description=description, metadata=metadata(needs=needs)
    )


def batched(resolver: BatchResolver, description: str, *, needs: Sequence[str] = ()) -> Any:
    """Declare a field that *resolver* answers for all its parents at once.

    Args:
        resolver: Takes the sources, in a list, and returns a value for each.
        description: For API users.
        needs: The columns of its sources that the resolver reads, beside `id`.
    """
    return strawberry.field(
        resolver=for_each_parent(resolver),
        description=description,
        metadata=metadata(needs=needs, batch=resolver),
    )
