"""A run's overhead: a whole run through the product, as a ratio to a bare loop of the same calls.

    python -m bench.run_overhead [--rounds 3] [--rows 2500]
        [--models-url URL --dataset-url URL --models A,B]

Without a URL the peer is the sandbox with no latency, in a process of its own.
The bare loops are written as one writes them: a client, a semaphore and a task for each call, with
the same concurrency and requests; they keep nothing and score nothing. One has an
`httpx2.AsyncClient`, the other an aiohttp session, which is faster.
"""

import argparse
import asyncio
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
import httpx2
import orjson
import uvloop

from app.embedded_postgres import EmbeddedPostgres
from app.sandbox.server import create_sandbox
from app.services import Process
from app.serving import listen, serving, url_of, working
from app.settings import load_settings
from app.worker import create_worker
from db.base import new_id
from db.migrations.runner import migrate
from engine.prompts import render_prompt
from engine.rows import normalize_row
from resolvers.candidates import add_candidate
from resolvers.inputs import Evaluation, NewCandidate, NewLeaderboard, NewRun
from resolvers.leaderboards import create_leaderboard
from resolvers.run_requests import start_run
from resolvers.runs import get_run
from resolvers.workspaces import create_workspace

PROMPT = "Solve: {input}"
CONCURRENCY = 64
SANDBOX_MODELS = "careful-large,balanced-medium,quick-small,erratic-mini"


def serve_sandbox(pipe: "multiprocessing.connection.Connection") -> None:
    """Serve the sandbox until the process is ended."""

    async def run() -> None:
        listener = listen("127.0.0.1", 0)
        async with serving(create_sandbox(latency_scale=0), listener):
            pipe.send(url_of(listener))
            await asyncio.Event().wait()

    uvloop.run(run())


@contextmanager
def start_peer(serve: Callable[["multiprocessing.connection.Connection"], None]) -> Iterator[str]:
    """Run *serve* in a process of its own, and yield the address that it sends."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    peer = multiprocessing.get_context("spawn").Process(target=serve, args=(sender,))
    peer.start()
    try:
        yield receiver.recv()
    finally:
        peer.kill()
        peer.join()


Post = Callable[[str, object], Awaitable[bytes]]


@asynccontextmanager
async def httpx_post() -> AsyncIterator[Post]:
    """Yield how one posts JSON with httpx."""
    limits = httpx2.Limits(max_connections=CONCURRENCY)
    async with httpx2.AsyncClient(limits=limits, timeout=30) as client:

        async def post(url: str, body: object) -> bytes:
            response = await client.post(url, json=body)
            return response.raise_for_status().content

        yield post


@asynccontextmanager
async def aiohttp_post() -> AsyncIterator[Post]:
    """Yield how one posts JSON with aiohttp."""
    connector = aiohttp.TCPConnector(limit=CONCURRENCY)
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, raise_for_status=True
    ) as session:

        async def post(url: str, body: object) -> bytes:
            async with session.post(url, json=body) as response:
                return await response.read()

        yield post


CLIENTS = {"httpx": httpx_post, "aiohttp": aiohttp_post}


async def bare_loop(rows: list[str], urls: list[str], client: str) -> float:
    """Return the seconds that the calls alone take, as one writes them.

    Args:
        rows: What is asked.
        urls: Who is asked.
        client: One of `CLIENTS`.
    """
    gate = asyncio.Semaphore(CONCURRENCY)
    async with CLIENTS[client]() as post:

        async def call(url: str, row: str) -> str:
            messages = [{"role": "user", "content": render_prompt(PROMPT, row)}]
            async with gate:
                answer = await post(url, {"messages": messages})
            content: str = orjson.loads(answer)["choices"][0]["message"]["content"]
            return content

        began = time.perf_counter()
        await asyncio.gather(*(call(url, row) for row in rows for url in urls))
        return time.perf_counter() - began


async def product_run(process: Process, dataset_url: str, urls: list[str]) -> float:
    """Return the seconds from asking for a run to its stored ranking."""
    workspace_id = new_id()
    ctx = process.system_context(workspace_id)
    await create_workspace(ctx, id=workspace_id, name="bench", owner_id=new_id())
    board = await create_leaderboard(
        ctx,
        NewLeaderboard(
            name="bench",
            system_prompt=PROMPT,
            dataset_url=dataset_url,
            evaluation=Evaluation(match="number"),
        ),
    )
    for url in urls:
        await add_candidate(ctx, board.id, NewCandidate(provider="custom", endpoint_url=url))
    began = time.perf_counter()
    run = await start_run(ctx, board.id, NewRun())
    while True:
        await asyncio.sleep(0.02)
        seen = await get_run(process.system_context(workspace_id), run.id)
        if seen.status in {"completed", "failed"}:
            assert seen.status == "completed", seen.error
            return time.perf_counter() - began


async def measure(arguments: argparse.Namespace, sandbox_url: str | None) -> None:
    """Print each round and the median ratio."""
    base = arguments.models_url or f"{sandbox_url}/endpoints"
    urls = [f"{base}/{name}" for name in arguments.models.split(",")]
    dataset = arguments.dataset_url or (
        f"{sandbox_url}/datasets/gero-sandbox/sized/resolve/main/rows-{arguments.rows}.jsonl"
    )
    async with httpx2.AsyncClient() as client:
        lines = (await client.get(dataset)).text.splitlines()
    rows = [normalize_row(orjson.loads(line)).input for line in lines]
    origin = dataset.split("/datasets/")[0]
    ratios: dict[str, list[float]] = {name: [] for name in CLIENTS}
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp") as folder,
        EmbeddedPostgres(Path(folder) / "pg") as postgres,
    ):
        settings = load_settings(
            database_url=postgres.dsn,
            secret_key="A" * 43 + "=",
            huggingface_url=origin,
            allow_private_endpoints=True,
            run_concurrency=CONCURRENCY,
            object_store_url=f"{folder}/objects",
        )
        process = Process(settings)
        await migrate(process.database.engine)
        async with working(create_worker(process, settings)):
            await product_run(process, dataset, urls[:1])  # warms both sides
            for _ in range(arguments.rounds):
                bare = {name: await bare_loop(rows, urls, name) for name in ratios}
                ours = await product_run(process, dataset, urls)
                shown = []
                for name, seconds in bare.items():
                    ratios[name].append(ours / seconds)
                    shown.append(f"{name} loop {seconds:.2f} s ({ours / seconds:.2f})")
                print(f"{len(rows) * len(urls)} calls: run {ours:.2f} s, {', '.join(shown)}")
        await process.aclose()
    for name, found in ratios.items():
        print(f"median ratio to the bare {name} loop: {statistics.median(found):.2f}")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=2_500)
    parser.add_argument("--models-url")
    parser.add_argument("--dataset-url")
    parser.add_argument("--models", default=SANDBOX_MODELS)
    arguments = parser.parse_args()
    if arguments.models_url is not None:
        uvloop.run(measure(arguments, None))
        return
    with start_peer(serve_sandbox) as sandbox_url:
        uvloop.run(measure(arguments, sandbox_url))


if __name__ == "__main__":
    main()
