"""What every request passes through: its id, its body's limit, its log line, and being counted."""

import re
import time
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uuid_utils import uuid4

from app.logs import current_otel_trace_id, current_request_id
from app.meters import OTHER, PrometheusMeters
from app.request_log import RequestLog
from resolvers.errors import AppError, BodyTooLargeError, UnavailableError
from rest_compat.refusals import refusal_response

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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given if REQUEST_ID.match(given) else str(uuid4()).encode()
        scope["request_id"] = request_id.decode()
        current_request_id.set(scope["request_id"])
        if self._tracing is None:
            await self._serve(scope, headers, receive, send)
            return
        with self._tracing.request(scope, headers) as span:
            current_otel_trace_id.set(span.trace_id)
            route, status = await self._serve(scope, headers, receive, send)
            span.end(route, status)

    async def _serve(
        self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send
    ) -> tuple[str, int]:
        """Serve a request, and return its route and the status of the answer."""
        request_id = scope["request_id"].encode()
        began, status = time.perf_counter(), CLIENT_LEFT
        answered: list[tuple[bytes, bytes]] = []

        async def tell(message: Message) -> None:
            nonlocal status, answered
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = answered = [
                    *message["headers"], (b"x-request-id", request_id)
                ]  # fmt: skip
            await send(message)

        self._meters.in_flight += 1
        try:
            await self._bounded(scope, headers, receive, tell)
        except ClientDisconnect:
            pass  # there is nobody to answer
        except BaseException:
            status = 500
            raise
        finally:
            self._meters.in_flight -= 1
            seconds = time.perf_counter() - began
            route = self._route or route_of(scope)
            self._meters.ended(route, scope["method"], status, seconds)
            self._log.write(scope, route, status, seconds, answered)
        return route, status

    async def _bounded(
        self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._max_body_bytes:
            await _refuse(_too_large(self._max_body_bytes), scope, receive, send)
            return
        body = _CountedBody(receive, self._max_body_bytes, self._room)
        is_answered = False

        async def answer(message: Message) -> None:
            """Pass on what the application sends, but not what it makes of a cut body."""
            nonlocal is_answered
            if body.refusal is not None and not is_answered:
                return
            is_answered = True
            await send(message)

        try:
            await self._app(scope, body.receive, answer)
        except _RefusedBodyError:
            if is_answered:
                raise
        finally:
            self._room.used_bytes -= body.read_bytes
        if body.refusal is not None and not is_answered:
            await _refuse(body.refusal, scope, receive, send)


class _CountedBody:
    """A body that is cut off where it passes a limit.

    Attributes:
        read_bytes: So far.
        refusal: Why it was cut off, if it was.
    """

    def __init__(self, receive: Receive, max_bytes: int, room: BodyRoom) -> None:
        self._receive = receive
        self._max_bytes = max_bytes
        self._room = room
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


def _too_large(max_bytes: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"the body is over the limit of {max_bytes} bytes")


def _no_room() -> UnavailableError:
    return UnavailableError(
        "the server has as many bodies of requests under way as it can hold",
        retry_after_seconds=1,
    )


async def _refuse(error: AppError, scope: Scope, receive: Receive, send: Send) -> None:
    response = refusal_response(scope, error)
    await response(scope, receive, send)


def route_of(scope: Scope) -> str:
    """Return the template of the route that a router has found, or "other"."""
    route: Any = scope.get("route")
    return OTHER if route is None else str(route.path)


class _RefusedBodyError(Exception):
    """The body that is being read has passed a limit."""
