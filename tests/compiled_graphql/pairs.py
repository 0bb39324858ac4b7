"""One operation, executed by graphql-core and by the compiled executor, and compared."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import graphql
import strawberry
from graphql import DocumentNode, ExecutionResult, parse, validate
from strawberry.execution import optimized_is_awaitable

from compiled_graphql.cache import PlanCache
from compiled_graphql.extension import execute


@dataclass(frozen=True)
class Answer:
    """What an operation was answered, by both executors alike.

    Attributes:
        data: The compiled executor's.
        errors: As "path: message", or the message alone when it has no path; sorted.
    """

    data: Any
    errors: list[str]


def shown(result: ExecutionResult) -> tuple[str, list[Any]]:
    """Return all that a client could see, with the errors in one order."""
    errors = sorted(
        (str(e.path), e.message, str(e.locations), str(e.extensions), repr(e.original_error))
        for e in result.errors or ()
    )
    return repr(result.data), errors


def told(result: ExecutionResult) -> Answer:
    errors = [
        e.message if e.path is None else f"{'.'.join(map(str, e.path))}: {e.message}"
        for e in result.errors or ()
    ]
    return Answer(result.data, sorted(errors))


def parsed(document: str | DocumentNode) -> DocumentNode:
    return parse(document) if isinstance(document, str) else document


async def by_graphql_core(
    schema: strawberry.Schema,
    document: str | DocumentNode,
    variables: Mapping[str, Any] | None = None,
    *,
    context: Any = None,
    root: Any = None,
    name: str | None = None,
) -> ExecutionResult:
    """Execute as Strawberry does without the compiled executor."""
    is_awaitable: Any = optimized_is_awaitable
    executed: Any = graphql.execute(
        schema._schema,  # noqa: SLF001
        parsed(document),
        root_value=root,
        context_value=context,
        variable_values=dict(variables or {}),
        operation_name=name,
        executor_class=schema.execution_context_class,
        is_awaitable=is_awaitable,
    )
    result: ExecutionResult = await executed if is_awaitable(executed) else executed
    return result


async def by_compiling(
    schema: strawberry.Schema,
    document: str | DocumentNode,
    variables: Mapping[str, Any] | None = None,
    *,
    context: Any = None,
    root: Any = None,
    name: str | None = None,
    plans: PlanCache | None = None,
) -> ExecutionResult:
    """Compile and execute; an operation that is left to graphql-core fails the test."""
    kept = PlanCache(schema, max_plans=4) if plans is None else plans
    result = await execute(
        kept,
        parsed(document),
        operation_name=name,
        variables=variables or {},
        root_value=root,
        context=context,
    )
    assert result is not None, kept.counts
    return result


async def both(
    schema: strawberry.Schema,
    text: str,
    variables: Mapping[str, Any] | None = None,
    *,
    context: Callable[[], Any] = lambda: None,
    root: Any = None,
    name: str | None = None,
) -> Answer:
    """Return what both executors answer to a valid operation; twice by the same plan.

    Args:
        schema: Strawberry's.
        text: The document.
        variables: The operation's.
        context: Makes each execution a context of its own.
        root: The root value.
        name: The operation's.
    """
    problems = validate(schema._schema, parse(text))  # noqa: SLF001
    assert problems == [], text
    others = asyncio.all_tasks()
    core = await by_graphql_core(schema, text, variables, context=context(), root=root, name=name)
    # graphql-core leaves some tasks behind when a value fails at once: they end by themselves.
    while rest := asyncio.all_tasks() - others:
        await asyncio.wait(rest)
    plans = PlanCache(schema, max_plans=4)
    document = parse(text)
    answers = []
    for _ in range(2):
        result = await by_compiling(
            schema, document, variables, context=context(), root=root, name=name, plans=plans
        )
        assert asyncio.all_tasks() == others
        assert shown(result) == shown(core), text
        answers.append(told(result))
    return answers[-1]
