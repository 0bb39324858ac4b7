"""What runs in a server's own process; it imports no server, so that each has its own code only."""

import asyncio
import os
from collections.abc import Callable
from multiprocessing.connection import Connection as Pipe
from typing import TypeAlias

import uvloop
from starlette.types import ASGIApp

from app.serving import listen, serving, url_of
from bench.graphql.scene import Scene

Factory: TypeAlias = Callable[[Scene], ASGIApp]


def pin(core: int | None) -> None:
    """Keep this process, and those that it starts from now on, on *core*."""
    if core is not None:
        os.sched_setaffinity(0, {core})


def host(create: Factory, scene: Scene, core: int | None, pipe: Pipe) -> None:
    """Serve as the product is served, tell the URL, and go on until the process is ended."""
    pin(core)

    async def run() -> None:
        listener = listen("127.0.0.1", 0)
        async with serving(create(scene), listener):
            pipe.send(url_of(listener))
            await asyncio.Event().wait()

    uvloop.run(run())
