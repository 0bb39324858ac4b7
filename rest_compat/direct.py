"""Endpoints of what is called the most, which the framework's machinery would slow down.

They are declared as routes like all others, for the contract; what serves them is an ASGI
application of their own, to which the site passes their requests before it asks the router.
"""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resolvers.context import Context, Services
from resolvers.credentials import Authenticator
from resolvers.errors import AppError
from resolvers.failures import explain_failure
from resolvers.idempotency import Claim
from resolvers.storable import read_storable
from rest_compat.deps import CALLER_HEADERS, KEY_HEADER, answer_once, identify
from rest_compat.problems import not_an_object, not_json

# Clients of requests that take longer than this, or up to twice as long, are watched.
UNWATCHED_SECONDS = 0.1
# A client that takes nothing of a stream for so long is gone.
STALLED_SECONDS = 60.0

# Of a request's headers, those that anybody here reads.
IDEMPOTENCY_KEY = KEY_HEADER.lower()
READ_HEADERS = {name.encode(): name for name in (*CALLER_HEADERS, "content-type", IDEMPOTENCY_KEY)}

# Every digit is one, and all else is none; a number of fewer digits has less than 64 bits.
DIGITS = bytes(ord("1") if chr(byte) in "0123456789" else ord(" ") for byte in range(256))
LONG_NUMBER = b"1" * 19

RawHeaders = Sequence[tuple[bytes, bytes]]


@dataclass(slots=True)
class Posted:
    """A request, read whole.

    Attributes:
        path: Its path's parameters.
        body: Parsed.
        claim: The right to do its work, when it is sent with an `Idempotency-Key`.
    """

    ctx: Context
    path: Mapping[str, str]
    body: dict[str, Any]
    claim: Claim | None = None


class DirectAnswer(Response):
    """A whole answer, whose headers are written out already.

    Args:
        body: JSON.
        headers: Beside those that tell of the body; names in small letters.
    """

    def __init__(self, body: bytes, headers: RawHeaders) -> None:
        # Not as the parent does, which takes them apart to see what is missing.
        self.status_code = 200
        self.background = None
        self.body = body
        self.raw_headers = [
            *headers,
            (b"content-length", b"%d" % len(body)),
            (b"content-type", b"application/json"),
        ]


class EventStream(Response):
    """An answer in parts, as server-sent events.

    Args:
        events: The parts; closed when nobody takes them any longer.
        headers: Of the answer; names in small letters.
    """

    def __init__(self, events: AsyncGenerator[bytes], headers: RawHeaders) -> None:
        super().__init__(media_type="text/event-stream")
        self.raw_headers = [
            *headers,
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
            (b"content-type", b"text/event-stream; charset=utf-8"),
        ]
        self._events = events

    async def send_to(self, send: Send) -> None:
        """Send the head, and each part as it comes.

        Raises:
            ClientDisconnect: The client takes nothing.
        """
        async with aclosing(self._events) as events:
            # Only what has begun is closed in the end, whatever becomes of the head.
            part = await anext(events, b"")
            await _send_in_time(
                send,
                {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self.raw_headers,
                },
            )
            while part:
                await _send_in_time(
                    send, {"type": "http.response.body", "body": part, "more_body": True}
                )
                part = await anext(events, b"")
        await send({"type": "http.response.body", "body": b""})


async def _send_in_time(send: Send, message: Message) -> None:
    try:
        async with asyncio.timeout(STALLED_SECONDS):
            await send(message)
    except TimeoutError:
        raise ClientDisconnect from None


class DirectEndpoint:
    """Serves the POSTs of some paths.

    Args:
        services: What requests borrow.
        authenticator: Tells who calls.
        answer: Does the work; cancelled when the client goes away.
        refuse: Writes an error.
    """

    def __init__(
        self,
        services: Services,
        authenticator: Authenticator,
        answer: Callable[[Posted], Awaitable[Response]],
        refuse: Callable[[AppError], Response],
    ) -> None:
        self._services = services
        self._authenticator = authenticator
        self._answer = answer
        self._refuse = refuse
        self._watches = ClientWatches()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, whose `path_params` are in *scope*."""
        request_id: str = scope.get("request_id", "")
        door = self._services.door
        try:
            body = await _read(receive)
            # Before it is known who asks: to find that out may be what takes long.
            door.enter()
            watch = self._watches.begin(receive)
            try:
                headers = _read_headers(scope)
                caller = await identify(self._authenticator, headers)
                ctx = Context(self._services, caller, request_id)
                scope.setdefault("state", {})["ctx"] = ctx  # for the log
                response = await self._begin(ctx, scope, headers, body)
                if isinstance(response, EventStream):
                    await response.send_to(send)
                    return
            except asyncio.CancelledError:
                watch.explain()
                raise
            finally:
                self._watches.end(watch)
                door.leave()
        except (ClientDisconnect, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001 - told to the client, and logged
            response = self._refuse(explain_failure(error, request_id))
        await response(scope, receive, send)

    def _begin(
        self, ctx: Context, scope: Scope, headers: Mapping[str, str], body: bytes
    ) -> Awaitable[Response]:
        """Return the work that answers a request."""
        path: Mapping[str, str] = scope["path_params"]
        key = headers.get(IDEMPOTENCY_KEY)
        if key is None:
            return self._answer(Posted(ctx, path, _parse(headers, body)))

        async def answer(claim: Claim) -> Response:
            return await self._answer(Posted(ctx, path, _parse(headers, body), claim))

        where = f"{scope['path']}?{scope['query_string'].decode('ascii', 'replace')}"
        return answer_once(ctx, key, where, body, answer, self._refuse)


def _read_headers(scope: Scope) -> dict[str, str]:
    """Return those headers of a request that are read here; of those that come twice, the first."""
    headers: dict[str, str] = {}
    for name, value in reversed(scope["headers"]):
        if name in READ_HEADERS:
            headers[READ_HEADERS[name]] = value.decode("latin-1")
    return headers


async def _read(receive: Receive) -> bytes:
    """Return the whole body.

    Raises:
        ClientDisconnect: The client went away before it had sent it.
    """
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def _parse(headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """Return the JSON object in *body*.

    Raises:
        InvalidInputError: There is none in it.
    """
    kind = headers.get("content-type", "")
    if kind != "application/json":
        kind = kind.partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and "+json" in kind):
        raise not_an_object()
    try:
        parsed = _load(body)
    except json.JSONDecodeError as error:
        raise not_json(error.msg) from error
    except (ValueError, RecursionError) as error:
        raise not_json("it is not UTF-8, too deep, or has a number too long") from error
    if not isinstance(parsed, dict):
        raise not_an_object()
    return parsed


def _load(body: bytes) -> Any:
    """Return what `json.loads` does; orjson is quicker, but loses integers that it can't hold."""
    # Not `in`: that takes what it looks for for a number first, and fails at it each time.
    if body.translate(DIGITS).find(LONG_NUMBER) >= 0:
        return json.loads(body)
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return json.loads(body)  # which takes more, and says better what is wrong
    return read_storable(body, parsed) if isinstance(parsed, dict) else parsed


class ClientWatch:
    """Cancels the task of a request when its client goes away.

    Args:
        receive: The request's.
        working: Its task.
    """

    __slots__ = ("_is_gone", "_receive", "_watching", "_working")

    def __init__(self, receive: Receive, working: "asyncio.Task[Any]") -> None:
        self._receive = receive
        self._working = working
        self._watching: asyncio.Task[None] | None = None
        self._is_gone = False

    def start(self) -> None:
        """Watch from now on."""
        self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._is_gone = True
        self._working.cancel()

    def explain(self) -> None:
        """Tell why the task was cancelled.

        Raises:
            ClientDisconnect: The client went away.
        """
        if self._is_gone and self._working.uncancel() == 0:
            raise ClientDisconnect from None

    def end(self) -> None:
        """Watch no longer."""
        if self._watching is not None:
            self._watching.cancel()


class ClientWatches:
    """Watches over the clients of requests that take a while.

    Most are answered before it would be of use to look, and a timer for each would be dear.
    """

    def __init__(self) -> None:
        self._begun: set[ClientWatch] = set()
        self._before: set[ClientWatch] = set()
        self._is_ticking = False

    def begin(self, receive: Receive) -> ClientWatch:
        """Return a watch over the client of the request that the running task serves."""
        working = asyncio.current_task()
        if working is None:
            raise RuntimeError("requests are served by tasks")
        watch = ClientWatch(receive, working)
        self._begun.add(watch)
        if not self._is_ticking:
            self._is_ticking = True
            asyncio.get_running_loop().call_later(UNWATCHED_SECONDS, self._tick)
        return watch

    def end(self, watch: ClientWatch) -> None:
        """End a watch, whose request is answered: nothing of it is kept."""
        self._begun.discard(watch)
        self._before.discard(watch)
        watch.end()

    def _tick(self) -> None:
        for watch in self._before:
            watch.start()
        self._before, self._begun = self._begun, set()
        self._is_ticking = bool(self._before)
        if self._is_ticking:
            asyncio.get_running_loop().call_later(UNWATCHED_SECONDS, self._tick)


class DirectRoute(APIRoute):
    """A route that is declared for the contract, and served by the site's endpoint of its name."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.app = self._forward

    async def _forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint: ASGIApp = scope["app"].state.direct[self.name]
        await endpoint(scope, receive, send)


@dataclass(frozen=True, slots=True)
class DirectPath:
    """Which requests go to an endpoint.

    Attributes:
        name: The route's.
        route: Its template.
    """

    name: str
    route: str
    pattern: re.Pattern[str]
    endpoint: ASGIApp
