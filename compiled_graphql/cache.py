"""Compiled operations, kept: by document, operation name and what @skip and @include depend on."""

import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphql import (
    DocumentNode,
    GraphQLError,
    OperationDefinitionNode,
    VariableNode,
    get_variable_values,
    print_ast,
)
from graphql.execution.values import VariableValues

from compiled_graphql.compiler import UnsupportedError
from compiled_graphql.plan import Plan

if TYPE_CHECKING:
    from strawberry import Schema

log = logging.getLogger("compiled_graphql")

# Directives that change what execution means; graphql-core knows how.
LEFT_TO_GRAPHQL_CORE = frozenset({"defer", "stream", "experimental_disableErrorPropagation"})
# Errors of variables that are told, as graphql-core does.
MAX_VARIABLE_ERRORS = 50
# Each line of a plan takes some 350 bytes: this is 100 MB.
MAX_LINES = 300_000
# Of a parsed document, which its plans keep, as many take what a line does.
CHARACTERS_OF_A_LINE = 2
CONDITIONS = frozenset({"skip", "include"})
CONDITION_TYPES = frozenset({"Boolean", "Boolean!"})
MISSING = object()
COMPILED, CACHED = "compiled", "cached"


@dataclass(slots=True)
class Finding:
    """How one operation's plan was found.

    Attributes:
        how: `compiled`, `cached`, or why graphql-core executes it; None when nothing is executed.
        compile_seconds: What compiling took, if it was compiled.
    """

    how: str | None = None
    compile_seconds: float = 0.0


class _Operation:
    """One operation of one document, and its plans by the values of its conditions."""

    def __init__(
        self, document: DocumentNode, node: OperationDefinitionNode, name: str | None
    ) -> None:
        self.document = document  # kept, so that its identity is not used anew
        self.node = node
        self.name = name
        self.characters = 0 if document.loc is None else len(document.loc.source.body)
        directives = list(_iter_directives(document))
        used = {directive.name.value for directive in directives}
        self.unsupported = sorted(used & LEFT_TO_GRAPHQL_CORE)
        conditions = {
            argument.value.name.value
            for directive in directives
            if directive.name.value in CONDITIONS
            for argument in directive.arguments
            if isinstance(argument.value, VariableNode)
        }
        # Another operation's condition may have the name of some other variable of this one.
        self.conditions = [
            defined.variable.name.value
            for defined in node.variable_definitions or ()
            if defined.variable.name.value in conditions
            and print_ast(defined.type) in CONDITION_TYPES
        ]

    def flags(self, variables: VariableValues) -> tuple[Any, ...]:
        """Return what the conditions' variables are."""
        return tuple(variables.coerced.get(name, MISSING) for name in self.conditions)


class PlanCache:
    """Compiles operations when they come, and keeps the plans that were used last.

    Args:
        schema: The Strawberry schema.
        max_plans: Plans kept.
        max_lines: Lines that the kept plans may have together.
        native: Leave UUIDs and UTC datetimes to the encoder.
        record_class: The class of sources that are read by item; see `Plan`.

    Attributes:
        counts: Executions by how they went: `compiled`, `cached`, or why graphql-core did them.
    """

    def __init__(
        self,
        schema: "Schema",
        *,
        max_plans: int,
        max_lines: int = MAX_LINES,
        native: bool = False,
        record_class: type | None = None,
    ) -> None:
        self._schema = schema
        self._max_plans = max_plans
        self._max_lines = max_lines
        self._native = native
        self._record_class = record_class
        self._operations: OrderedDict[tuple[int, str | None], _Operation] = OrderedDict()
        self._plans: OrderedDict[tuple[Any, ...], Plan | UnsupportedError] = OrderedDict()
        self._lines = 0
        self.counts: Counter[str] = Counter()

    def find(
        self,
        document: DocumentNode,
        operation_name: str | None,
        raw_variables: Mapping[str, Any],
        finding: Finding | None = None,
    ) -> tuple[Plan, VariableValues] | list[GraphQLError] | None:
        """Return the operation's plan and variables, its variables' errors, or None.

        None means that graphql-core must execute it; `counts` and *finding* say why.
        """
        operation = self._operation(document, operation_name)
        if operation is None:
            self._leave("no such operation", finding)
            return None
        if operation.unsupported:
            self._leave(f"@{operation.unsupported[0]}", finding)
            return None
        variables = get_variable_values(
            self._schema._schema,  # noqa: SLF001 - Strawberry has no public name for it
            operation.node.variable_definitions or (),
            dict(raw_variables),
            max_errors=MAX_VARIABLE_ERRORS,
        )
        if isinstance(variables, list):
            return variables
        plan = self._plan(operation, variables, finding)
        if isinstance(plan, UnsupportedError):
            self._leave(str(plan), finding)
            return None
        return plan, variables

    def _leave(self, reason: str, finding: Finding | None) -> None:
        """Count an operation that is left to graphql-core; the first for each reason is logged."""
        if finding is not None:
            finding.how = reason
        self.counts[reason] += 1
        if self.counts[reason] == 1:
            log.warning("left to graphql-core, which is slower: %s", reason)

    def _operation(self, document: DocumentNode, name: str | None) -> _Operation | None:
        key = (id(document), name)
        known = self._operations.get(key)
        if known is not None:
            self._operations.move_to_end(key)
            return known
        node = _find_operation(document, name)
        if node is None:
            return None
        operation = self._operations[key] = _Operation(document, node, name)
        if len(self._operations) > self._max_plans:
            self._operations.popitem(last=False)
        return operation

    def _plan(
        self, operation: _Operation, variables: VariableValues, finding: Finding | None
    ) -> Plan | UnsupportedError:
        # The key keeps the operation, so that no other one is taken for it.
        key = (operation, *operation.flags(variables))
        known = self._plans.get(key)
        if known is not None:
            self._plans.move_to_end(key)
            if isinstance(known, Plan):
                self.counts[CACHED] += 1
                if finding is not None:
                    finding.how = CACHED
            return known
        began = time.perf_counter()
        made: Plan | UnsupportedError
        try:
            made = Plan(
                self._schema,
                operation.document,
                operation.node,
                variables,
                native=self._native,
                record_class=self._record_class,
            )
            self.counts[COMPILED] += 1
            if finding is not None:
                finding.how, finding.compile_seconds = COMPILED, time.perf_counter() - began
        except UnsupportedError as error:
            made = error
        self._plans[key] = made
        self._lines += _count_lines(operation, made)
        while len(self._plans) > self._max_plans or self._lines > self._max_lines:
            (dropped, *_), plan = self._plans.popitem(last=False)
            self._lines -= _count_lines(dropped, plan)
            self._operations.pop((id(dropped.document), dropped.name), None)
        return made


def _count_lines(operation: _Operation, plan: Plan | UnsupportedError) -> int:
    """Return how many lines a plan is, and amounts to with the document that it keeps."""
    written = plan.source.count("\n") if isinstance(plan, Plan) else 1
    return written + operation.characters // CHARACTERS_OF_A_LINE


def _find_operation(document: DocumentNode, name: str | None) -> OperationDefinitionNode | None:
    """Return the operation that is meant; None when there is none, or it is not told which."""
    operations = [
        node for node in document.definitions if isinstance(node, OperationDefinitionNode)
    ]
    if name is None:
        return operations[0] if len(operations) == 1 else None
    named = [node for node in operations if node.name is not None and node.name.value == name]
    return named[-1] if named else None


def _iter_directives(document: DocumentNode) -> Iterator[Any]:
    """Yield every directive that the operations and fragments of *document* use."""
    pending: list[Any] = list(document.definitions)
    while pending:
        node = pending.pop()
        yield from getattr(node, "directives", None) or ()
        selection_set = getattr(node, "selection_set", None)
        if selection_set is not None:
            pending.extend(selection_set.selections)
