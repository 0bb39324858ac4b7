"""One field of one selection set on one concrete type: what the generated code calls and needs."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from graphql import (
    FieldNode,
    GraphQLField,
    GraphQLNonNull,
    GraphQLObjectType,
    Node,
    VariableNode,
    default_field_resolver,
    get_argument_values,
)
from graphql.execution.collect_fields import FieldDetailsList
from graphql.execution.values import VariableValues
from graphql.pyutils import Path
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.types.arguments import convert_arguments
from strawberry.types.field import StrawberryField

from compiled_graphql.places import Place, path_of

if TYPE_CHECKING:
    from strawberry import Schema

    from compiled_graphql.execution import Execution

# What a field's metadata may say: a resolver for all its parents at once, as `batch.py`
# makes them, and the attributes of its source that its resolver reads.
BATCH = "compiled_graphql.batch"
NEEDS = "compiled_graphql.needs"

# Arguments of these classes can be handed to every object alike: nobody can change them.
_UNCHANGEABLE = (str, int, float, bool, type(None), UUID, datetime, Decimal, Enum)

BatchResolver = Callable[..., Any]


class Field:
    """A field of the operation, with everything about it that every execution shares.

    Attributes:
        key: Its name in the answer: the alias, or the field's own name.
        details: Its nodes; there are several when selections overlap.
        nullable: Whether an error stops here.
        attribute: The attribute of the source that is its value, when that is all it is.
        batch: Answers for all parents at once, when the field has such a resolver.
        complete: Turns what was resolved into what is answered; set by the compiler.
        selected: What is read of the sources below it, by object type; set by the compiler.
    """

    def __init__(
        self,
        schema: "Schema",
        parent_type: GraphQLObjectType,
        key: str,
        details: FieldDetailsList,
        definition: GraphQLField,
    ) -> None:
        self.schema = schema
        self.parent_type = parent_type
        self.key = key
        self.details = details
        self.nodes: list[FieldNode] = [detail.node for detail in details]
        self.name = self.nodes[0].name.value
        self.definition = definition
        self.type = definition.type
        self.nullable = not isinstance(self.type, GraphQLNonNull)
        self.complete: Callable[[Any, Place | None, Execution], Any] = _not_compiled
        self.selected: Mapping[str, frozenset[str]] = {}
        self._constant: dict[str, Any] | None = None
        self._strawberry: StrawberryField | None = definition.extensions.get(
            GraphQLCoreConverter.DEFINITION_BACKREF
        )

    @property
    def attribute(self) -> str | None:
        """The source's attribute that is the field's whole value, or None when it is computed."""
        field = self._strawberry
        plain = field is not None and field.is_basic_field and not self._is_handled
        if field is None or not plain or self.schema.config.default_resolver is not getattr:
            return None
        return field.python_name

    @property
    def _is_handled(self) -> bool:
        """Whether the schema or the field's own class has a say in what its resolver answers."""
        own: Any = type(self._strawberry)
        passed = own.get_result is StrawberryField.get_result
        return bool(self.schema.exception_handlers) or not passed

    @cached_property
    def resolver(self) -> Any | None:
        """Strawberry's resolver when it can be called directly: nothing wraps it."""
        field = self._strawberry
        if field is None or field.extensions or self._is_handled:
            return None
        resolver = field.base_resolver
        return resolver if resolver is not None and callable(resolver.wrapped_func) else None

    @cached_property
    def batch(self) -> BatchResolver | None:
        """The resolver for all parents at once, if there is one and nothing wraps it."""
        if self.resolver is None or self._strawberry is None:
            return None
        metadata: Mapping[Any, Any] = self._strawberry.metadata or {}
        return cast("BatchResolver | None", metadata.get(BATCH))

    @property
    def resolve(self) -> Callable[..., Any]:
        """graphql-core's way to resolve the field, through whatever wraps it."""
        return self.definition.resolve or default_field_resolver

    def read_arguments(self, variables: VariableValues) -> tuple[dict[str, Any], bool]:
        """Return the arguments, and whether every object may be given the same ones.

        Raises:
            GraphQLError: A value does not fit its argument.
        """
        if self._constant is not None:
            return self._constant, True
        node, details = self.nodes[0], self.details[0]
        if not self.definition.args and not node.arguments:
            return {}, True
        values = get_argument_values(
            self.definition, node, variables, details.fragment_variable_values
        )
        if self.resolver is not None and self._strawberry is not None:
            converter = self.schema.schema_converter
            values = convert_arguments(
                values,
                self._strawberry.arguments,
                scalar_registry=converter.scalar_registry,
                config=self.schema.config,
            )
        shared = all(isinstance(value, _UNCHANGEABLE) for value in values.values())
        if shared and not any(_has_variable(argument) for argument in node.arguments or ()):
            self._constant = values
        return values, shared

    def info(self, execution: "Execution", container: Place | None) -> Any:
        """Return what Strawberry's resolvers get as `info`."""
        raw: Any = ResolveInfo(execution, self, container)
        if self._strawberry is None:
            return raw
        return self.schema.config.info_class(_raw_info=raw, _field=self._strawberry)


def _has_variable(node: Any) -> bool:
    """Tell whether a value of the document depends on the operation's variables."""
    if isinstance(node, VariableNode):
        return True
    inner = [getattr(node, "value", None)]
    inner += [*getattr(node, "values", ()), *getattr(node, "fields", ())]
    return any(_has_variable(each) for each in inner if isinstance(each, Node))


def _not_compiled(*_: Any) -> Any:
    raise RuntimeError("the field is used before its operation is compiled")


class ResolveInfo:
    """graphql-core's `GraphQLResolveInfo`, each part of it computed when it is asked for."""

    __slots__ = ("_container", "_execution", "_field")

    def __init__(self, execution: "Execution", field: Field, container: Place | None) -> None:
        self._execution = execution
        self._field = field
        self._container = container

    @property
    def field_name(self) -> str:
        """The field's name in the schema."""
        return self._field.name

    @property
    def field_nodes(self) -> Sequence[FieldNode]:
        """The field's nodes in the document."""
        return self._field.nodes

    @property
    def return_type(self) -> Any:
        """The field's type."""
        return self._field.type

    @property
    def parent_type(self) -> GraphQLObjectType:
        """The type that has the field."""
        return self._field.parent_type

    @property
    def path(self) -> Path:
        """Where the field stands in the answer."""
        path: Path | None = None
        for key in path_of(self._container):
            path = Path(path, key, None)
        return Path(path, self._field.key, self._field.parent_type.name)

    @property
    def selected(self) -> Mapping[str, frozenset[str]]:
        """What is read of the sources below the field, by object type."""
        return self._field.selected

    @property
    def schema(self) -> Any:
        """graphql-core's schema."""
        return self._execution.plan.schema

    @property
    def fragments(self) -> Mapping[str, Any]:
        """The document's fragments, by name."""
        return self._execution.plan.fragments

    @property
    def root_value(self) -> Any:
        """The source of the root fields."""
        return self._execution.root_value

    @property
    def operation(self) -> Any:
        """The operation that is executed."""
        return self._execution.plan.operation

    @property
    def variable_values(self) -> Mapping[str, Any]:
        """The variables' coerced values."""
        return self._execution.variables.coerced

    @property
    def context(self) -> Any:
        """The request's context."""
        return self._execution.context

    @property
    def is_awaitable(self) -> Callable[[Any], bool]:
        """Tells whether a value must be awaited."""
        return self._execution.is_awaitable

    @property
    def abort_signal(self) -> None:
        """Nothing: an execution is cancelled as its task is."""
        return

    @property
    def async_helpers(self) -> Any:
        """graphql-core's helpers for resolvers that await several things."""
        return self._execution.async_helpers

    @property
    def operation_extensions(self) -> Mapping[str, Any] | None:
        """The request's `extensions`."""
        return self._execution.operation_extensions
