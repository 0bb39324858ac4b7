"""A model over real HTTP whose every call a test can count, slow down and answer."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.serving import listen, serving, url_of

Answer = Callable[[str, str], Response | str]


@dataclass
class ModelPeer:
    """What has been asked, of which model, and how the next calls are answered.

    Attributes:
        rows: What its one dataset holds.
        answer: From a model's name and the question to its answer.
        seconds: How long each answer takes.
        calls: By model and question.
        most_at_once: The most calls that were under way at the same time.
    """

    url: str = ""
    rows: list[dict[str, object]] = field(default_factory=list)
    answer: Answer = lambda _name, question: question
    seconds: float = 0.0
    cost_usd: float | None = 0.001
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    under_way: int = 0
    most_at_once: int = 0
    open: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def dataset_url(self) -> str:
        return f"{self.url}/datasets/test/rows/resolve/main/rows.jsonl"

    def endpoint(self, name: str) -> str:
        return f"{self.url}/models/{name}"

    @property
    def call_count(self) -> int:
        return self.calls.total()

    async def serve_model(self, request: Request) -> Response:
        name = request.path_params["name"]
        question = (await request.json())["messages"][-1]["content"]
        self.calls[name, question] += 1
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            await self.open.wait()
            await asyncio.sleep(self.seconds)
        finally:
            self.under_way -= 1
        answer = self.answer(name, question)
        if isinstance(answer, Response):
            return answer
        message = {"role": "assistant", "content": answer}
        body: dict[str, object] = {"choices": [{"index": 0, "message": message}]}
        if self.cost_usd is not None:
            body |= {"cost_usd": self.cost_usd}
        return JSONResponse(body)

    async def serve_rows(self, _: Request) -> Response:
        return Response("".join(json.dumps(row) + "\n" for row in self.rows))


@asynccontextmanager
async def model_peer(row_count: int) -> AsyncIterator[ModelPeer]:
    """Serve a peer whose dataset asks for the numbers up to *row_count*."""
    peer = ModelPeer(rows=[{"input": str(n), "expected": str(n)} for n in range(row_count)])
    peer.open.set()
    app = Starlette(
        routes=[
            Route("/datasets/test/rows/resolve/main/rows.jsonl", peer.serve_rows),
            Route("/models/{name}", peer.serve_model, methods=["POST"]),
        ]
    )
    listener = listen("127.0.0.1", 0)
    peer.url = url_of(listener)
    async with serving(app, listener):
        yield peer
