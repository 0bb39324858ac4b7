"""The reference: the least that serves, stores and charges, on a library's HTTP client.

    python -m bench.inference.bare PORT MODEL_URL DSN

A bare ASGI application on uvicorn forwards with aiohttp, and answers once the call is committed:
one statement of asyncpg stores a row of as many columns as a trace, from arrays, and charges a
budget with the sum. Whoever comes while a batch commits leaves with the next one; nobody waits for
company. It knows no routes, credentials, limits, errors or retries.
"""

import asyncio
import gc
import sys
import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import asyncpg
import orjson
import uvicorn
from starlette.types import Receive, Scope, Send

PRICE_IN_USD, PRICE_OUT_USD = Decimal("0.0000005"), Decimal("0.0000015")
OWNER = UUID(int=1)  # stands for the workspace, the leaderboard, the candidate and the token
JSON = [(b"content-type", b"application/json")]
EVENTS = [(b"content-type", b"text/event-stream")]
COLUMNS = {
    "id": "uuid", "workspace_id": "uuid", "leaderboard_id": "uuid", "run_id": "uuid",
    "candidate_id": "uuid", "token_id": "uuid", "source": "text", "status": "text",
    "provider": "text", "model": "text", "input": "text", "messages": "jsonb", "output": "text",
    "expected": "text", "score": "float8", "error": "text", "latency_ms": "float8",
    "prompt_tokens": "int", "completion_tokens": "int", "cost_usd": "numeric",
    "metadata": "jsonb", "created_at": "timestamptz",
}  # fmt: skip
TABLES = f"""
CREATE TABLE IF NOT EXISTS bare_trace (
  {", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())}, PRIMARY KEY (id));
CREATE TABLE IF NOT EXISTS bare_budget (id uuid PRIMARY KEY, used_usd numeric NOT NULL);
INSERT INTO bare_budget VALUES ('{OWNER}', 0) ON CONFLICT DO NOTHING;
"""
STORE = f"""
WITH stored AS (
  INSERT INTO bare_trace SELECT * FROM unnest(
    {", ".join(f"${n}::{kind}[]" for n, kind in enumerate(COLUMNS.values(), start=1))}))
UPDATE bare_budget SET used_usd = used_usd + ${len(COLUMNS) + 1} WHERE id = '{OWNER}'
"""
COST = list(COLUMNS).index("cost_usd")


class GroupCommit:
    """Stores what comes while the last batch commits as one batch."""

    def __init__(self, statement: Any) -> None:
        self._statement = statement
        self._waiting: list[tuple[tuple[Any, ...], asyncio.Future[None]]] = []
        self._committing: asyncio.Task[None] | None = None

    async def store(self, row: tuple[Any, ...]) -> None:
        """Return once *row* is committed."""
        committed = asyncio.get_running_loop().create_future()
        self._waiting.append((row, committed))
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit())
        await committed

    async def _commit(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            rows = [row for row, _ in batch]
            total = sum((row[COST] for row in rows), Decimal(0))
            try:
                await self._statement.fetch(*map(list, zip(*rows, strict=True)), total)
            except (asyncpg.PostgresError, OSError) as error:
                for _, committed in batch:
                    committed.set_exception(error)
            else:
                for _, committed in batch:
                    committed.set_result(None)
        self._committing = None


class Bare:
    """The application."""

    def __init__(self, model_url: str, dsn: str) -> None:
        self._model_url = model_url
        self._dsn = dsn
        self._session: Any = None
        self._commits: Any = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or the lifespan."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        message = await receive()
        body = message["body"]
        while message.get("more_body"):
            message = await receive()
            body += message["body"]
        request = orjson.loads(body)
        began = time.perf_counter()
        async with self._session.post(
            self._model_url, data=body, headers={"Content-Type": "application/json"}
        ) as response:
            if request.get("stream"):
                await self._relay(request, response, began, send)
                return
            content = await response.read()
        answer = orjson.loads(content)
        output = answer["choices"][0]["message"]["content"]
        await self._store(request, output, answer["usage"], began)
        headers = [*JSON, (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _relay(self, request: Any, response: Any, began: float, send: Send) -> None:
        """Pass a stream on; it is committed before it says that it is done."""
        await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
        output = ""
        async for event in response.content.iter_any():
            for line in event.splitlines():
                if line.startswith(b"data: {"):
                    part = orjson.loads(line[6:])
                    if part["choices"]:
                        output += part["choices"][0]["delta"]["content"]
                    else:
                        await self._store(request, output, part["usage"], began)
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _store(self, request: Any, output: str, usage: Any, began: float) -> None:
        messages = request["messages"]
        sent, made = usage["prompt_tokens"], usage["completion_tokens"]
        row = (
            uuid4(), OWNER, OWNER, None, OWNER, OWNER, "inference", "ok", "custom",
            request["model"], messages[-1]["content"], orjson.dumps(messages).decode(), output,
            None, None, None, (time.perf_counter() - began) * 1_000, sent, made,
            PRICE_IN_USD * sent + PRICE_OUT_USD * made, "{}", datetime.now(UTC),
        )  # fmt: skip
        await self._commits.store(row)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        connection = await asyncpg.connect(self._dsn)
        await connection.execute(TABLES)
        self._commits = GroupCommit(await connection.prepare(STORE))
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as self._session:
            gc.collect()
            gc.freeze()
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await connection.close()
        await send({"type": "lifespan.shutdown.complete"})


def main() -> None:
    """Serve until SIGTERM."""
    port, model_url, dsn = sys.argv[1:]
    uvicorn.run(
        Bare(model_url, dsn),
        port=int(port),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
