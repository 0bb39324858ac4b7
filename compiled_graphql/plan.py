"""A compiled operation."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from graphql import (
    DocumentNode,
    FragmentDefinitionNode,
    OperationDefinitionNode,
    OperationType,
)
from graphql.execution.values import VariableValues

from compiled_graphql.compiler import Compiler
from compiled_graphql.execution import Execution

if TYPE_CHECKING:
    from strawberry import Schema

RunField = Callable[[Any, dict[str, Any], Execution], None]


class Plan:
    """An operation as Python functions, for one choice of what @skip and @include leave.

    Attributes:
        root_keys: The answer's keys, in order.
        root_fields: Each puts one root field into the answer.
        is_serial: Whether a root field waits for the one before it, as in mutations.
        source: The Python that was written, for people to read.
    """

    def __init__(
        self,
        schema: "Schema",
        document: DocumentNode,
        operation: OperationDefinitionNode,
        variables: VariableValues,
        *,
        native: bool = False,
        record_class: type | None = None,
    ) -> None:
        """Compile *operation*.

        Args:
            schema: The Strawberry schema.
            document: Validated.
            operation: One of *document*'s.
            variables: Coerced; only what @skip and @include say of them is used.
            native: Leave UUIDs and UTC datetimes to the encoder.
            record_class: Sources of exactly this class are read by item, with the
                attributes' names as keys, which they all have.

        Raises:
            UnsupportedError: graphql-core must execute it.
        """
        self.schema = schema._schema  # noqa: SLF001 - Strawberry has no public name for it
        self.operation = operation
        self.fragments = {
            node.name.value: node
            for node in document.definitions
            if isinstance(node, FragmentDefinitionNode)
        }
        self.is_serial = operation.operation == OperationType.MUTATION
        compiler = Compiler(
            schema,
            operation,
            self.fragments,
            variables,
            native=native,
            record_class=record_class,
        )
        self.root_keys, names = compiler.write_root()
        self.source = compiler.module.text
        built = compiler.build()
        self.root_fields: Sequence[RunField] = [built[name] for name in names]
