"""A labelling model over real HTTP whose every call a test can count, hold and answer."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from app.sandbox.openrouter import render_completion, render_head
from app.sandbox.server import create_sandbox
from app.sandbox.simulation import Completion
from app.serving import listen, serving, url_of
from tests.conftest import LONGEST_WAIT_SECONDS

INPUT = re.compile(r"\[\[begin input \w+\]\]\n(.*?)\n\[\[end input", re.DOTALL)
COST_USD = 0.001
MODEL = "sandbox/labeller"

Answer = Callable[[str], Response | str | None]


@dataclass
class LabelPeer:
    """The sandbox, but for what a test has it answer.

    Attributes:
        answer: From a row's input to the reply; None leaves it to the sandbox.
        calls: By the rows' inputs.
        open: While it is not set, nobody is answered.
        seconds: How long each answer takes.
    """

    url: str = ""
    answer: Answer = lambda _: None
    calls: Counter[str] = field(default_factory=Counter)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    seconds: float = 0.0
    sandbox: Any = field(default_factory=lambda: create_sandbox(latency_scale=0))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].endswith("/chat/completions"):
            await self.sandbox(scope, receive, send)
            return
        body = await Request(scope, receive).body()
        found = INPUT.search(orjson.loads(body)["messages"][-1]["content"])
        text = found[1] if found else ""
        self.calls[text] += 1
        await self.open.wait()
        await asyncio.sleep(self.seconds)
        answer = self.answer(text)
        if answer is None:
            unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

            async def read() -> Message:
                return unread.pop() if unread else await receive()

            await self.sandbox(scope, read, send)
            return
        await as_response(answer)(scope, receive, send)


def as_response(answer: Response | str) -> Response:
    if isinstance(answer, Response):
        return answer
    completion = Completion(answer, "stop", 100, 50, 0, 0.0)  # type: ignore[arg-type]
    body = render_completion(render_head(MODEL, 1), completion)
    usage = {"prompt_tokens": 100, "completion_tokens": 50, "cost": COST_USD}
    return Response(orjson.dumps({**body, "usage": usage}), media_type="application/json")


@asynccontextmanager
async def label_peer() -> AsyncIterator[LabelPeer]:
    peer = LabelPeer()
    peer.open.set()
    listener = listen("127.0.0.1", 0)
    peer.url = url_of(listener)
    async with serving(peer, listener):
        yield peer


async def start_labels(client: httpx2.AsyncClient, board: Any, **body: Any) -> Any:
    """Start a job over REST, and return it."""
    answer = await client.post(
        f"/v1/leaderboard/{board.id}/dataset/auto-labels",
        json={"label_model": MODEL, **body},
    )
    assert answer.status_code == 202, answer.text
    return answer.json()["job"]


async def find_job(client: httpx2.AsyncClient, board: Any, job_id: str) -> Any:
    listed = (await client.get(f"/v1/leaderboard/{board.id}/dataset/auto-labels")).json()
    return next(each for each in listed["jobs"] if each["id"] == job_id)


async def await_job(client: httpx2.AsyncClient, board: Any, job_id: str) -> Any:
    """Poll REST until a job has ended, and return it."""
    async with asyncio.timeout(LONGEST_WAIT_SECONDS):
        while True:
            job = await find_job(client, board, job_id)
            if job["status"] in {"completed", "failed", "cancelled"}:
                return job
            await asyncio.sleep(0.05)


async def label(client: httpx2.AsyncClient, board: Any, **body: Any) -> Any:
    """Have a job done over REST, and return it."""
    return await await_job(client, board, (await start_labels(client, board, **body))["id"])
