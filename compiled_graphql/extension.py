"""Plugs the compiled executor into a Strawberry schema."""

from collections.abc import AsyncIterator
from typing import Any

from graphql import ExecutionResult
from strawberry.extensions import SchemaExtension
from typing_extensions import override

from compiled_graphql.cache import Finding, PlanCache
from compiled_graphql.execution import Execution


class CompiledExecution(SchemaExtension):
    """Executes what can be compiled; the rest goes on to graphql-core.

    Args:
        plans: The schema's plans.
    """

    def __init__(self, plans: PlanCache) -> None:
        self._plans = plans

    @override
    async def on_execute(self) -> AsyncIterator[None]:
        context = self.execution_context
        document = context.graphql_document
        if self._another_resolves():
            self._plans.counts["an extension that resolves fields"] += 1
        elif document is not None and context.result is None:
            context.result = await execute(
                self._plans,
                document,
                operation_name=context.operation_name,
                variables=context.variables or {},
                root_value=context.root_value,
                context=context.context,
                operation_extensions=context.operation_extensions,
            )
        yield

    def _another_resolves(self) -> bool:
        """Tell whether an extension has a say in every field, which only graphql-core asks."""
        others = self.execution_context.schema.get_extensions()
        return any(other._implements_resolve() for other in others)  # noqa: SLF001


async def execute(
    plans: PlanCache,
    document: Any,
    *,
    operation_name: str | None,
    variables: Any,
    root_value: Any = None,
    context: Any = None,
    operation_extensions: Any = None,
    finding: Finding | None = None,
) -> ExecutionResult | None:
    """Execute an operation of a validated document; None leaves it to graphql-core.

    *finding* is told how its plan was found.
    """
    found = plans.find(document, operation_name, variables, finding)
    if found is None:
        return None
    if isinstance(found, list):
        return ExecutionResult(None, found)
    plan, coerced = found
    run = Execution(plan, root_value, context, coerced, operation_extensions)
    data = await run.run()
    return ExecutionResult(data, run.errors or None)
