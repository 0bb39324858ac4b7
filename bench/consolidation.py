"""Consolidating a pushed dataset: how long it takes, and what memory, as it grows.

    python -m bench.consolidation [--rows 10000,100000,1000000] [--threshold 0.9] [--profile]

Rows have some 200 bytes, and one in twenty is nearly an earlier one. Each consolidation has a
process of its own; its memory is the most that the process ever had, and what it had before it
began. With `--profile` each tells where its time went.
"""

import argparse
import asyncio
import cProfile
import multiprocessing
import os
import pstats
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import numpy as np
import uvloop
from typing_extensions import override

from app.embedded_postgres import EmbeddedPostgres
from app.services import Process
from app.settings import Settings, load_settings
from bench.run_memory import peak_mb
from db.base import new_id
from db.migrations.runner import migrate
from engine.rows import normalize_row, row_hash, row_key, row_line
from resolvers.consolidation import consolidate_dataset
from tests.conftest import SECRET_KEY
from tests.factories import Tenant, make_tenant
from tests.rest_compat.test_push import make_push_board

WORDS = 5_000
WORDS_A_ROW = 22
NEAR_SHARE = 0.05
COPIED_ROWS = 20_000
SEED = 1
COLUMNS = ("leaderboard_id", "sequence", "row_key", "content_hash", "has_id", "line", "batch_id")
PROFILED_LINES = 25


def make_texts(count: int) -> Iterator[str]:
    """Yield texts of random words, of which some are an earlier one with a word changed."""
    rng = np.random.default_rng(SEED)
    words = np.array([f"word{number:03x}" for number in range(WORDS)])
    earlier = words[rng.integers(WORDS, size=WORDS_A_ROW)]
    for number in range(count):
        if rng.random() < NEAR_SHARE:
            near = earlier.copy()
            near[-1] = f"changed{number}"
            yield " ".join(near)
        else:
            earlier = words[rng.integers(WORDS, size=WORDS_A_ROW)]
            yield " ".join(earlier)


def make_records(board_id: UUID, count: int) -> Iterator[tuple[Any, ...]]:
    """Yield rows as pushing them would store them."""
    batch_id = new_id()
    for sequence, text in enumerate(make_texts(count), start=1):
        row = normalize_row({"input": text, "output": str(sequence % 7)})
        content_hash = row_hash(row)
        key = row_key(row, content_hash)
        yield board_id, sequence, key, content_hash, False, row_line(row), batch_id


@dataclass(frozen=True, slots=True)
class Cost:
    """What a consolidation took.

    Attributes:
        began_mb: The process's memory before it.
    """

    seconds: float
    began_mb: float
    peak_mb: float
    row_count: int
    dropped: int


async def load(dsn: str, tenant: Tenant, board_id: UUID, rows: int) -> None:
    """Copy rows into a dataset, as if they had been pushed."""
    connection = await asyncpg.connect(dsn)
    records = make_records(board_id, rows)
    for _ in range(0, rows, COPIED_ROWS):
        part = [record for record, _ in zip(records, range(COPIED_ROWS), strict=False)]
        await connection.copy_records_to_table("pushed_row", records=part, columns=COLUMNS)
    await connection.execute(
        "INSERT INTO dataset (leaderboard_id, workspace_id, last_sequence) VALUES ($1, $2, $3)",
        board_id, tenant.workspace_id, rows,
    )  # fmt: skip
    await connection.execute("ANALYZE pushed_row")
    await connection.close()


class AtOnce(ThreadPoolExecutor):
    """Runs what is meant for a thread in the caller's own, where a profile sees it."""

    @override
    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


async def consolidate(
    settings: Settings, tenant: Tenant, board_id: UUID, *, is_profiled: bool
) -> Cost:
    """Consolidate in this process."""
    if is_profiled:
        asyncio.get_running_loop().set_default_executor(AtOnce())
    process = Process(settings)
    ctx = process.system_context(tenant.workspace_id)
    async with ctx.database.read():
        before = peak_mb(os.getpid())
    began = time.perf_counter()
    made = (await consolidate_dataset(ctx, board_id)).snapshot
    seconds = time.perf_counter() - began
    assert made is not None
    await process.aclose()
    return Cost(seconds, before, peak_mb(os.getpid()), made.row_count, sum(made.dropped.values()))


def consolidate_here(
    pipe: "multiprocessing.connection.Connection",
    settings: Settings,
    tenant: Tenant,
    board_id: UUID,
    *,
    is_profiled: bool,
) -> None:
    """Consolidate in a process of its own, and send what it took."""
    profile = cProfile.Profile()
    if is_profiled:
        profile.enable()
    cost = uvloop.run(consolidate(settings, tenant, board_id, is_profiled=is_profiled))
    profile.disable()
    if is_profiled:
        pstats.Stats(profile).sort_stats("tottime").print_stats(PROFILED_LINES)
    pipe.send(cost)


def cost_of(settings: Settings, tenant: Tenant, board_id: UUID, *, is_profiled: bool) -> Cost:
    """Have a new process consolidate, and return what it took."""
    spawn = multiprocessing.get_context("spawn")
    receiver, sender = spawn.Pipe(duplex=False)
    worker = spawn.Process(
        target=consolidate_here,
        args=(sender, settings, tenant, board_id),
        kwargs={"is_profiled": is_profiled},
    )
    worker.start()
    cost: Cost = receiver.recv()
    worker.join()
    return cost


async def measure(arguments: argparse.Namespace, folder: Path) -> None:
    """Print what each size takes, first as it is and then without near-duplicates."""
    with EmbeddedPostgres(folder / "pg") as postgres:
        settings = load_settings(
            database_url=postgres.dsn,
            secret_key=SECRET_KEY,
            object_store_url=str(folder / "objects"),
        )
        process = Process(settings)
        await migrate(process.database.engine)
        tenant = await make_tenant(process)
        for rows in arguments.rows:
            for threshold in (None, arguments.threshold):
                board = await make_push_board(process, tenant, near_duplicate_threshold=threshold)
                await load(settings.dsn, tenant, board.id, rows)
                cost = await asyncio.to_thread(
                    cost_of, settings, tenant, board.id, is_profiled=arguments.profile
                )
                print(
                    f"{rows:9,} rows, {'near-duplicates left out' if threshold else 'all kept':24} "
                    f"{cost.seconds:7.1f} s {rows / cost.seconds:9,.0f} rows/s "
                    f"{cost.peak_mb:5.0f} MB, from {cost.began_mb:.0f} MB "
                    f"({cost.dropped:,} left out)",
                    flush=True,
                )
        await process.aclose()


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", default="10000,100000,1000000")
    parser.add_argument("--threshold", type=float, default=0.9)
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    arguments.rows = [int(each) for each in arguments.rows.split(",")]
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        uvloop.run(measure(arguments, Path(folder)))


if __name__ == "__main__":
    main()
