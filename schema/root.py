"""The executable schema, with its limits."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import strawberry
from graphql import GraphQLError
from strawberry.extensions import (
    DisableIntrospection,
    MaxAliasesLimiter,
    MaxTokensLimiter,
    ParserCache,
    QueryDepthLimiter,
    SchemaExtension,
)
from strawberry.types import ExecutionContext, ExecutionResult
from typing_extensions import override

from compiled_graphql.cache import PlanCache
from compiled_graphql.extension import CompiledExecution
from db.records import Row
from resolvers.errors import ErrorCode
from schema.failures import document_error
from schema.limits import CostLimit
from schema.mutations import Mutation
from schema.queries import Query

# Parsed documents kept, of a few kilobytes each.
CACHED_DOCUMENTS = 1_000
# Compiled operations kept, of some tens of kilobytes each.
CACHED_PLANS = 500


@dataclass(frozen=True, slots=True)
class OperationLimits:
    """Bounds of a GraphQL operation; `app/settings.py` says what each is for."""

    max_depth: int
    max_tokens: int
    max_aliases: int
    max_cost: int
    introspection: bool
    compiled: bool


class Schema(strawberry.Schema):
    """Gives every error of an answer its documented form, syntax errors too.

    Args:
        status_of: The HTTP status that REST answers each code with.
        extensions: Strawberry's.
    """

    def __init__(
        self, *, status_of: Mapping[ErrorCode, int], extensions: Sequence[Callable[[], Any]]
    ) -> None:
        super().__init__(query=Query, mutation=Mutation, extensions=extensions)
        self._status_of = status_of

    @override
    async def execute(
        self,
        query: str | None,
        variable_values: dict[str, Any] | None = None,
        context_value: Any | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> ExecutionResult:
        """Run an operation."""
        result = await super().execute(query, variable_values, context_value, *args, **kwargs)
        if result.errors:
            result.errors = [
                document_error(error, context_value, self._status_of) for error in result.errors
            ]
        return result

    @override
    def process_errors(
        self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None
    ) -> None:
        """Log nothing here: `document_error` knows a bug from an answer."""


def build_schema(limits: OperationLimits, *, status_of: Mapping[ErrorCode, int]) -> Schema:
    """Build the executable schema.

    Args:
        limits: What an operation may ask for.
        status_of: The HTTP status that REST answers each code with.
    """
    extensions: list[Callable[[], SchemaExtension]] = [
        lambda: ParserCache(maxsize=CACHED_DOCUMENTS),
        lambda: QueryDepthLimiter(max_depth=limits.max_depth),
        lambda: MaxTokensLimiter(max_token_count=limits.max_tokens),
        lambda: MaxAliasesLimiter(max_alias_count=limits.max_aliases),
        lambda: CostLimit(max_cost=limits.max_cost),
    ]
    if not limits.introspection:
        extensions.append(DisableIntrospection)
    schema = Schema(status_of=status_of, extensions=extensions)
    if limits.compiled:
        plans = PlanCache(schema, max_plans=CACHED_PLANS, native=True, record_class=Row)
        schema.extensions = (*schema.extensions, lambda: CompiledExecution(plans))
    return schema
