"""GraphQL documents: parsed, checked against the limits and validated once, then kept."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import graphql
from graphql import (
    ASTValidationRule,
    DocumentNode,
    GraphQLError,
    OperationDefinitionNode,
    VariableNode,
    parse,
    specified_rules,
)
from graphql.validation import NoSchemaIntrospectionCustomRule
from strawberry import Schema
from strawberry.extensions import MaxAliasesLimiter, QueryDepthLimiter
from strawberry.schema.schema import validate_document

from schema.limits import (
    SIZE_ARGUMENTS,
    OperationCost,
    OperationLimits,
    find_expansion_error,
    given_size,
)
from schema.timing import Timing

# Documents kept, the largest one that is, and all of them together. Parsed, each character
# takes 200 bytes: this is 100 MB.
KEPT_DOCUMENTS = 1_000
KEPT_CHARACTERS = 16_000
KEPT_CHARACTERS_IN_ALL = 500_000
# What Python says of an integer that would take long to read.
TOO_MANY_DIGITS = "Exceeds the limit"
# Costs kept of one document, by the page sizes that its variables ask for.
KEPT_COSTS = 100


@dataclass(slots=True, eq=False)
class Document:
    """A document, and what is wrong with it whatever its variables are.

    Attributes:
        node: None when it is not GraphQL at all.
        operations: By name; None names one that has no name.
        errors: Of syntax or validation.
        sizes: Variables that page sizes come from.
        costs: Errors of cost that are known, by operation and those variables' values.
    """

    node: DocumentNode | None
    operations: Mapping[str | None, OperationDefinitionNode]
    errors: Sequence[GraphQLError]
    sizes: Sequence[str] = ()
    costs: dict[Any, GraphQLError | None] = field(default_factory=dict)

    def find_operation(self, name: str | None) -> OperationDefinitionNode | None:
        """Return the operation that is meant; None when there is none, or it is not told which."""
        if name is None:
            return next(iter(self.operations.values())) if len(self.operations) == 1 else None
        return self.operations.get(name)


class Documents:
    """Prepares documents for a schema, and keeps the ones that were used last.

    Args:
        schema: What they are validated against.
        limits: What an operation may ask for.
    """

    def __init__(self, schema: Schema, limits: OperationLimits) -> None:
        self._schema = schema
        self._limits = limits
        self._kept: OrderedDict[str, Document] = OrderedDict()
        self._kept_characters = 0
        self._pinned: dict[str, Document] = {}
        self._rules: tuple[type[ASTValidationRule], ...] = (
            *specified_rules,
            *QueryDepthLimiter(limits.max_depth).validation_rules,
            *MaxAliasesLimiter(limits.max_aliases).validation_rules,
            *(() if limits.introspection else (NoSchemaIntrospectionCustomRule,)),
        )

    @cached_property
    def fingerprint(self) -> bytes:
        """What documents are validated under: schema, rules and limits."""
        rules = ",".join(rule.__name__ for rule in self._rules)
        parts = (graphql.__version__, rules, repr(self._limits), self._schema.as_str())
        return hashlib.sha256("\n".join(parts).encode()).digest()

    def prepare(
        self, text: str, *, is_valid: bool = False, timing: Timing | None = None
    ) -> Document:
        """Return *text* as a document, with what is wrong with it.

        Args:
            text: The document.
            is_valid: It was validated before, under the same fingerprint.
            timing: Where to note what this took.
        """
        known = self._kept.get(text)
        if known is not None:
            self._kept.move_to_end(text)
            return known
        if text in self._pinned:
            return self._pinned[text]
        made = self._read(text, is_valid=is_valid, timing=timing or Timing())
        # What is wrong is not worth keeping: whoever sends it will correct it.
        if len(text) <= KEPT_CHARACTERS and not made.errors:
            self._kept[text] = made
            self._kept_characters += len(text)
            while (
                len(self._kept) > KEPT_DOCUMENTS or self._kept_characters > KEPT_CHARACTERS_IN_ALL
            ):
                dropped, _ = self._kept.popitem(last=False)
                self._kept_characters -= len(dropped)
        return made

    def pin(self, text: str) -> Document:
        """Return *text* as a document that is kept for good, however long it is."""
        made = self._pinned[text] = self._read(text, is_valid=False, timing=Timing())
        return made

    def _read(self, text: str, *, is_valid: bool, timing: Timing) -> Document:
        timing.document_cached = False
        began = time.perf_counter()
        try:
            node = parse(text, max_tokens=self._limits.max_tokens)
        except GraphQLError as error:
            return Document(None, {}, [error])
        except RecursionError:
            return Document(None, {}, [GraphQLError("the document is nested too deeply")])
        finally:
            timing.parse_seconds = time.perf_counter() - began
        too_large = find_expansion_error(node)
        errors: Sequence[GraphQLError] = () if too_large is None else [too_large]
        if not is_valid and too_large is None:
            began = time.perf_counter()
            errors = self._validate(node)
            timing.validate_seconds = time.perf_counter() - began
        return Document(
            node,
            operations={
                None if each.name is None else each.name.value: each
                for each in node.definitions
                if isinstance(each, OperationDefinitionNode)
            },
            errors=errors,
            sizes=sorted(set(_size_variables(node))),
        )

    def _validate(self, node: DocumentNode) -> Sequence[GraphQLError]:
        core = self._schema._schema  # noqa: SLF001 - Strawberry has no public name for it
        try:
            errors = validate_document(core, node, self._rules)
        except RecursionError:
            return [GraphQLError("the document's fragments are nested too deeply")]
        return [
            GraphQLError("a number has too many digits", error.nodes)
            if TOO_MANY_DIGITS in str(error.original_error)
            else error
            for error in errors
        ]

    def find_cost_error(
        self, document: Document, operation: OperationDefinitionNode, variables: Mapping[str, Any]
    ) -> GraphQLError | None:
        """Return the error of an operation that may return too many fields, if it may."""
        if document.node is None:
            return None
        sizes = {name: given_size(operation, name, variables) for name in document.sizes}
        key = (id(operation), *(size if type(size) is int else None for size in sizes.values()))
        if key not in document.costs:
            if len(document.costs) >= KEPT_COSTS:
                document.costs.clear()
            cost = OperationCost(
                self._schema._schema,  # noqa: SLF001 - as above
                document.node,
                sizes,
                self._limits.max_cost,
            )
            document.costs[key] = cost.find_error(operation)
        return document.costs[key]


def _size_variables(document: DocumentNode) -> Sequence[str]:
    """Return the variables that page sizes come from, in *document*'s operations and fragments."""
    found: list[str] = []
    pending: list[Any] = list(document.definitions)
    while pending:
        node = pending.pop()
        found.extend(
            argument.value.name.value
            for argument in getattr(node, "arguments", None) or ()
            if argument.name.value in SIZE_ARGUMENTS and isinstance(argument.value, VariableNode)
        )
        selection_set = getattr(node, "selection_set", None)
        if selection_set is not None:
            pending.extend(selection_set.selections)
    return found
