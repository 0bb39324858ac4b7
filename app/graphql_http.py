"""GraphQL over HTTP: the endpoint at /graphql, and GraphiQL for browsers."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import orjson
from cross_web import HTTPException
from fastapi import Request, Response
from starlette.responses import FileResponse
from strawberry import UNSET
from strawberry.fastapi import GraphQLRouter
from strawberry.http import GraphQLHTTPResponse
from strawberry.types import ExecutionResult
from typing_extensions import override

from resolvers.errors import (
    AppError,
    InvalidInputError,
    MethodNotAllowedError,
    NotFoundError,
    UnsupportedMediaTypeError,
)
from rest_compat.problems import problem_response
from schema.context import GraphQLContext
from schema.root import Schema

JSON_TYPE: Final = "application/json"
SPEC_TYPE: Final = "application/graphql-response+json"
GRAPHIQL_PAGE: Final = Path(__file__).parent / "static" / "graphiql" / "index.html"
# GraphiQL's editor sets styles from script; nothing else is allowed inline.
GRAPHIQL_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "font-src 'self'; img-src 'self' data:; connect-src 'self'; worker-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def _quality(accept: str, media_type: str) -> float:
    """Return how much *accept* wants *media_type*: its q, or -1 when it is not named."""
    best = -1.0
    for part in accept.split(","):
        name, *parameters = [piece.strip().casefold() for piece in part.split(";")]
        if name == media_type:
            given = next((p[2:] for p in parameters if p.startswith("q=")), "1")
            try:
                best = max(best, float(given))
            except ValueError:
                continue
    return best


def wants_spec_type(accept: str) -> bool:
    """Tell whether a client prefers the specification's own media type.

    Source: GraphQL over HTTP, September 2025 draft, "Accept" and "Status codes".
    """
    wanted = _quality(accept, SPEC_TYPE)
    return wanted > 0 and wanted >= _quality(accept, JSON_TYPE)


class SpecRouter(GraphQLRouter[GraphQLContext, None]):
    """Answers in the specification's media type, with 4xx for requests that could not begin.

    A client that asks for `application/json` gets 200 for them, as it expects.

    Args:
        schema: What is served.
        context: Builds a request's context.
        graphiql: Serve GraphiQL to browsers.
    """

    def __init__(
        self,
        schema: Schema,
        context: Callable[..., Awaitable[GraphQLContext]],
        *,
        graphiql: bool,
    ) -> None:
        super().__init__(
            schema,
            context_getter=context,
            graphql_ide=None,
            subscription_protocols=(),
            include_in_schema=False,
        )
        self._graphiql = graphiql

    @override
    async def run(self, request: Any, context: Any = UNSET, root_value: Any = UNSET) -> Any:
        """Serve one request."""
        if request.scope["type"] != "http":
            return await super().run(request, context, root_value)
        if self._graphiql and _is_a_browser(request):
            return FileResponse(
                GRAPHIQL_PAGE,
                headers={"Content-Security-Policy": GRAPHIQL_POLICY, "Cache-Control": "no-cache"},
            )
        try:
            self._check_form(request)
            response = await super().run(request, context, root_value)
        except HTTPException as error:
            failure: AppError = InvalidInputError(error.reason)
            if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
                failure = MethodNotAllowedError(error.reason)
            return problem_response(failure, graphql=True)
        except (NotFoundError, UnsupportedMediaTypeError) as error:
            return problem_response(error, graphql=True)
        return _finish(request, response)

    def _check_form(self, request: Request) -> None:
        """Refuse what is not a GraphQL request at all.

        Raises:
            NotFoundError: A browser asks for the page that is switched off.
            UnsupportedMediaTypeError: The body is not sent as JSON.
        """
        if _is_a_browser(request):
            raise NotFoundError(
                "GraphiQL is switched off; send operations by POST, as application/json"
            )
        sent = request.headers.get("Content-Type", "")
        if request.method == "POST" and sent.partition(";")[0].strip() != JSON_TYPE:
            raise UnsupportedMediaTypeError(
                f"the body must be sent with Content-Type: {JSON_TYPE} (got {sent!r})"
                if sent
                else f"the body must be sent with Content-Type: {JSON_TYPE}"
            )

    @override
    async def process_result(
        self, request: Request, result: ExecutionResult
    ) -> GraphQLHTTPResponse:
        """Leave `data` out of an answer that has none to give."""
        answer = await super().process_result(request, result)
        failed = bool(result.errors) and result.data is None
        could_not_begin = failed and all(error.path is None for error in result.errors or ())
        spec = wants_spec_type(request.headers.get("Accept", ""))
        if spec and could_not_begin:
            answer.pop("data", None)
        request.state.graphql_answer = (spec, could_not_begin)
        return answer

    @override
    def encode_json(self, data: object) -> bytes:
        """Encode with orjson, which is the faster one."""
        return orjson.dumps(data)


def _is_a_browser(request: Request) -> bool:
    asks_for_a_page = "text/html" in request.headers.get("Accept", "")
    return request.method == "GET" and asks_for_a_page and "query" not in request.query_params


def _finish(request: Request, response: Response) -> Response:
    """Set an answer's media type and status as the client's Accept asks."""
    spec, could_not_begin = getattr(request.state, "graphql_answer", (False, False))
    response.headers["vary"] = "Accept"
    if spec:
        response.headers["content-type"] = f"{SPEC_TYPE}; charset=utf-8"
        if could_not_begin and response.status_code == HTTPStatus.OK:
            response.status_code = HTTPStatus.BAD_REQUEST
    return response
