"""What generated code calls for the values that are not the usual ones."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from graphql import (
    GraphQLAbstractType,
    GraphQLError,
    GraphQLObjectType,
    Undefined,
    default_type_resolver,
)
from graphql.execution.executor import invalid_return_type_error
from graphql.pyutils import inspect, is_iterable
from strawberry.execution import optimized_is_awaitable as is_awaitable

from compiled_graphql.execution import Execution, abandon
from compiled_graphql.fields import Field, ResolveInfo
from compiled_graphql.places import Place

Complete = Callable[[Any, "Place | None", Execution], Any]


def raw_info(run: Execution, field: Field, container: Place | None) -> ResolveInfo:
    """Return the `info` of resolvers that are not Strawberry's."""
    return ResolveInfo(run, field, container)


def no_null(field: Field) -> TypeError:
    """Return the error of a value that must not be null."""
    return TypeError(
        f"Cannot return null for non-nullable field {field.parent_type.name}.{field.name}."
    )


def no_list(field: Field) -> GraphQLError:
    """Return the error of a value that should have been a list."""
    return GraphQLError(
        "Expected Iterable, but did not find one for field "
        f"'{field.parent_type.name}.{field.name}'."
    )


def is_special(value: Any) -> bool:
    """Tell whether a list's item is anything but the source of an object."""
    return (
        value is None or value is Undefined or isinstance(value, Exception) or is_awaitable(value)
    )


def special_item(value: Any, place: Place, run: Execution, field: Field, complete: Complete) -> Any:
    """Complete an item, now or when it comes."""
    if is_awaitable(value):
        run.start(value, complete, field, place)
        return None
    return complete(value, place, run)


def item_failed(
    error: Exception,
    run: Execution,
    field: Field,
    at: Place | None,
    out: list[Any],
    items: Iterator[Any],
    *,
    null: bool,
) -> None:
    """Answer null for an item that failed.

    Raises:
        GraphQLError: The item can't be null, so that the list fails.
    """
    try:
        run.item_failed(error, field, at, out, null=null)
    except GraphQLError:
        abandon(items)
        raise


def later_list(value: Any, at: Place, run: Execution, field: Field, complete: Complete) -> None:
    """Complete an async iterable once it has ended, what it gave before an error included."""
    taken: list[Any] = []
    ended: list[Exception] = []

    async def take() -> list[Any]:
        try:
            async for item in value:
                taken.append(item)  # noqa: PERF401 - what came before an error counts
        except Exception as error:  # noqa: BLE001 - raised once the items are completed
            ended.append(error)
        return taken

    def complete_taken(items: Any, place: Place | None, run: Execution) -> Any:
        completed = complete(items, place, run)
        if ended:
            raise ended[0]
        return completed

    run.start(take(), complete_taken, field, at)


def of_checked_type(
    value: Any,
    at: Place,
    run: Execution,
    field: Field,
    type_: GraphQLObjectType,
    make: Complete,
) -> Any:
    """Make an object of *value* if `is_type_of` says that it is one of *type_*.

    Raises:
        GraphQLError: It is not.
    """

    def checked(is_one: Any, place: Place | None, run: Execution) -> Any:
        if not is_one:
            raise invalid_return_type_error(type_, value, field.details)
        return make(value, place, run)

    is_type_of: Any = type_.is_type_of
    return _now_or_later(is_type_of(value, ResolveInfo(run, field, at[0])), checked, at, run, field)


def of_resolved_type(
    value: Any,
    at: Place,
    run: Execution,
    field: Field,
    type_: GraphQLAbstractType,
    complete_as: Mapping[str, Complete],
) -> Any:
    """Complete *value* as the object type that its abstract type resolves it to.

    Raises:
        GraphQLError: It resolves to none that is possible.
    """

    def resolved(name: Any, place: Place | None, run: Execution) -> Any:
        complete = complete_as.get(name) if isinstance(name, str) else None
        if complete is None:
            raise _impossible_type(name, value, run, field, type_)
        return complete(value, place, run)

    resolve_type = type_.resolve_type or default_type_resolver
    info: Any = ResolveInfo(run, field, at[0])
    name = resolve_type(value, info, type_)
    return _now_or_later(name, resolved, at, run, field)


def _now_or_later(
    answer: Any | Awaitable[Any], go_on: Complete, at: Place, run: Execution, field: Field
) -> Any:
    if is_awaitable(answer):
        run.start(answer, go_on, field, at)
        return None
    return go_on(answer, at, run)


def _impossible_type(
    name: Any, value: Any, run: Execution, field: Field, type_: GraphQLAbstractType
) -> GraphQLError:
    """Return graphql-core's error for a type that *value* can't have."""
    where = f"field '{field.parent_type.name}.{field.name}'"
    schema = run.plan.schema
    if name is None:
        message = (
            f"Abstract type '{type_}' must resolve to an Object type at runtime for {where}. "
            f"Either the '{type_}' type should provide a 'resolve_type' function or each "
            "possible type should provide an 'is_type_of' function."
        )
    elif not isinstance(name, str):
        message = (
            f"Abstract type '{type_}' must resolve to an Object type at runtime for {where} "
            f"with value {inspect(value)}, received '{inspect(name)}', which is not a valid "
            "Object type name."
        )
    elif schema.get_type(name) is None:
        message = (
            f"Abstract type '{type_}' was resolved to a type '{name}' that does not exist "
            "inside the schema."
        )
    elif not isinstance(schema.get_type(name), GraphQLObjectType):
        message = f"Abstract type '{type_}' was resolved to a non-object type '{name}'."
    else:
        message = f"Runtime Object type '{name}' is not a possible type for '{type_}'."
    return GraphQLError(message, field.nodes)


HELPERS: Mapping[str, Any] = {
    function.__name__: function
    for function in (
        no_null,
        no_list,
        is_special,
        special_item,
        item_failed,
        later_list,
        of_checked_type,
        of_resolved_type,
        is_iterable,
    )
}
