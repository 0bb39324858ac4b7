"""Pushing rows: how many a second are durable, as a ratio to bare inserts into the same table.

    python -m bench.push [--rounds 5] [--seconds 1.5] [--connections 1,16,64]

The product is one `gero serve` with credentials, checks, deduplication and quotas on, asked over
HTTP by a client in a process of its own. The bare loops have one connection of asyncpg, and rows
that were checked and hashed beforehand: `insert` sends a batch as one INSERT from arrays, `copy`
as one COPY, and both commit after each. All of it is in one PostgreSQL that syncs each commit.
"""

import argparse
import asyncio
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import orjson
import uvloop

from app.embedded_postgres import EmbeddedPostgres
from app.services import Process
from app.serving import listen
from app.settings import Settings, load_settings
from bench.graphql.load import Connection, connect
from bench.graphql.servers import Served
from db.base import new_id
from db.migrations.runner import migrate
from engine.rows import normalize_row, row_hash, row_key, row_line
from tests.conftest import SECRET_KEY
from tests.factories import Tenant, make_tenant
from tests.rest_compat.test_push import make_push_board

GERO = Path(sys.executable).parent / "gero"
BATCHES = (1, 100)
# So many are prepared before the time begins; who is faster has less time.
MOST_ROWS_A_SECOND = 50_000
MOST_BATCHES_A_SECOND = 8_000
LONGEST_ANSWER_SECONDS = 30
COLUMNS = (
    "leaderboard_id", "sequence", "row_key", "content_hash", "has_id", "line", "batch_id",
    "created_at",
)  # fmt: skip
INSERT = """
INSERT INTO bare_{kind} SELECT * FROM unnest(
  $1::uuid[], $2::bigint[], $3::bytea[], $4::bytea[], $5::bool[], $6::bytea[], $7::uuid[],
  $8::timestamptz[])
"""

Batch: TypeAlias = list[dict[str, str]]

_serial = count()


def make_row() -> dict[str, str]:
    """Return a row that is like no other one, of some 200 bytes as it is stored."""
    number = next(_serial)
    return {
        "input": f"Ticket {number}: the customer says that the parcel with the number "
        f"{number * 7919} has not come, and asks where it is and when it will be there.",
        "output": f"category: delivery; urgency: {number % 5}",
    }


def make_batches(size: int, seconds: float) -> list[Batch]:
    """Return as many batches as are stored in the time, and more."""
    number = int(seconds * min(MOST_BATCHES_A_SECOND, MOST_ROWS_A_SECOND / size)) + 200
    return [[make_row() for _ in range(size)] for _ in range(number)]


@dataclass(frozen=True, slots=True)
class Scene:
    """Where rows are pushed to."""

    dsn: str
    url: str
    token: str
    leaderboard_id: UUID

    def request(self, batch: Batch) -> bytes:
        """Return the bytes of a push."""
        body = orjson.dumps(batch)
        head = (
            f"POST /v1/leaderboard/{self.leaderboard_id}/dataset/push HTTP/1.1\r\n"
            "Host: bench\r\n"
            "Content-Type: application/json\r\n"
            f"Authorization: Bearer {self.token}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


@dataclass(frozen=True, slots=True)
class Figure:
    """What came of a window.

    Attributes:
        cpu_us: The processor time of the API for each row, in microseconds.
    """

    rows_per_second: float
    cpu_us: float | None = None


async def push_at_once(
    scene: Scene, size: int, connections: int, seconds: float, requests: Iterator[bytes]
) -> Figure:
    """Keep a push under way on every connection; return how many rows were acknowledged."""
    opened = [await connect(scene.url) for _ in range(connections)]
    taken = 0
    acknowledged = f'"accepted_rows":{size},'.encode()
    began = time.perf_counter()

    async def keep_pushing(connection: Connection) -> None:
        nonlocal taken
        for request in requests:
            if time.perf_counter() - began >= seconds:
                return
            answer = await connection.ask(request)
            if acknowledged not in answer:
                raise RuntimeError(f"not every row was taken: {answer!r}")
            taken += size

    async with asyncio.timeout(seconds + LONGEST_ANSWER_SECONDS), asyncio.TaskGroup() as group:
        for connection in opened:
            group.create_task(keep_pushing(connection))
    passed = time.perf_counter() - began
    for connection in opened:
        connection.close()
    return Figure(taken / passed)


def push_from_here(scene: Scene, requests: "multiprocessing.connection.Connection") -> None:
    """Push what comes through the pipe, until nothing does."""
    while (asked := requests.recv()) is not None:
        size, connections, seconds, bodies = asked
        requests.send(uvloop.run(push_at_once(scene, size, connections, seconds, iter(bodies))))


class Client:
    """The client in a process of its own."""

    def __init__(self, scene: Scene) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._scene = scene
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=push_from_here, args=(scene, theirs), daemon=True)
        self._process.start()

    def push(self, size: int, connections: int, seconds: float) -> Figure:
        """Push batches of *size* rows; they are encoded before the time begins."""
        requests = [self._scene.request(batch) for batch in make_batches(size, seconds)]
        self._pipe.send((size, connections, seconds, requests))
        figure: Figure = self._pipe.recv()
        return figure

    def close(self) -> None:
        """End the process."""
        self._pipe.send(None)
        self._process.join()


class Bare:
    """The bare loops: one connection, and rows that need nothing but to be stored."""

    def __init__(self, connection: asyncpg.Connection, leaderboard_id: UUID) -> None:
        self._connection = connection
        self._leaderboard_id = leaderboard_id
        self._sequence = count(1)

    async def prepare(self) -> None:
        """Make their tables, with the indexes of the product's."""
        for kind in ("insert", "copy"):
            await self._connection.execute(
                f"CREATE TABLE bare_{kind} (LIKE pushed_row INCLUDING ALL)"
            )

    async def measure(self, kind: str, size: int, seconds: float) -> Figure:
        """Store batches of *size* rows, each in a transaction."""
        batches = [self._records(batch) for batch in make_batches(size, seconds)]
        if kind == "insert":
            statement = await self._connection.prepare(INSERT.format(kind=kind))
            arrays = [list(map(list, zip(*batch, strict=True))) for batch in batches]
            return await self._timed((statement.fetch(*each) for each in arrays), size, seconds)
        copies = (
            self._connection.copy_records_to_table("bare_copy", records=batch, columns=COLUMNS)
            for batch in batches
        )
        return await self._timed(copies, size, seconds)

    async def _timed(self, storing: Iterator[Any], size: int, seconds: float) -> Figure:
        taken = 0
        began = time.perf_counter()
        for stored in storing:
            await stored
            taken += size
            if time.perf_counter() - began >= seconds:
                break
        return Figure(taken / (time.perf_counter() - began))

    def _records(self, batch: Batch) -> list[tuple[Any, ...]]:
        batch_id, now = new_id(), datetime.now(UTC)
        return [
            (
                self._leaderboard_id, next(self._sequence), row_key(row), row_hash(row), False,
                row_line(row), batch_id, now,
            )
            for row in map(normalize_row, batch)
        ]  # fmt: skip


@asynccontextmanager
async def serving_api(settings: Settings, folder: Path) -> AsyncIterator[Served]:
    """Run `gero serve` on a free port."""
    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    variables = {
        "GERO_DATABASE_URL": settings.database_url,
        "GERO_SECRET_KEY": SECRET_KEY,
        "GERO_OBJECT_STORE_URL": str(folder / "objects"),
        "GERO_LOG_LEVEL": "warning",
    }
    process = await asyncio.create_subprocess_exec(
        GERO, "serve", "--port", str(port), env={**os.environ, **variables}
    )
    url = f"http://127.0.0.1:{port}"
    try:
        await _await_listening(url)
        yield Served(url, process.pid)
    finally:
        process.terminate()
        await process.wait()


async def _await_listening(url: str) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                (await connect(url)).close()
            except OSError:
                await asyncio.sleep(0.05)
            else:
                return


async def measure_round(
    bare: Bare, client: Client, served: Served, arguments: argparse.Namespace
) -> dict[tuple[int, str], Figure]:
    """Return each figure, by the batch's size and by who stored."""
    found: dict[tuple[int, str], Figure] = {}
    for size in BATCHES:
        for kind in ("insert", "copy"):
            found[size, kind] = await bare.measure(kind, size, arguments.seconds)
        for connections in arguments.connections:
            before = served.cpu_seconds()
            figure = await asyncio.to_thread(client.push, size, connections, arguments.seconds)
            after = served.cpu_seconds()
            cpu_us = None
            if before is not None and after is not None:
                cpu_us = (after - before) * 1e6 / (figure.rows_per_second * arguments.seconds)
            name = f"{connections} connection" + "s" * (connections > 1)
            found[size, name] = Figure(figure.rows_per_second, cpu_us)
    return found


def tell(rounds: Sequence[Mapping[tuple[int, str], Figure]]) -> None:
    """Print the medians, and those of the ratios to the bare loops of the same round."""
    print(
        f"{'rows':>5} {'stored by':16} {'rows/s':>9} {'to insert':>10} {'to copy':>9} {'CPU':>12}"
    )
    for size, name in rounds[0]:
        ratios: dict[str, list[float]] = defaultdict(list)
        for found in rounds:
            for kind in ("insert", "copy"):
                stored = found[size, name].rows_per_second
                ratios[kind].append(stored / found[size, kind].rows_per_second)
        speed = statistics.median(found[size, name].rows_per_second for found in rounds)
        spent = [each for found in rounds if (each := found[size, name].cpu_us) is not None]
        shown = f"{statistics.median(spent):6.0f} us/row" if spent else ""
        print(
            f"{size:5} {name:16} {speed:9,.0f} {statistics.median(ratios['insert']):10.2f} "
            f"{statistics.median(ratios['copy']):9.2f} {shown:>12}"
        )


async def measure(arguments: argparse.Namespace, folder: Path) -> None:
    """Print what is stored a second."""
    with EmbeddedPostgres(folder / "pg") as postgres:
        settings = load_settings(database_url=postgres.dsn, secret_key=SECRET_KEY)
        process = Process(settings)
        await migrate(process.database.engine)
        tenant: Tenant = await make_tenant(process)
        board = await make_push_board(process, tenant)
        await process.aclose()
        connection = await asyncpg.connect(settings.dsn)
        bare = Bare(connection, board.id)
        await bare.prepare()
        async with serving_api(settings, folder) as served:
            client = Client(Scene(settings.dsn, served.url, tenant.token, board.id))
            await asyncio.to_thread(client.push, 1, 1, 0.5)  # warms the server
            rounds = [
                await measure_round(bare, client, served, arguments)
                for _ in range(arguments.rounds)
            ]
            client.close()
        await connection.close()
    tell(rounds)


def numbers(value: str) -> list[int]:
    """Read numbers, separated by commas."""
    return [int(each) for each in value.split(",")]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--connections", type=numbers, default=[1, 16, 64])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        uvloop.run(measure(arguments, Path(folder)))


if __name__ == "__main__":
    main()
