"""Operations over a WebSocket, by the protocol graphql-transport-ws.

Strawberry speaks the protocol; what it executes goes the way of every other operation.

Source: https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md
"""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from datetime import timedelta
from typing import Any, Final

import orjson
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.asgi import ASGIWebSocketAdapter
from strawberry.exceptions import ConnectionRejectionError
from strawberry.http.websocket_origin import is_same_origin
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import (
    BaseGraphQLTransportWSHandler,
)
from strawberry.types import ExecutionResult
from strawberry.types.execution import PreExecutionError
from strawberry.types.unset import UNSET
from uuid_utils import uuid4

from resolvers.errors import AppError, InvalidInputError
from resolvers.failures import explain_failure
from schema.context import GraphQLContext
from schema.operations import Answer, Asked, Operations

GREETING_SECONDS: Final = 10
OPERATIONS_AT_ONCE: Final = 50

# Makes a context for the caller that headers tell of, or raises an application error.
MakeContext = Callable[[HTTPConnection, Mapping[str, str]], Awaitable[GraphQLContext]]


class GraphQLSocket:
    """Serves operations over WebSockets.

    Args:
        operations: Executes them.
        make_context: For each operation, from the headers of the handshake, or those that the
            client's first message has in their stead: a browser can't set any.
        public_url: A page of this origin may connect, as one of the server's own may.
    """

    def __init__(
        self, operations: Operations, make_context: MakeContext, *, public_url: str | None
    ) -> None:
        self._operations = operations
        self._make_context = make_context
        self._public_url = public_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        socket = WebSocket(scope, receive, send)
        if not self._may_connect(socket):
            await socket.close(code=4403, reason="Forbidden origin")
            return
        if GRAPHQL_TRANSPORT_WS_PROTOCOL not in scope.get("subprotocols", ()):
            await socket.close(code=4406, reason="Subprotocol not acceptable")
            return
        await socket.accept(subprotocol=GRAPHQL_TRANSPORT_WS_PROTOCOL)
        connection = _Connection(self._operations, socket, self._make_context)
        # It has the few methods that Strawberry calls of a view, and of a schema.
        stand_in: Any = connection
        handler = BaseGraphQLTransportWSHandler(
            view=stand_in,
            websocket=ASGIWebSocketAdapter(stand_in, socket, socket),
            context=connection.params,
            root_value=None,
            schema=stand_in,
            connection_init_wait_timeout=timedelta(seconds=GREETING_SECONDS),
            max_subscriptions_per_connection=OPERATIONS_AT_ONCE,
        )
        await handler.handle()

    def _may_connect(self, socket: WebSocket) -> bool:
        """Tell whether the page that connects, if a page does, is one of ours."""
        origin = socket.headers.get("Origin")
        if origin is None or is_same_origin(origin, socket.headers.get("Host")):
            return True
        return self._public_url is not None and self._public_url == origin


class _Connection:
    """One connection: who calls, and how what it asks for is executed."""

    def __init__(
        self, operations: Operations, socket: WebSocket, make_context: MakeContext
    ) -> None:
        self._operations = operations
        self._socket = socket
        self._make_context = make_context
        self._headers: Mapping[str, str] = socket.headers
        # Strawberry puts the payload of the first message here.
        self.params: dict[str, Any] = {}

    async def on_ws_connect(self, params: dict[str, Any]) -> object:
        """Learn who calls, or refuse the connection."""
        given = params.get("connection_params") or {}
        named = {name: value for name, value in given.items() if isinstance(value, str)}
        try:
            if named:
                self._headers = Headers({**self._socket.headers, **Headers(named)})
            await self._make_context(self._socket, self._headers)
        except UnicodeEncodeError as error:
            raise ConnectionRejectionError({"code": "unauthenticated"}) from error
        except AppError as error:
            raise ConnectionRejectionError({"code": error.code.value}) from error
        return UNSET

    def decode_json(self, text: str | bytes) -> object:
        """Read a message; one that is not in the protocol's form is not JSON to Strawberry."""
        message = orjson.loads(text)
        if not isinstance(message, dict) or not isinstance(message.get("id", ""), str):
            raise json.JSONDecodeError("a message must be an object", str(text), 0)
        if message.get("type") == "subscribe" and not isinstance(message.get("payload"), dict):
            raise json.JSONDecodeError("payload must be an object", str(text), 0)
        return message

    def encode_json(self, message: object) -> str:
        """Write a message."""
        return orjson.dumps(message, default=str).decode()

    async def stream(
        self,
        query: object,
        variable_values: object = None,
        operation_name: str | None = None,
        **_: Any,
    ) -> AsyncGenerator[Any, None]:
        """Return the results of an operation."""
        if not isinstance(query, str) or not isinstance(variable_values, dict | None):
            return self._refuse(InvalidInputError("query: must be a string, variables an object"))
        return self._results(Asked(query, operation_name, variable_values or {}, {}))

    async def _refuse(self, error: AppError) -> AsyncGenerator[ExecutionResult, None]:
        yield _result(self._operations.refuse(error))

    async def _results(self, asked: Asked) -> AsyncGenerator[ExecutionResult, None]:
        request_id = str(uuid4())
        try:
            context = await self._make_context(self._socket, self._headers)
            request_id = context.ctx.request_id
            found = await self._operations.look_up(asked, context)
            if isinstance(found, Answer):
                yield _result(found)
                return
            async with aclosing(self._operations.stream(found, context)) as answers:
                async for answer in answers:
                    # Whoever has lost the right to what is followed is told no more of it.
                    await self._make_context(self._socket, self._headers)
                    yield _result(answer)
        except Exception as error:  # noqa: BLE001 - every failure has an answer
            yield _result(self._operations.refuse(explain_failure(error, request_id)))


def _result(answer: Answer) -> ExecutionResult:
    errors = list(answer.errors) or None
    if not answer.has_begun:
        return PreExecutionError(data=None, errors=errors)
    return ExecutionResult(data=answer.data, errors=errors)
