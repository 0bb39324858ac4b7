"""Scalars and enums: which values may stand in an answer as they are, and how others get there."""

from collections.abc import Callable, Mapping, Sequence
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
    Undefined,
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
from strawberry.types.scalar import ScalarDefinition

# Serializes as GraphQL says, or raises.
Serialize = Callable[[Any], Any]


class FastPath(NamedTuple):
    """How generated code treats one kind of usual value of a leaf type.

    Attributes:
        test: An expression over the value, true for those that `emit` is right for.
        emit: An expression over the value.
        names: What the expressions refer to, in braces, beside the value `{v}` itself.
    """

    test: str
    emit: str
    names: Mapping[str, Any] = {}


_STRING = FastPath("{v}.__class__ is str", "{v}")
_OTHER_UUID = FastPath("isinstance({v}, {UUID})", "str({v})", {"UUID": UUID})
_AS_IT_IS: dict[Any, FastPath] = {
    GraphQLString: _STRING,
    GraphQLBoolean: FastPath("{v} is True or {v} is False", "{v}"),
    GraphQLInt: FastPath("{v}.__class__ is int and -2147483648 <= {v} <= 2147483647", "{v}"),
    # Neither infinite nor NaN.
    GraphQLFloat: FastPath("{v}.__class__ is float and {v} - {v} == 0.0", "{v}"),
}
_JSON_DEFINITION = DEFAULT_SCALAR_REGISTRY[JSON]


def fast_paths(type_: GraphQLLeafType, *, native: bool) -> Sequence[FastPath]:
    """Return the shortcuts for *type_*'s usual values, the most usual first.

    Args:
        type_: A scalar or an enum, without its NonNull.
        native: Leave UUIDs and UTC datetimes to the encoder, which writes them
            as their scalars do.
    """
    if isinstance(type_, GraphQLEnumType):
        # Members of enums that are made of data classes may have no hash.
        with suppress(TypeError):
            return [_enum_path(type_)]
        return []
    if type_ in _AS_IT_IS:
        return [_AS_IT_IS[type_]]
    own_uuid = FastPath("{v}.__class__ is {UUID}", "{v}", {"UUID": UUID})
    uuids = [own_uuid, _OTHER_UUID] if native else [_OTHER_UUID]
    if type_ is GraphQLID:
        return [*uuids, _STRING]
    definition = type_.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF)
    if definition is UUIDDefinition:
        return uuids
    if _writes_as(DateTimeDefinition, definition):
        test = "{v}.__class__ is {datetime} and {v}.tzinfo is {UTC}"
        emit = "{v}" if native else "{v}.isoformat()"
        return [FastPath(test, emit, {"datetime": datetime, "UTC": UTC})]
    if definition is DecimalDefinition:
        return [FastPath("{v}.__class__ is {Decimal}", "str({v})", {"Decimal": Decimal})]
    if definition is _JSON_DEFINITION:
        return [FastPath("{v}.__class__ is dict or {v}.__class__ is list", "{v}")]
    if isinstance(definition, ScalarDefinition) and isinstance(definition.origin, type):
        names = {"origin": definition.origin, "serialize": serialize_leaf(type_)}
        return [FastPath("{v}.__class__ is {origin}", "{serialize}({v})", names)]
    return []


def _writes_as(known: ScalarDefinition, definition: object) -> bool:
    """Tell whether a scalar is *known*, but for how it is read."""
    return isinstance(definition, ScalarDefinition) and (
        (definition.origin, definition.serialize) == (known.origin, known.serialize)
    )


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
        "{v}.__class__ in {classes} and {v} in {names}",
        "{names}[{v}]",
        {"classes": classes, "names": names},
    )


def serialize_leaf(type_: GraphQLLeafType) -> Serialize:
    """Return the complete conversion of *type_*, with graphql-core's own checks and errors."""
    coerce = type_.coerce_output_value
    complete = Executor.complete_leaf_value

    def serialize(value: Any) -> Any:
        coerced = coerce(value)
        # What must not be is left to graphql-core to say.
        return complete(type_, value) if coerced is None or coerced is Undefined else coerced

    return serialize
