"""The cost of an operation: how many fields it may return, by the page sizes it asks for."""

from collections.abc import Iterator, Mapping
from typing import Any

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValidationContext,
    ValidationRule,
    VariableNode,
    get_named_type,
)
from strawberry.extensions import SchemaExtension
from typing_extensions import override

from resolvers.errors import QueryTooCostlyError
from resolvers.paging import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE

SIZE_ARGUMENTS = ("first", "last")


class CostLimit(SchemaExtension):
    """Refuses, before execution, operations that may return more than *max_cost* fields.

    A field costs 1; under a connection it costs as much as the page has items.
    """

    def __init__(self, *, max_cost: int) -> None:
        self._max_cost = max_cost

    @override
    def on_operation(self) -> Iterator[None]:
        variables = self.execution_context.variables or {}
        rule = _cost_rule(self._max_cost, variables)
        self.execution_context.validation_rules = (
            *self.execution_context.validation_rules,
            rule,
        )
        yield


def _cost_rule(max_cost: int, variables: Mapping[str, Any]) -> type[ValidationRule]:
    class CostRule(ValidationRule):
        def enter_operation_definition(self, node: OperationDefinitionNode, *_: Any) -> None:
            root = self.context.schema.get_root_type(node.operation)
            cost = _Cost(self.context, variables, max_cost)
            if root is not None and cost.exceeds(node.selection_set, root):
                error = QueryTooCostlyError(
                    f"the operation may return more than {max_cost} fields; ask for smaller "
                    "pages, or less below them",
                    details={"max": max_cost},
                )
                self.report_error(GraphQLError(str(error), node, original_error=error))

    return CostRule


class _Cost:
    """Counts an operation's fields, and stops as soon as there are too many."""

    def __init__(
        self, context: ValidationContext, variables: Mapping[str, Any], max_cost: int
    ) -> None:
        self._schema: GraphQLSchema = context.schema
        self._fragment = context.get_fragment
        self._variables = variables
        self._left = max_cost

    def exceeds(self, selections: SelectionSetNode, parent: GraphQLNamedType) -> bool:
        """Tell whether *selections* on *parent* cost too much."""
        self._walk(selections, parent, 1, frozenset())
        return self._left < 0

    def _walk(
        self,
        selections: SelectionSetNode | None,
        parent: GraphQLNamedType | None,
        times: int,
        within: frozenset[str],
    ) -> None:
        for node in selections.selections if selections else ():
            if self._left < 0:
                return
            if isinstance(node, FieldNode):
                self._field(node, parent, times, within)
            elif isinstance(node, InlineFragmentNode):
                self._walk(node.selection_set, self._condition(node, parent), times, within)
            elif isinstance(node, FragmentSpreadNode) and node.name.value not in within:
                fragment = self._fragment(node.name.value)
                if fragment is not None:
                    inside = within | {node.name.value}
                    condition = self._condition(fragment, parent)
                    self._walk(fragment.selection_set, condition, times, inside)

    def _field(
        self, node: FieldNode, parent: GraphQLNamedType | None, times: int, within: frozenset[str]
    ) -> None:
        self._left -= times
        field: GraphQLField | None = None
        if isinstance(parent, GraphQLObjectType | GraphQLInterfaceType):
            field = parent.fields.get(node.name.value)
        below = get_named_type(field.type) if field is not None else None
        self._walk(node.selection_set, below, times * self._page_size(node, field), within)

    def _page_size(self, node: FieldNode, field: GraphQLField | None) -> int:
        if field is None or "first" not in field.args:
            return 1
        for argument in node.arguments or ():
            if argument.name.value in SIZE_ARGUMENTS:
                size = self._value(argument.value)
                if isinstance(size, int):
                    return min(max(size, 1), MAX_PAGE_SIZE)
        return DEFAULT_PAGE_SIZE

    def _value(self, node: object) -> object:
        if isinstance(node, IntValueNode):
            return int(node.value)
        if isinstance(node, VariableNode):
            return self._variables.get(node.name.value)
        return None

    def _condition(
        self,
        node: InlineFragmentNode | FragmentDefinitionNode,
        parent: GraphQLNamedType | None,
    ) -> GraphQLNamedType | None:
        if node.type_condition is None:
            return parent
        return self._schema.type_map.get(node.type_condition.name.value)
