"""How fields that are computed are declared."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import strawberry

from compiled_graphql.batch import BatchResolver, for_each_parent, metadata
from compiled_graphql.selection import selected_names
from schema.context import Info


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


def referred(
    find: Callable[..., Awaitable[Sequence[Any]]], type_name: str, column: str, description: str
) -> Any:
    """Declare a field that is what a column of its source refers to.

    Args:
        find: Takes a context, ids and the columns that are wanted; returns a row, or None, for
            each id.
        type_name: The object type that stands for the rows.
        column: Has their ids.
        description: For API users.
    """

    async def resolve(roots: Sequence[Any], info: Info) -> Sequence[Any]:
        ids = [getattr(root, column) for root in roots]
        return await find(info.context.ctx, ids, selected_names(info, type_name))

    return batched(resolve, description, needs=[column])
