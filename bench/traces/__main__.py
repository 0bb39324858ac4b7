"""The command: millions of traces in a database of their own, read, exported and stored.

    python -m bench.traces [--traces 10000000] [--days 30] [--rounds 30] [--seconds 10]
        [--folder /var/tmp]

`plain` is the table that traces were in before: not partitioned, texts inline, three indexes. It
is built in the same run, of the same traces, and asked by hand-written SQL over asyncpg; the
product is asked through its use cases. Ten million traces take some 60 GB for an hour.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from tempfile import gettempdir

import asyncpg
import uvloop

from app.embedded_postgres import EmbeddedPostgres
from app.services import Process
from app.settings import load_settings
from bench.graphql.product import SECRET_KEY
from bench.graphql.scene import Scene
from bench.traces.exporting import MEBIBYTE, export, export_plain
from bench.traces.reading import questions_of, time_question
from bench.traces.seeding import DAYS, Owner, fill
from bench.traces.storing import drop_filter_indexes, rows_per_second, words_per_second
from resolvers.trace_upkeep import make_next_days

# The data lives as long as the benchmark.
FILLING = {
    "fsync": "off", "full_page_writes": "off", "wal_level": "minimal", "max_wal_senders": "0",
    "max_wal_size": "2GB", "autovacuum": "off",
}  # fmt: skip
BYTES_A_TRACE = 6_000
SIZES = """
SELECT CASE WHEN relname LIKE 'trace_text%' THEN 'trace_text' WHEN relname LIKE 'trace_plain%'
    THEN 'trace_plain' WHEN relname LIKE 'trace_words%'
    THEN 'trace_words' WHEN relname ~ '^trace_\\d' THEN 'trace' ELSE relname END AS name,
    pg_size_pretty(sum(pg_table_size(oid))) AS rows,
    pg_size_pretty(sum(pg_indexes_size(oid))) AS indexes
FROM pg_class WHERE relkind = 'r' AND relname LIKE 'trace%' GROUP BY 1 ORDER BY 1
"""


def process_of(dsn: str) -> Process:
    """Return the product's services over the database."""
    return Process(
        load_settings(
            database_url=dsn,
            secret_key=SECRET_KEY,
            object_store_url=gettempdir(),
            database_timeout_seconds=300,
        )
    )


async def prepare(dsn: str, arguments: argparse.Namespace) -> list[Owner]:
    """Fill the database."""
    process = process_of(dsn)
    try:
        began = time.perf_counter()
        owners = await fill(process, _plain_dsn(dsn), arguments.traces, arguments.days)
        print(f"filled in {time.perf_counter() - began:,.0f} s\n")
        return owners
    finally:
        await process.aclose()


def _plain_dsn(dsn: str) -> str:
    return dsn.replace("+asyncpg", "")


async def measure(dsn: str, owners: list[Owner], arguments: argparse.Namespace) -> None:
    """Measure, and print."""
    process = process_of(dsn)
    connection = await asyncpg.connect(_plain_dsn(dsn))
    await make_next_days(process.system_context())
    for row in await connection.fetch(SIZES):
        print(f"{row['name']:12} rows {row['rows']:>10}  indexes {row['indexes']:>10}")
    await _read(process, connection, owners, arguments.rounds)
    largest = owners[0]
    scene = Scene(dsn, largest.workspace_id, largest.leaderboard_id, largest.api_token)
    print(f"\nexport, plain: {await export_plain(connection, scene)}")
    await connection.close()
    exported = await export(scene)
    print(
        f"export: {exported.shown}; the server's memory "
        f"{exported.first_memory_bytes / MEBIBYTE:.0f} MiB before and at most "
        f"{exported.most_memory_bytes / MEBIBYTE:.0f} MiB"
    )
    await _store(process, owners, arguments.seconds)
    await process.aclose()


async def _read(
    process: Process, connection: asyncpg.Connection, owners: list[Owner], rounds: int
) -> None:
    chosen = (owners[0], owners[2], owners[-1])
    shares = "".join(f"{owner.share / 10:>15.0f}%" for owner in chosen)
    print(f"\nmilliseconds, p50 and p95    of {shares}      plain, of 60%   ratio of p50")
    for together in zip(
        *(questions_of(process, connection, owner) for owner in chosen), strict=True
    ):
        name, _, ask_plain = together[0]
        timings = [await time_question(ask, rounds) for _, ask, _ in together]
        line = "".join(f"{timing.p50_ms:8.1f}{timing.p95_ms:8.1f}" for timing in timings)
        if ask_plain is not None:
            plain = await time_question(ask_plain, rounds)
            line += f"   {plain.p50_ms:10.1f}{plain.p95_ms:10.1f}"
            line += f"{plain.p50_ms / timings[0].p50_ms:9.2f}x"
        print(f"{name:30} {line}", flush=True)


async def _store(process: Process, owners: list[Owner], seconds: float) -> None:
    print("\nstoring, rows/s of one writer in batches of 100, each synced")
    whole = await rows_per_second(process, owners, seconds)
    print(f"  as the product does             {whole:9,.0f}")
    words = await words_per_second(process)
    print(f"  finding their words, afterwards {words:9,.0f}   {words / whole:.2f}x")
    await drop_filter_indexes(process)
    bare = await rows_per_second(process, owners, seconds)
    print(f"  without the indexes of filters  {bare:9,.0f}   {bare / whole:.2f}x")
    plain = await rows_per_second(process, owners, seconds, plain=True)
    print(f"  into the plain table            {plain:9,.0f}   {plain / whole:.2f}x", flush=True)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--traces", type=int, default=10_000_000)
    parser.add_argument("--days", type=int, default=DAYS)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"))
    arguments = parser.parse_args()
    free_bytes = shutil.disk_usage(arguments.folder).free
    if free_bytes < arguments.traces * BYTES_A_TRACE:
        sys.exit(f"{arguments.traces:,} traces need {arguments.traces * BYTES_A_TRACE:,} bytes, "
                 f"and {arguments.folder} has {free_bytes:,}")  # fmt: skip
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        data_dir = Path(folder) / "pg"
        with EmbeddedPostgres(data_dir, settings=FILLING) as postgres:
            owners = uvloop.run(prepare(postgres.dsn, arguments))
        with EmbeddedPostgres(data_dir) as postgres:
            uvloop.run(measure(postgres.dsn, owners, arguments))
    print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
