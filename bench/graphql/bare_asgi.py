"""The shell of the hand-written servers: HTTP in, one asyncpg connection, finished bytes out."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

import asyncpg
import orjson
from starlette.types import Receive, Scope, Send

from bench.graphql.scene import Scene

POOL_SIZE = 20  # as the product has it

Answer: TypeAlias = Callable[[Any, Scene, Mapping[str, Any]], Awaitable[bytes]]


async def _left_alone(_: object) -> None:
    """Give a connection back as it is: nothing was set on it that would need a reset."""


class BareApp:
    """An ASGI application without routes, credentials, limits or GraphQL.

    Args:
        scene: What the database holds.
        answers: The answer to each query, by its operation's name; each is given
            a connection, the scene and the request's variables.
    """

    def __init__(self, scene: Scene, answers: Mapping[str, Answer]) -> None:
        self._scene = scene
        self._answers = answers
        self._pool: Any = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or the lifespan."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        request = orjson.loads(await _read(receive))
        async with self._pool.acquire() as connection:
            answer = self._answers[request["operationName"]]
            body = await answer(connection, self._scene, request["variables"])
        length = str(len(body)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        async with asyncpg.create_pool(
            self._scene.asyncpg_dsn,
            min_size=1,
            max_size=POOL_SIZE,
            reset=_left_alone,
            server_settings={"timezone": "UTC"},
        ) as self._pool:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


async def _read(receive: Receive) -> bytes:
    parts = []
    more = True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)
