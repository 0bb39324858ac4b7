"""How failures are shown in GraphQL: with REST's code, status and details; bugs masked."""

import re
from collections.abc import Mapping

from graphql import GraphQLError

from resolvers.errors import AppError, ErrorCode, InvalidInputError, QueryTooCostlyError
from resolvers.failures import explain_failure
from schema.context import GraphQLContext

# What Strawberry's limiters say; they give their errors no code.
LIMIT_PASSED = re.compile(
    r"exceeds maximum operation depth|aliases found\. Allowed|contains more than \d+ tokens"
)


def document_error(
    error: GraphQLError, context: object, status_of: Mapping[ErrorCode, int]
) -> GraphQLError:
    """Return *error* with its documented `extensions`.

    Args:
        error: What graphql-core or Strawberry gathered.
        context: The operation's.
        status_of: The HTTP status that REST answers each code with.
    """
    request_id = context.ctx.request_id if isinstance(context, GraphQLContext) else ""
    cause = _cause(error)
    failure = _document_fault(error) if cause is None else explain_failure(cause, request_id)
    return GraphQLError(
        str(failure),
        error.nodes,
        error.source,
        error.positions,
        error.path,
        failure,
        {
            "code": failure.code.value,
            "status": int(status_of[failure.code]),
            "details": failure.details,
        },
    )


def _cause(error: GraphQLError) -> Exception | None:
    """Return what a resolver raised; None when the document or its variables are wrong.

    graphql-core wraps what is wrong with a variable twice.
    """
    cause: Exception | None = error
    while isinstance(cause, GraphQLError):
        cause = cause.original_error
    return cause


def _document_fault(error: GraphQLError) -> AppError:
    """Return the failure that a syntax, validation or coercion error amounts to."""
    kind = QueryTooCostlyError if LIMIT_PASSED.search(error.message) else InvalidInputError
    return kind(error.message)
