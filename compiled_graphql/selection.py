"""What an operation selects below a field, so that its resolver reads no more than that."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from graphql import (
    FragmentDefinitionNode,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLUnionType,
    OperationDefinitionNode,
    get_named_type,
)
from graphql.execution.collect_fields import (
    FieldDetails,
    FieldDetailsList,
    FragmentDetails,
    GroupedFieldSet,
    collect_subfields,
)
from graphql.execution.values import VariableValues
from strawberry import Info
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.types.field import StrawberryField

from compiled_graphql.fields import NEEDS, ResolveInfo

Names = Mapping[str, frozenset[str]]
# (object type, nodes) to the fields that are selected on it.
Collect = Callable[[GraphQLObjectType, FieldDetailsList], GroupedFieldSet]


def selected_names(info: Info[Any, Any], type_name: str) -> frozenset[str]:
    """Return the attributes of a type's sources that the operation reads below this field.

    Those are the plain fields that are selected, and what computed fields say that
    they need. Fields with resolvers of their own are not looked into: they ask for
    themselves.

    Args:
        info: The resolver's.
        type_name: An object type that the resolver's answer consists of, or holds in
            plain fields.
    """
    raw = info._raw_info  # noqa: SLF001 - Strawberry's Info leaves the operation's parts out
    if isinstance(raw, ResolveInfo):
        return raw.selected.get(type_name, frozenset())
    return _selected_by_graphql_core(raw).get(type_name, frozenset())


def _selected_by_graphql_core(raw: Any) -> Names:
    """Look below a field that graphql-core executes, which keeps nothing of it."""
    fragments: Mapping[str, FragmentDefinitionNode] = raw.fragments
    details = {name: FragmentDetails(node, None) for name, node in fragments.items()}
    variables = VariableValues({}, dict(raw.variable_values))
    operation: OperationDefinitionNode = raw.operation

    def collect(type_: GraphQLObjectType, nodes: FieldDetailsList) -> GroupedFieldSet:
        found = collect_subfields(raw.schema, details, variables, operation, type_, nodes)
        return found.grouped_field_set

    own = [FieldDetails(node, None) for node in raw.field_nodes]
    return names_below(raw.schema, get_named_type(raw.return_type), own, collect)


def names_below(
    schema: GraphQLSchema, type_: GraphQLNamedType, details: FieldDetailsList, collect: Collect
) -> Names:
    """Return the attributes that are read of each object type's sources below a field.

    Args:
        schema: graphql-core's.
        type_: The field's type, without its wrappers.
        details: The field's nodes.
        collect: Tells what is selected on an object type.
    """
    found: dict[str, set[str]] = {}
    pending = [(type_, details)]
    seen: set[tuple[int, ...]] = set()
    while pending:
        below, nodes = pending.pop()
        for object_type in _object_types(schema, below):
            # The object types of an abstract one mostly lead to the same selections.
            key = (id(object_type), *(id(each.node) for each in nodes))
            if key in seen:
                continue
            seen.add(key)
            names = found.setdefault(object_type.name, set())
            for selected in collect(object_type, nodes).values():
                definition = object_type.fields.get(selected[0].node.name.value)
                if definition is None:
                    continue  # __typename
                field = definition.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF)
                if not isinstance(field, StrawberryField):
                    continue
                if not field.is_basic_field:
                    metadata: Mapping[Any, Any] = field.metadata or {}
                    names.update(metadata.get(NEEDS, ()))
                    continue
                names.add(field.python_name)
                pending.append((get_named_type(definition.type), selected))
    return {name: frozenset(names) for name, names in found.items()}


def _object_types(schema: GraphQLSchema, type_: GraphQLNamedType) -> Iterator[GraphQLObjectType]:
    if isinstance(type_, GraphQLObjectType):
        yield type_
    elif isinstance(type_, GraphQLInterfaceType | GraphQLUnionType):
        yield from schema.get_possible_types(type_)
