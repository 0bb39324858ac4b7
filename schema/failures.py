"""How failures are shown in GraphQL: with REST's code, status and details; bugs masked."""

from collections.abc import Iterator, Mapping

from graphql import GraphQLError
from strawberry.extensions import SchemaExtension
from typing_extensions import override

from resolvers.errors import ErrorCode
from resolvers.failures import explain_failure
from schema.context import GraphQLContext


class DocumentedErrors(SchemaExtension):
    """Gives every error of an answer its documented `extensions`.

    Args:
        status_of: The HTTP status that REST answers each code with.
    """

    def __init__(self, *, status_of: Mapping[ErrorCode, int]) -> None:
        self._status_of = status_of

    @override
    def on_operation(self) -> Iterator[None]:
        yield
        result = self.execution_context.result
        errors = getattr(result, "errors", None)
        if errors:
            result.errors = [self._explain(error) for error in errors]  # type: ignore[union-attr]

    def _explain(self, error: GraphQLError) -> GraphQLError:
        if error.original_error is None:
            return error  # the document's own fault: syntax, validation, coercion
        context = self.execution_context.context
        request_id = context.ctx.request_id if isinstance(context, GraphQLContext) else ""
        failure = explain_failure(error.original_error, request_id)
        return GraphQLError(
            str(failure),
            error.nodes,
            error.source,
            error.positions,
            error.path,
            failure,
            {
                "code": failure.code.value,
                "status": int(self._status_of[failure.code]),
                "details": failure.details,
            },
        )
