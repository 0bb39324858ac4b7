"""What every request passes through before it is routed: its id, its body's limit, its log line."""

import logging
import re
import sys
import time
from contextlib import suppress

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uuid_utils import uuid4

from resolvers.errors import BodyTooLargeError
from rest_compat.problems import GRAPHQL_PATH, problem_response

log = logging.getLogger("gero.http")

# Logged of a request that nobody waited for any longer; nginx's own number for it.
CLIENT_LEFT = 499
REQUEST_ID = re.compile(rb"^[A-Za-z0-9._-]{1,100}$")


class RequestLog:
    """Writes a line for each request to standard error, in the form of the log's other lines.

    `logging` would make a record, format it and look for its handlers: a tenth of the time of a
    short request.
    """

    def __init__(self) -> None:
        self._second = 0
        self._written_second = ""

    def write(self, scope: Scope, status: int, seconds: float) -> None:
        """Write how a request ended, unless the log leaves such lines out."""
        if not log.isEnabledFor(logging.INFO):
            return
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._written_second = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
        # The path as it was sent: decoded, it could hold the end of a line.
        path = scope["raw_path"].decode("ascii", errors="backslashreplace")
        line = (
            f"{self._written_second},{int((now - second) * 1000):03} INFO {log.name} "
            f"{scope['method']} {path} {status} {seconds * 1000:.1f} ms {scope['request_id']}\n"
        )
        with suppress(OSError, ValueError):  # nobody reads the log any longer
            sys.stderr.write(line)


class RequestBoundary:
    """Gives each request an id, bounds its body, and logs how it ended.

    Args:
        app: What serves the request.
        max_body_bytes: The largest body; a larger one is answered 413.
    """

    def __init__(self, app: ASGIApp, *, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._log = RequestLog()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given if REQUEST_ID.match(given) else str(uuid4()).encode()
        scope["request_id"] = request_id.decode()
        began, status = time.perf_counter(), CLIENT_LEFT

        async def tell(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
            await send(message)

        try:
            await self._bounded(scope, headers, receive, tell)
        except ClientDisconnect:
            pass  # there is nobody to answer
        except BaseException:
            status = 500
            raise
        finally:
            self._log.write(scope, status, time.perf_counter() - began)

    async def _bounded(
        self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._max_body_bytes:
            await self._refuse(scope, receive, send)
            return
        read = 0
        is_answered = False

        async def count() -> Message:
            nonlocal read
            message = await receive()
            if message["type"] == "http.request":
                read += len(message.get("body", b""))
                if read > self._max_body_bytes:
                    raise _TooLargeError
            return message

        async def answer(message: Message) -> None:
            """Pass on what the application sends, but not what it makes of a cut body."""
            nonlocal is_answered
            if read > self._max_body_bytes and not is_answered:
                return
            is_answered = True
            await send(message)

        try:
            await self._app(scope, count, answer)
        except _TooLargeError:
            if is_answered:
                raise
        if read > self._max_body_bytes and not is_answered:
            await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = BodyTooLargeError(f"the body is over the limit of {self._max_body_bytes} bytes")
        response = problem_response(error, graphql=scope["path"] == GRAPHQL_PATH)
        await response(scope, receive, send)


class _TooLargeError(Exception):
    """The body that is being read has passed the limit."""
