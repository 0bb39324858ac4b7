"""What a GraphQL operation may ask for, and its cost: the fields that its page sizes allow."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graphql import (
    DocumentNode,
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
    OperationType,
    SelectionSetNode,
    VariableNode,
    get_named_type,
)

from resolvers.errors import InvalidInputError, QueryTooCostlyError
from resolvers.paging import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, check_page_sizes

SIZE_ARGUMENTS = ("first", "last")
# Each level of fragments that spread the next one twice doubles what a document amounts to.
MAX_SELECTIONS = 10_000


@dataclass(frozen=True, slots=True)
class OperationLimits:
    """Bounds of a GraphQL operation; `app/settings.py` says what each is for."""

    max_depth: int
    max_tokens: int
    max_aliases: int
    max_cost: int
    introspection: bool
    compiled: bool


def find_expansion_error(document: DocumentNode) -> GraphQLError | None:
    """Return the error of a document whose fragments, written out, are too many selections.

    The rules that count depth and aliases walk all of them, so this comes before.
    """
    fragments = {
        node.name.value: node
        for node in document.definitions
        if isinstance(node, FragmentDefinitionNode)
    }
    pending: list[tuple[SelectionSetNode, frozenset[str]]] = [
        (node.selection_set, frozenset())
        for node in document.definitions
        if isinstance(node, OperationDefinitionNode)
    ]
    selections = 0
    while pending:
        selection_set, within = pending.pop()
        selections += len(selection_set.selections)
        if selections > MAX_SELECTIONS:
            error = QueryTooCostlyError(
                f"the document has more than {MAX_SELECTIONS} selections, with its fragments "
                "written out wherever they are spread",
                details={"max": MAX_SELECTIONS},
            )
            return GraphQLError(str(error), original_error=error)
        for node in selection_set.selections:
            if isinstance(node, FragmentSpreadNode):
                name = node.name.value
                if name in fragments and name not in within:
                    pending.append((fragments[name].selection_set, within | {name}))
            elif isinstance(node, FieldNode | InlineFragmentNode) and node.selection_set:
                pending.append((node.selection_set, within))
    return None


def given_size(
    operation: OperationDefinitionNode, name: str, variables: Mapping[str, Any]
) -> object:
    """Return the value of a page size's variable: as an Int reads it, or its default."""
    if name in variables:
        value = variables[name]
        return int(value) if isinstance(value, float) and value.is_integer() else value
    for defined in operation.variable_definitions or ():
        if defined.variable.name.value == name and isinstance(defined.default_value, IntValueNode):
            return int(defined.default_value.value)
    return None


class OperationCost:
    """Counts the fields that an operation may return, and stops as soon as there are too many.

    A field costs 1; under a connection it costs as much as the page has items.

    Args:
        schema: graphql-core's.
        document: Where the operation's fragments are.
        variables: Those that page sizes come from.
        max_cost: Fields that are allowed.
    """

    def __init__(
        self,
        schema: GraphQLSchema,
        document: DocumentNode,
        variables: Mapping[str, Any],
        max_cost: int,
    ) -> None:
        self._schema = schema
        self._fragments = {
            node.name.value: node
            for node in document.definitions
            if isinstance(node, FragmentDefinitionNode)
        }
        self._variables = variables
        self._max_cost = self._left = max_cost
        self._wrong_sizes: list[tuple[FieldNode, InvalidInputError]] = []

    def find_error(self, operation: OperationDefinitionNode) -> GraphQLError | None:
        """Return the error of an operation that costs too much, or None.

        A mutation is also refused for the size of a page that it would answer with: when the field
        itself finds that, the work is done.
        """
        root = self._schema.get_root_type(operation.operation)
        self._left = self._max_cost
        self._wrong_sizes.clear()
        self._walk(operation.selection_set, root, 1, frozenset())
        if self._left >= 0:
            if not self._wrong_sizes or operation.operation is not OperationType.MUTATION:
                return None
            node, wrong = self._wrong_sizes[0]
            return GraphQLError(str(wrong), node, original_error=wrong)
        error = QueryTooCostlyError(
            f"the operation may return more than {self._max_cost} fields; ask for smaller pages, "
            "or less below them",
            details={"max": self._max_cost},
        )
        return GraphQLError(str(error), operation, original_error=error)

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
                fragment = self._fragments.get(node.name.value)
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
        sizes: dict[str, int] = {}
        for argument in node.arguments or ():
            name, size = argument.name.value, self._value(argument.value)
            if name in SIZE_ARGUMENTS and type(size) is int:
                sizes[name] = size
        try:
            check_page_sizes(**sizes)
        except InvalidInputError as error:
            self._wrong_sizes.append((node, error))
        return min(max([1, *sizes.values()]), MAX_PAGE_SIZE) if sizes else DEFAULT_PAGE_SIZE

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
