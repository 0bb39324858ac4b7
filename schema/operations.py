"""Executing operations: one way for the server, and the same as a Strawberry extension."""

import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from graphql import GraphQLError, OperationType
from strawberry.extensions import SchemaExtension
from strawberry.types.execution import PreExecutionError
from typing_extensions import override

from compiled_graphql.cache import CACHED, COMPILED, Finding, PlanCache
from compiled_graphql.extension import execute
from resolvers.errors import AppError, ErrorCode, MethodNotAllowedError, PersistedQueryNotFoundError
from schema.allow_list import AllowList
from schema.context import GraphQLContext
from schema.documents import Document, Documents
from schema.failures import document_error
from schema.persisted import PersistedDocuments, check_hash
from schema.timing import Timing

HOW_TO_SUBSCRIBE = (
    "a subscription is answered over a WebSocket with the subprotocol graphql-transport-ws, or to "
    "a request with Accept: text/event-stream"
)


class PreparedDocuments(SchemaExtension):
    """Gives Strawberry's own execution the documents that are prepared already.

    Args:
        documents: Prepares them.
    """

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    @override
    def on_operation(self) -> Iterator[None]:
        context = self.execution_context
        if context.query is not None:
            document = self._documents.prepare(context.query)
            errors = list(document.errors)
            operation = document.find_operation(context.operation_name)
            if operation is not None and not errors:
                cost = self._documents.find_cost_error(document, operation, context.variables or {})
                errors = [] if cost is None else [cost]
            if document.node is not None:
                context.graphql_document = document.node
                context.validation_rules = ()
                context.pre_execution_errors = errors or None
        yield


@dataclass(frozen=True, slots=True)
class Asked:
    """An operation that is asked for.

    Attributes:
        query: The document; "" when it is named by its hash alone.
        reads_only: Refuse mutations, as a GET must.
        extensions: The request's own.
        sha256: The hash that the document is named by, if it is.
    """

    query: str
    operation_name: str | None
    variables: Mapping[str, Any]
    extensions: Mapping[str, Any]
    reads_only: bool = False
    sha256: bytes | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What an operation is answered.

    Attributes:
        has_begun: Whether its execution did; the document, the variables or the limits
            may be in the way.
    """

    data: Any
    errors: Sequence[GraphQLError]
    has_begun: bool


class Operations:
    """Executes operations with the compiled executor, and with Strawberry where that can't.

    Args:
        schema: The Strawberry schema, for what is left to graphql-core.
        documents: Prepares documents.
        persisted: Finds documents by their hash.
        allowed: The only documents that are run; None allows all.
        plans: Compiled operations; None compiles nothing.
        status_of: The HTTP status that REST answers each code with.
    """

    def __init__(
        self,
        schema: Any,
        documents: Documents,
        persisted: PersistedDocuments,
        allowed: AllowList | None,
        plans: PlanCache | None,
        *,
        status_of: Mapping[ErrorCode, int],
    ) -> None:
        self._schema = schema
        self._documents = documents
        self._persisted = persisted
        self._allowed = allowed
        self._plans = plans
        self._status_of = status_of

    @property
    def counts(self) -> Mapping[str, int]:
        """Executions by how they went; see `PlanCache`."""
        return {} if self._plans is None else self._plans.counts

    def describe(self) -> str:
        """Return the schema, in GraphQL's schema language."""
        text: str = self._schema.as_str()
        return text

    async def preload(self) -> None:
        """Make ready what requests are likely to ask for."""
        if self._allowed is None:
            await self._persisted.preload()

    async def look_up(self, asked: Asked, context: GraphQLContext) -> Asked | Answer:
        """Return *asked* with the text of its document, or the answer that it can't be found.

        Raises:
            DocumentNotAllowedError: It is not on the allow-list.
            InvalidInputError: The document is not the one that it is named as.
        """
        if asked.sha256 is not None and asked.query:
            check_hash(asked.sha256, asked.query)
        if self._allowed is not None:
            return replace(asked, query=self._allowed.find_text(asked.sha256, asked.query))
        if asked.sha256 is None:
            return asked
        try:
            text = await self._persisted.find_text(asked.sha256, asked.query, context)
        except PersistedQueryNotFoundError as error:
            return self._refused([_of_request(error)], context)
        return replace(asked, query=text)

    def find_kind(self, asked: Asked) -> OperationType | None:
        """Return what kind of operation *asked* is; None when there is no such operation."""
        operation = self._documents.prepare(asked.query).find_operation(asked.operation_name)
        return None if operation is None else operation.operation

    async def stream(self, asked: Asked, context: GraphQLContext) -> AsyncGenerator[Answer, None]:
        """Yield a subscription's answers; any other operation has one."""
        if self.find_kind(asked) is not OperationType.SUBSCRIPTION:
            yield await self.execute(asked, context)
            return
        results = await self._schema.stream(
            asked.query,
            dict(asked.variables),
            context,
            operation_name=asked.operation_name,
            operation_extensions=dict(asked.extensions),
        )
        async with aclosing(results):
            async for result in results:
                has_begun = not isinstance(result, PreExecutionError)
                errors = self._documented(result.errors or (), context)
                yield Answer(result.data, errors, has_begun=has_begun)

    async def execute(self, asked: Asked, context: GraphQLContext) -> Answer:
        """Execute an operation.

        Raises:
            MethodNotAllowedError: It is a mutation where only reads are allowed.
        """
        document = self._documents.prepare(asked.query, timing=context.timing)
        if document.errors or document.node is None:
            return self._refused(document.errors, context)
        operation = document.find_operation(asked.operation_name)
        if operation is None:
            return self._refused([_no_such_operation(asked.operation_name)], context)
        if operation.operation == OperationType.SUBSCRIPTION:
            return self._refused([GraphQLError(HOW_TO_SUBSCRIBE)], context)
        if asked.reads_only and operation.operation != OperationType.QUERY:
            raise MethodNotAllowedError("a mutation must be POSTed")
        cost = self._documents.find_cost_error(document, operation, asked.variables)
        if cost is not None:
            return self._refused([cost], context)
        if context.timing is None:
            return await self._run(document, asked, context, None)
        finding, began = Finding(), time.perf_counter()
        answer = await self._run(document, asked, context, finding)
        _note(finding, time.perf_counter() - began, context.timing)
        return answer

    async def _run(
        self, document: Document, asked: Asked, context: GraphQLContext, finding: Finding | None
    ) -> Answer:
        result = None
        if self._plans is not None:
            result = await execute(
                self._plans,
                document.node,
                operation_name=asked.operation_name,
                variables=asked.variables,
                context=context,
                operation_extensions=asked.extensions,
                finding=finding,
            )
        elif finding is not None:
            finding.how = "compiling is switched off"
        if result is None:
            return await self._by_strawberry(asked, context)
        if not result.errors:
            return Answer(result.data, (), has_begun=True)
        begun = result.data is not None or any(error.path for error in result.errors)
        return Answer(result.data, self._documented(result.errors, context), has_begun=begun)

    async def _by_strawberry(self, asked: Asked, context: GraphQLContext) -> Answer:
        result = await self._schema.execute(
            asked.query,
            dict(asked.variables),
            context,
            operation_name=asked.operation_name,
            operation_extensions=dict(asked.extensions),
        )
        errors = self._documented(result.errors or (), context)
        begun = result.data is not None or any(error.path for error in errors)
        return Answer(result.data, errors, has_begun=begun)

    def refuse(self, failure: AppError) -> Answer:
        """Return the answer of an operation that *failure* kept from beginning."""
        return self._refused([_of_request(failure)], None)

    def _refused(self, errors: Sequence[GraphQLError], context: GraphQLContext | None) -> Answer:
        return Answer(None, self._documented(errors, context), has_begun=False)

    def _documented(
        self, errors: Sequence[GraphQLError], context: GraphQLContext | None
    ) -> Sequence[GraphQLError]:
        return [document_error(error, context, self._status_of) for error in errors]


def _note(finding: Finding, seconds: float, timing: Timing) -> None:
    """Note in *timing* how an execution of so many seconds went."""
    timing.compile_seconds = finding.compile_seconds
    timing.execute_seconds = seconds - finding.compile_seconds
    if finding.how is not None:
        timing.plan_cached = finding.how == CACHED
        timing.compiled = finding.how in {CACHED, COMPILED}
        timing.fallback = None if timing.compiled else finding.how


def _of_request(error: AppError) -> GraphQLError:
    return GraphQLError(str(error), original_error=error)


def _no_such_operation(name: str | None) -> GraphQLError:
    if name is None:
        return GraphQLError("the document has several operations, or none: name one")
    return GraphQLError(f"Unknown operation named '{name}'.")
