"""GraphQL over HTTP: the endpoint at /graphql, and GraphiQL for browsers.

A lean ASGI application of its own: a framework's routing and dependencies cost more
than most operations do.

Source: GraphQL over HTTP, September 2025 draft; the media types and statuses are its.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import orjson
from graphql import OperationType
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import FileResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uuid_utils import uuid4

from app.graphql_events import EVENTS_TYPE, send_events
from app.graphql_socket import GraphQLSocket
from resolvers.auth import demand_full_access
from resolvers.context import Context
from resolvers.errors import (
    InvalidInputError,
    MethodNotAllowedError,
    NotFoundError,
    UnsupportedMediaTypeError,
)
from resolvers.failures import explain_failure
from rest_compat.deps import authenticate, build_context
from rest_compat.problems import GRAPHQL_PATH, problem_response
from schema.context import GraphQLContext
from schema.operations import Answer, Asked, Operations
from schema.persisted import read_hash
from schema.timing import Timing, counting_statements

JSON_TYPE: Final = "application/json"
SPEC_TYPE: Final = "application/graphql-response+json"
GRAPHIQL_PAGE: Final = Path(__file__).parent / "static" / "graphiql" / "index.html"
# GraphiQL's editor sets styles from script; nothing else is allowed inline.
GRAPHIQL_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "font-src 'self'; img-src 'self' data:; connect-src 'self'; worker-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
TIMING_HEADER: Final = "X-Gero-Timing"
# An operation that takes longer is watched: its client may leave before it ends.
UNWATCHED_SECONDS: Final = 0.02
# A body is handed over in pieces of this size, so that the socket never holds a second
# copy of a large one.
PIECE_BYTES: Final = 256 * 1024


class GraphQLEndpoint:
    """Serves operations, and GraphiQL to browsers.

    Args:
        operations: Executes them.
        api: The application whose state authenticates requests.
        public_url: Where clients reach the server; None goes by their requests.
        graphiql: Serve GraphiQL.
    """

    def __init__(
        self, operations: Operations, api: ASGIApp, *, public_url: str | None, graphiql: bool
    ) -> None:
        self._operations = operations
        self._api = api
        self._public_url = public_url
        self._graphiql = graphiql
        self._socket = GraphQLSocket(operations, self._make_context, public_url=public_url)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or one WebSocket."""
        scope["app"] = self._api
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            if self._graphiql and _is_a_browser(request):
                page = FileResponse(
                    GRAPHIQL_PAGE,
                    headers={
                        "Content-Security-Policy": GRAPHIQL_POLICY,
                        "Cache-Control": "no-cache",
                    },
                )
                await page(scope, receive, send)
                return
            asked = await read_operation(request)
            ctx = await build_context(request)
            context = GraphQLContext(ctx, partial(self._base_url, request))
            if wants_events(request.headers.get("Accept", "")):
                await send_events(self._events(asked, context, request), receive, send)
                return
            if wants_timing(request):
                demand_full_access(ctx, TIMING_HEADER)
                context.timing = Timing()
                with counting_statements(ctx.database, context.timing):
                    answer = await self._answer(asked, context, receive)
            else:
                answer = await self._answer(asked, context, receive)
        except ClientDisconnect:
            raise
        except Exception as error:  # noqa: BLE001 - every other failure has an answer
            failure = explain_failure(error, scope.get("request_id", ""))
            response = problem_response(failure, GRAPHQL_PATH)
            if isinstance(failure, MethodNotAllowedError):
                response.headers["Allow"] = "POST" if request.method == "GET" else "GET, POST"
            await response(scope, receive, send)
            return
        if answer is not None:
            await _send(answer, context.timing, request.headers.get("Accept", ""), send)

    async def _make_context(
        self, connection: HTTPConnection, headers: Mapping[str, str]
    ) -> GraphQLContext:
        caller = await authenticate(connection, headers)
        ctx = Context(connection.app.state.services, caller, str(uuid4()))
        return GraphQLContext(ctx, partial(self._base_url, connection))

    async def _events(
        self, asked: Asked, context: GraphQLContext, request: Request
    ) -> AsyncGenerator[bytes, None]:
        """Yield what an operation is answered, each encoded as the specification has it."""
        try:
            found = await self._operations.look_up(asked, context)
            if isinstance(found, Answer):
                yield encode(found, spec=True)
                return
            async with aclosing(self._operations.stream(found, context)) as answers:
                async for answer in answers:
                    # Whoever has lost the right to what is followed is told no more of it.
                    await authenticate(request, request.headers)
                    yield encode(answer, spec=True)
        except Exception as error:  # noqa: BLE001 - every failure has an answer
            failure = explain_failure(error, context.ctx.request_id)
            yield encode(self._operations.refuse(failure), spec=True)

    async def _answer(
        self, asked: Asked, context: GraphQLContext, receive: Receive
    ) -> Answer | None:
        found = await self._operations.look_up(asked, context)
        return await self._execute(found, context, receive) if isinstance(found, Asked) else found

    def _base_url(self, connection: HTTPConnection) -> str:
        base = self._public_url or str(connection.base_url).rstrip("/")
        # A WebSocket's own scheme is not that of the routes beside it.
        return f"http{base.removeprefix('ws')}" if base.startswith("ws") else base

    async def _execute(
        self, asked: Asked, context: GraphQLContext, receive: Receive
    ) -> Answer | None:
        """Execute an operation; a query whose client leaves is cancelled, and answered None."""
        watch = _Watch(receive)
        timer = asyncio.get_running_loop().call_later(
            UNWATCHED_SECONDS, self._begin_watch, watch, asked
        )
        try:
            return await self._operations.execute(asked, context)
        except asyncio.CancelledError:
            if not watch.client_left:
                raise
            watch.forgive()
            return None
        finally:
            timer.cancel()
            watch.end()

    def _begin_watch(self, watch: "_Watch", asked: Asked) -> None:
        if self._operations.find_kind(asked) is not OperationType.MUTATION:
            watch.begin()


class _Watch:
    """Cancels the task that made it when the client of its request leaves."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._watched = asyncio.current_task()
        self._watching: asyncio.Task[None] | None = None
        self.client_left = False

    def begin(self) -> None:
        """Begin to watch."""
        self._watching = asyncio.create_task(self._wait())

    def end(self) -> None:
        """Watch no longer."""
        if self._watching is not None:
            self._watching.cancel()

    def forgive(self) -> None:
        """Let the task that was cancelled go on to its own end."""
        if self._watched is not None:
            self._watched.uncancel()

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.client_left = True
        if self._watched is not None:
            self._watched.cancel()


def wants_events(accept: str) -> bool:
    """Tell whether a client asks for its answers as server-sent events."""
    return EVENTS_TYPE in accept and _quality(accept, EVENTS_TYPE) > 0


def wants_timing(request: Request) -> bool:
    """Tell whether a client asks where the time goes.

    Raises:
        InvalidInputError: The header has another value than the one that asks.
    """
    value = request.headers.get(TIMING_HEADER)
    if value not in {None, "1"}:
        raise InvalidInputError(f"{TIMING_HEADER}: must be 1 (got {value!r})")
    return value is not None


async def read_operation(request: Request) -> Asked:
    """Read what a request asks for.

    Raises:
        InvalidInputError: It is not in the form that is specified.
        MethodNotAllowedError: It is neither a GET nor a POST.
        NotFoundError: A browser asks for the page that is switched off.
        UnsupportedMediaTypeError: The body is not sent as JSON.
    """
    if _is_a_browser(request):
        raise NotFoundError(
            "GraphiQL is switched off; send operations by POST, as application/json"
        )
    if request.method == "GET":
        return _read_parameters(request)
    if request.method != "POST":
        raise MethodNotAllowedError(f"{request.url.path} does not take {request.method}")
    sent = request.headers.get("Content-Type", "")
    if sent.partition(";")[0].strip().casefold() != JSON_TYPE:
        got = f" (got {sent!r})" if sent else ""
        raise UnsupportedMediaTypeError(
            f"the body must be sent with Content-Type: {JSON_TYPE}{got}"
        )
    body = _parse("the body", await request.body())
    if not isinstance(body, dict):
        raise InvalidInputError("the body must be a JSON object with a query")
    return _asked(body, reads_only=False)


def _read_parameters(request: Request) -> Asked:
    """Read a GET: an object in a parameter is written as JSON."""
    parameters: dict[str, Any] = dict(request.query_params)
    for name in ("variables", "extensions"):
        if name in parameters:
            parameters[name] = _parse(name, parameters[name])
    return _asked(parameters, reads_only=True)


def _parse(name: str, text: str | bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidInputError(f"{name} is not valid JSON: {error}") from error


def _asked(given: Mapping[str, Any], *, reads_only: bool) -> Asked:
    query, name = given.get("query"), given.get("operationName")
    if name is not None and not isinstance(name, str):
        raise InvalidInputError(f"operationName: must be a string (got {name!r})")
    objects: dict[str, Mapping[str, Any]] = {}
    for each in ("variables", "extensions"):
        value = given.get(each)
        if value is not None and not isinstance(value, dict):
            raise InvalidInputError(f"{each}: must be an object (got {value!r})")
        objects[each] = value or {}
    sha256 = read_hash(objects["extensions"])
    if query is None and sha256 is not None:
        query = ""
    if not isinstance(query, str) or not (query or sha256):
        raise InvalidInputError("query: is required, and must be a string")
    return Asked(query, name or None, **objects, reads_only=reads_only, sha256=sha256)


def _is_a_browser(request: Request) -> bool:
    return (
        request.method == "GET"
        and "text/html" in request.headers.get("Accept", "")
        and not {"query", "extensions"} & request.query_params.keys()
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
    """Tell whether a client prefers the specification's own media type."""
    if SPEC_TYPE not in accept:
        return False
    wanted = _quality(accept, SPEC_TYPE)
    return wanted > 0 and wanted >= _quality(accept, JSON_TYPE)


def encode(answer: Answer, *, spec: bool, timing: Timing | None = None) -> bytes:
    """Return *answer* as JSON; one that has not begun has no data to show, says the draft."""
    shown: dict[str, Any] = {}
    if answer.has_begun or not spec:
        shown["data"] = answer.data
    if answer.errors:
        shown["errors"] = [error.formatted for error in answer.errors]
    if timing is not None:
        began = time.perf_counter()
        shown = {
            name: orjson.Fragment(orjson.dumps(part, default=_write))
            for name, part in shown.items()
        }
        timing.encode_seconds = time.perf_counter() - began
        shown["extensions"] = {"timing": timing.show()}
    return orjson.dumps(shown, default=_write)


def _write(value: Any) -> Any:
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in an answer")


async def _send(answer: Answer, timing: Timing | None, accept: str, send: Send) -> None:
    """Send an answer with the media type and status that its client's Accept asks for.

    A client that asks for `application/json` gets 200 for what could not begin, as it
    expects; the specification's own type has 400 for it.
    """
    spec = wants_spec_type(accept)
    body = encode(answer, spec=spec, timing=timing)
    start: Message = {
        "type": "http.response.start",
        "status": 400 if spec and not answer.has_begun else 200,
        "headers": [
            (b"content-type", f"{SPEC_TYPE if spec else JSON_TYPE}; charset=utf-8".encode()),
            (b"content-length", str(len(body)).encode()),
            (b"vary", b"Accept"),
        ],
    }
    await send(start)
    view = memoryview(body)
    for begin in range(0, len(body), PIECE_BYTES):
        end = begin + PIECE_BYTES
        piece = body if len(body) <= PIECE_BYTES else bytes(view[begin:end])
        more = end < len(body)
        await send({"type": "http.response.body", "body": piece, "more_body": more})
