"""Scalars and enums: which values may stand in an answer as they are, and how others get there."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from graphql import (
    GraphQLBoolean,
    GraphQLEnumType,
    GraphQLError,
    GraphQLFloat,
    GraphQLID,
    GraphQLInt,
    GraphQLLeafType,
    GraphQLString,
)
from graphql.execution.executor import Executor
from strawberry.scalars import JSON
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.schema.types.base_scalars import (
    DateTimeDefinition,
    DecimalDefinition,
    UUIDDefinition,
)
from strawberry.schema.types.scalar import DEFAULT_SCALAR_REGISTRY

# Serializes as GraphQL says, or raises.
Serialize = Callable[[Any], Any]


class FastPath(NamedTuple):
    """How generated code treats the usual values of a leaf type.

    Attributes:
        test: An expression over `v`, true for values that `emit` is right for.
        emit: An expression over `v`.
        names: What the expressions refer to, in braces.
    """

    test: str
    emit: str
    names: dict[str, Any]


_AS_IT_IS: dict[Any, str] = {
    GraphQLString: "v.__class__ is str",
    GraphQLID: "v.__class__ is str",
    GraphQLBoolean: "v is True or v is False",
    GraphQLInt: "v.__class__ is int and -2147483648 <= v <= 2147483647",
    GraphQLFloat: "v.__class__ is float and v - v == 0.0",  # not infinite, not NaN
}
_JSON_DEFINITION = DEFAULT_SCALAR_REGISTRY[JSON]


def fast_path(type_: GraphQLLeafType, *, native: bool) -> FastPath | None:
    """Return the shortcut for *type_*'s usual values, or None when there is none.

    Args:
        type_: A scalar or an enum, without its NonNull.
        native: Leave UUIDs and UTC datetimes to the encoder, which writes them
            as their scalars do.
    """
    if isinstance(type_, GraphQLEnumType):
        return _enum_path(type_)
    if native and type_ is GraphQLID:
        return FastPath("v.__class__ is {UUID} or v.__class__ is str", "v", {"UUID": UUID})
    if type_ in _AS_IT_IS:
        return FastPath(_AS_IT_IS[type_], "v", {})
    definition = type_.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF)
    if definition is UUIDDefinition:
        return FastPath("v.__class__ is {UUID}", "v" if native else "str(v)", {"UUID": UUID})
    if definition is DateTimeDefinition:
        test = "v.__class__ is {datetime} and v.tzinfo is {UTC}"
        emit = "v" if native else "v.isoformat()"
        return FastPath(test, emit, {"datetime": datetime, "UTC": UTC})
    if definition is DecimalDefinition:
        return FastPath("v.__class__ is {Decimal}", "str(v)", {"Decimal": Decimal})
    if definition is _JSON_DEFINITION:
        return FastPath("v.__class__ is dict or v.__class__ is list", "v", {})
    return None


def _enum_path(type_: GraphQLEnumType) -> FastPath:
    """Return the shortcut for strings and members: each is asked of the type itself once."""
    wrapped = getattr(type_, "wrapped_cls", None)
    values = [value.value for value in type_.values.values() if isinstance(value.value, str)]
    values += list(wrapped) if wrapped is not None else []
    names: dict[Any, str] = {}
    for value in values:
        # One that has no name is left to the slow path, which says so.
        with suppress(GraphQLError, ValueError):
            names[value] = type_.coerce_output_value(value)
    classes = frozenset({str, wrapped})
    return FastPath(
        "v.__class__ in {classes} and v in {names}",
        "{names}[v]",
        {"classes": classes, "names": names},
    )


def serialize_leaf(type_: GraphQLLeafType) -> Serialize:
    """Return the complete conversion of *type_*, with graphql-core's own checks and errors."""
    complete = Executor.complete_leaf_value

    def serialize(value: Any) -> Any:
        return complete(type_, value)

    return serialize
