"""A run's memory: the most that a worker takes, for runs of 1,000 rows and of 100,000.

    python -m bench.run_memory [--rows 1000,100000]

Each run has a worker process of its own, over one candidate of a sandbox without latency.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from app.embedded_postgres import EmbeddedPostgres
from app.services import Process
from app.settings import Settings, load_settings
from bench.run_overhead import PROMPT, serve_sandbox, start_peer
from db.base import new_id
from db.migrations.runner import migrate
from resolvers.candidates import add_candidate
from resolvers.inputs import Evaluation, NewCandidate, NewLeaderboard, NewRun
from resolvers.leaderboards import create_leaderboard
from resolvers.run_requests import start_run
from resolvers.runs import get_run
from resolvers.workspaces import create_workspace

SECRET_KEY = "A" * 43 + "="
GERO = Path(sys.executable).parent / "gero"
MEGABYTE = 1024


def peak_mb(pid: int) -> float:
    """Return the most memory that a process has had, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / MEGABYTE


async def run_once(process: Process, sandbox_url: str, rows: int, settings: Settings) -> None:
    """Run so many rows in a worker of its own, and print what it took."""
    workspace_id = new_id()
    ctx = process.system_context(workspace_id)
    await create_workspace(ctx, id=workspace_id, name="bench", owner_id=new_id())
    new = NewLeaderboard(
        name="bench",
        system_prompt=PROMPT,
        dataset_url=f"{sandbox_url}/datasets/gero-sandbox/sized/resolve/main/rows-{rows}.jsonl",
        evaluation=Evaluation(match="number"),
    )
    board = await create_leaderboard(ctx, new)
    url = f"{sandbox_url}/endpoints/quick-small"
    await add_candidate(ctx, board.id, NewCandidate(provider="custom", endpoint_url=url))
    variables = {
        "GERO_DATABASE_URL": settings.dsn,
        "GERO_OBJECT_STORE_URL": settings.object_store,
        "GERO_SECRET_KEY": SECRET_KEY,
        "GERO_HUGGINGFACE_URL": sandbox_url,
        "GERO_ALLOW_PRIVATE_ENDPOINTS": "true",
        "GERO_LOG_LEVEL": "warning",
    }
    worker = await asyncio.create_subprocess_exec(GERO, "worker", env={**os.environ, **variables})
    try:
        began = time.perf_counter()
        run = await start_run(ctx, board.id, NewRun())
        while True:
            await asyncio.sleep(0.2)
            seen = await get_run(process.system_context(workspace_id), run.id)
            if seen.status in {"completed", "failed"}:
                break
        assert seen.status == "completed", seen.error
        seconds = time.perf_counter() - began
        print(f"{rows} rows: {peak_mb(worker.pid):.0f} MB at most, in {seconds:.0f} s", flush=True)
    finally:
        worker.terminate()
        await worker.wait()


async def measure(sizes: list[int], sandbox_url: str) -> None:
    """Print what runs of each size take."""
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp") as folder,
        EmbeddedPostgres(Path(folder) / "pg") as postgres,
    ):
        settings = load_settings(
            database_url=postgres.dsn,
            secret_key=SECRET_KEY,
            huggingface_url=sandbox_url,
            allow_private_endpoints=True,
            object_store_url=f"{folder}/objects",
        )
        process = Process(settings)
        await migrate(process.database.engine)
        for rows in sizes:
            await run_once(process, sandbox_url, rows, settings)
        await process.aclose()


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default="1000,100000")
    sizes = [int(size) for size in parser.parse_args().rows.split(",")]
    with start_peer(serve_sandbox) as sandbox_url:
        uvloop.run(measure(sizes, sandbox_url))


if __name__ == "__main__":
    main()
