"""A run's overhead: a whole run through the product, as a ratio to a bare loop of the same calls.

    python -m bench.run_overhead [--rounds 3] [--models-url URL --dataset-url URL --models A,B]

Without a URL the peer is the sandbox with no latency, in a process of its own.
The bare loop uses the same HTTP client, the same concurrency and the same
requests, keeps nothing and scores nothing.
"""

import argparse
import asyncio
import multiprocessing
import statistics
import tempfile
import time
from pathlib import Path

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
from providers.http import HttpClient
from resolvers.candidates import add_candidate
from resolvers.inputs import Evaluation, NewCandidate, NewLeaderboard, NewRun
from resolvers.leaderboards import create_leaderboard
from resolvers.run_requests import start_run
from resolvers.runs import get_run
from resolvers.workspaces import create_workspace

PROMPT = "Solve: {input}"
CONCURRENCY = 16
SANDBOX_MODELS = "careful-large,balanced-medium,quick-small,erratic-mini"


def serve_sandbox(pipe: "multiprocessing.connection.Connection") -> None:
    """Serve the sandbox until the process is ended."""

    async def run() -> None:
        listener = listen("127.0.0.1", 0)
        async with serving(create_sandbox(latency_scale=0), listener):
            pipe.send(url_of(listener))
            await asyncio.Event().wait()

    uvloop.run(run())


async def bare_loop(rows: list[str], urls: list[str]) -> float:
    """Return the seconds that the calls alone take."""
    client = HttpClient(max_connections=500, public_only=False)
    gate = asyncio.Semaphore(CONCURRENCY)

    async def call(url: str, row: str) -> None:
        messages = [{"role": "user", "content": render_prompt(PROMPT, row)}]
        async with gate:
            response, _ = await client.fetch(
                "POST", url, headers={"Content-Type": "application/json"},
                content=orjson.dumps({"messages": messages}), timeout_seconds=30,
                max_bytes=10_000_000,
            )  # fmt: skip
        assert response.status_code == 200

    began = time.perf_counter()
    await asyncio.gather(*(call(url, row) for row in rows for url in urls))
    taken = time.perf_counter() - began
    await client.aclose()
    return taken


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
        f"{sandbox_url}/datasets/gero-sandbox/sized/resolve/main/rows-400.jsonl"
    )
    async with httpx2.AsyncClient() as client:
        lines = (await client.get(dataset)).text.splitlines()
    rows = [normalize_row(orjson.loads(line)).input for line in lines]
    origin = dataset.split("/datasets/")[0]
    ratios = []
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
        )
        process = Process(settings)
        await migrate(process.database.engine)
        async with working(create_worker(process, settings)):
            await product_run(process, dataset, urls[:1])  # warms both sides
            for _ in range(arguments.rounds):
                bare = await bare_loop(rows, urls)
                ours = await product_run(process, dataset, urls)
                ratios.append(ours / bare)
                print(
                    f"{len(rows) * len(urls)} calls: bare {bare:.2f} s, run {ours:.2f} s, "
                    f"ratio {ours / bare:.2f}"
                )
        await process.aclose()
    print(f"median ratio {statistics.median(ratios):.2f}")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models-url")
    parser.add_argument("--dataset-url")
    parser.add_argument("--models", default=SANDBOX_MODELS)
    arguments = parser.parse_args()
    sandbox_url, peer = None, None
    if arguments.models_url is None:
        receiver, sender = multiprocessing.Pipe(duplex=False)
        peer = multiprocessing.get_context("spawn").Process(target=serve_sandbox, args=(sender,))
        peer.start()
        sandbox_url = receiver.recv()
    try:
        uvloop.run(measure(arguments, sandbox_url))
    finally:
        if peer is not None:
            peer.kill()
            peer.join()


if __name__ == "__main__":
    main()
