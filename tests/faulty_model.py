"""A model's endpoint that goes wrong at random, in every way that there is."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import orjson

from tests.providers.http_peer import Exchange, http_peer

MAX_TOKENS = 50
# How often of a hundred calls each of them happens.
FAULTS = {
    "status 500": 4, "status 429": 4, "status 400": 2, "reset": 4, "reset half way": 4,
    "stall": 2, "garbage": 3, "error in a 200": 3, "no usage": 4, "slow": 6,
}  # fmt: skip
SLOWEST_SECONDS = 0.05
SLOW_SECONDS = 0.3


class FaultyModel:
    """A model's endpoint, which goes wrong as often as it is told to.

    Args:
        rng: Decides.
        faults: How often of a hundred calls each of them happens.

    Attributes:
        url: Where it is.
        calls: By what was asked.
        answered: Of these, those that got a whole answer.
        open: While it is not set, nobody is answered.
    """

    def __init__(self, rng: random.Random, faults: Mapping[str, int]) -> None:
        self.url = ""
        self.calls: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.open = asyncio.Event()
        self.open.set()
        self._rng = rng
        self._faults = [*faults, "none"]
        self._weights = [*faults.values(), 100 - sum(faults.values())]

    async def answer(self, exchange: Exchange) -> None:
        """Answer a call, or don't."""
        asked = exchange.json()
        question = asked["messages"][-1]["content"]
        self.calls[question] += 1
        (fault,) = self._rng.choices(self._faults, self._weights)
        await self.open.wait()
        await asyncio.sleep(self._rng.uniform(0, SLOWEST_SECONDS))
        if fault.startswith("status"):
            status = fault.removeprefix("status ")
            await exchange.answer(b'{"error":"no"}', "Retry-After: 0", status=f"{status} No")
        elif fault == "reset":
            exchange.writer.transport.abort()
        elif fault == "stall":
            await exchange.wait_until_left()
        elif fault == "garbage":
            await exchange.answer(b"\xff\xfe{")
        elif fault == "error in a 200":
            await exchange.answer(b'{"error":{"message":"half way"}}')
        else:
            await self._answer(exchange, asked, question, fault)

    async def _answer(
        self, exchange: Exchange, asked: Mapping[str, Any], question: str, fault: str
    ) -> None:
        usage = {"prompt_tokens": 10, "completion_tokens": self._rng.randint(1, MAX_TOKENS)}
        told = {} if fault == "no usage" else {"usage": usage}
        seconds = SLOW_SECONDS if fault == "slow" else 0
        if asked.get("stream"):
            await self._stream(exchange, question, told, seconds, is_cut=fault == "reset half way")
            return
        message = {"role": "assistant", "content": question}
        body = orjson.dumps({"choices": [{"index": 0, "message": message}], **told})
        await asyncio.sleep(seconds)
        if fault == "reset half way":
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
            await exchange.send(head.encode() + body[:20])
            exchange.writer.transport.abort()
            return
        await exchange.answer(body)
        self.answered[question] += 1

    async def _stream(
        self, exchange: Exchange, question: str, told: Mapping[str, Any], seconds: float,
        *, is_cut: bool,
    ) -> None:  # fmt: skip
        await exchange.begin_stream()
        for part in question.split("-"):
            delta = {"choices": [{"index": 0, "delta": {"content": part}}]}
            await exchange.send_chunks(b"data: " + orjson.dumps(delta) + b"\n\n")
        await asyncio.sleep(seconds)
        if is_cut:
            exchange.writer.transport.abort()
            return
        last = {"choices": [], **told}
        await exchange.send_chunks(b"data: " + orjson.dumps(last) + b"\n\n", b"data: [DONE]\n\n")
        await exchange.end_stream()
        self.answered[question] += 1


@asynccontextmanager
async def faulty_model(
    rng: random.Random, faults: Mapping[str, int] = FAULTS
) -> AsyncIterator[FaultyModel]:
    """Serve a model on loopback."""
    model = FaultyModel(rng, faults)

    async def answer(exchange: Exchange) -> None:
        peer.requests.clear()  # of which there are too many to keep
        await model.answer(exchange)

    async with http_peer(answer) as peer:
        model.url = f"{peer.url}/chat/completions"
        yield model
