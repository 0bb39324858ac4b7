"""What every request passes through: its id, its body's limit, its log line, and being counted."""

import re
import time
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uuid_utils import uuid4

from app.logs import current_otel_trace_id, current_request_id
from app.meters import OTHER, PrometheusMeters
from app.request_log import RequestLog
from resolvers.errors import (
    AppError,
    BodyTooLargeError,
    UnavailableError,
    UnsupportedMediaTypeError,
)
from rest_compat.otlp_answers import OTLP_PATHS, UNCOMPRESSED
from rest_compat.refusals import refusal_response

if TYPE_CHECKING:
    from app.tracing import Tracing

# Logged of a request that nobody waited for any longer; nginx's own number for it.
CLIENT_LEFT = 499
REQUEST_ID = re.compile(rb"^[A-Za-z0-9._-]{1,100}$")


@dataclass(slots=True)
class BodyRoom:
    """Room for the bodies of requests, which are in memory until these are answered.

    Attributes:
        max_bytes: At once.
        used_bytes: By those under way.
    """

    max_bytes: int
    used_bytes: int = 0


class RequestBoundary:
    """Gives each request an id, bounds its body, and logs and counts how it ended.

    Args:
        app: What serves the request.
        max_body_bytes: The largest body; a larger one is answered 413.
        room: For the bodies of all requests under way; beyond it, 503.
        log: Has a line for each request.
        meters: Count it.
        route: The template of the one route that *app* is; None when it has a router.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_body_bytes: int,
        room: BodyRoom,
        log: RequestLog,
        meters: PrometheusMeters,
        route: str | None = None,
    ) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._room = room
        self._log = log
        self._meters = meters.requests
        self._tracing = meters.tracing
        self._route = route

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one request."""
        if scope["type"] != "http":
            return self._app(scope, receive, send)
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id")
        if given is not None and REQUEST_ID.match(given):
            request_id = given.decode()
        else:
            request_id = str(uuid4())
            given = request_id.encode()
        scope["request_id"] = request_id
        current_request_id.set(request_id)
        exchange = _Exchange(receive, send, given, self._max_body_bytes, self._room)
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._max_body_bytes:
            exchange.refusal = _too_large(self._max_body_bytes)
        elif b"content-encoding" in headers and scope["path"] not in OTLP_PATHS:
            exchange.refusal = _find_coding(headers)
        if self._tracing is None:
            return self._serve(scope, exchange)
        return self._serve_traced(self._tracing, scope, headers, exchange)

    async def _serve_traced(
        self,
        tracing: "Tracing",
        scope: Scope,
        headers: Mapping[bytes, bytes],
        exchange: "_Exchange",
    ) -> None:
        with tracing.request(scope, headers) as span:
            current_otel_trace_id.set(span.trace_id)
            await self._serve(scope, exchange)
            span.end(self._route or route_of(scope), exchange.status)

    async def _serve(self, scope: Scope, exchange: "_Exchange") -> None:
        """Serve one request, log and count it."""
        began = time.perf_counter()
        self._meters.in_flight += 1
        try:
            if exchange.refusal is None:
                await self._app(scope, exchange.receive, exchange.send)
            if exchange.refusal is not None and not exchange.is_answered:
                await exchange.refuse(scope)
        except _RefusedBodyError:
            if exchange.is_answered:
                exchange.status = 500
                raise
            await exchange.refuse(scope)
        except ClientDisconnect:
            pass  # there is nobody to answer
        except BaseException:
            exchange.status = 500
            raise
        finally:
            self._room.used_bytes -= exchange.read_bytes
            self._meters.in_flight -= 1
            seconds = time.perf_counter() - began
            route = self._route or route_of(scope)
            self._meters.ended(route, scope["method"], exchange.status, seconds)
            self._log.write(scope, route, exchange.status, seconds, exchange.headers)


class _Exchange:
    """A request and its answer: the body is cut off where it passes a limit.

    Attributes:
        status: Of the answer.
        headers: Of the answer.
        is_answered: The application has begun to.
        read_bytes: Of the body, so far.
        refusal: Why the body is cut off, if it is.
    """

    __slots__ = (
        "_max_bytes", "_receive", "_request_id", "_room", "_send", "headers", "is_answered",
        "read_bytes", "refusal", "status",
    )  # fmt: skip

    def __init__(
        self, receive: Receive, send: Send, request_id: bytes, max_bytes: int, room: BodyRoom
    ) -> None:
        self._receive = receive
        self._send = send
        self._request_id = request_id
        self._max_bytes = max_bytes
        self._room = room
        self.status = CLIENT_LEFT
        self.headers: list[tuple[bytes, bytes]] = []
        self.is_answered = False
        self.read_bytes = 0
        self.refusal: AppError | None = None

    async def receive(self) -> Message:
        """Return the next message, as long as the body is within the limits."""
        message = await self._receive()
        size = len(message.get("body", b""))
        if size:
            self.read_bytes += size
            self._room.used_bytes += size
            if self.read_bytes > self._max_bytes:
                self.refusal = _too_large(self._max_bytes)
            elif self._room.used_bytes > self._room.max_bytes:
                self.refusal = _no_room()
            if self.refusal is not None:
                raise _RefusedBodyError
        return message

    def send(self, message: Message) -> Awaitable[None]:
        """Pass on what the application sends, but not what it makes of a body that was cut off."""
        if self.refusal is not None and not self.is_answered:
            return _nothing()
        self.is_answered = True
        return self._pass_on(message)

    def refuse(self, scope: Scope) -> Awaitable[None]:
        """Answer that the body is refused."""
        if self.refusal is None:
            raise RuntimeError("what is not refused is answered")

        async def send(message: Message) -> None:
            await self._pass_on(message)

        return refusal_response(scope, self.refusal)(scope, self._receive, send)

    def _pass_on(self, message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = [*message["headers"], (b"x-request-id", self._request_id)]
            message["headers"] = self.headers
        return self._send(message)


async def _nothing() -> None:
    pass


def _too_large(max_bytes: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"the body is over the limit of {max_bytes} bytes")


def _find_coding(headers: Mapping[bytes, bytes]) -> UnsupportedMediaTypeError | None:
    """Return the refusal of a body that is compressed; None where there is none."""
    has_body = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
    coding = headers[b"content-encoding"].decode("latin-1").strip()
    if not has_body or coding.lower() in UNCOMPRESSED:
        return None
    return UnsupportedMediaTypeError(f"Content-Encoding: must be identity (got {coding!r})")


def _no_room() -> UnavailableError:
    return UnavailableError(
        "the server has as many bodies of requests under way as it can hold",
        retry_after_seconds=1,
    )


def route_of(scope: Scope) -> str:
    """Return the template of the route that a router has found, or "other"."""
    route: Any = scope.get("route")
    return OTHER if route is None else str(route.path)


class _RefusedBodyError(Exception):
    """The body that is being read has passed a limit."""
