"""Faults of production: what answers leave behind when models, servers and PostgreSQL fail.

    python -m bench.inference_faults [--seconds 180] [--callers 64] [--seed 1]

Two `gero serve` are asked by callers with one request under way each: plain ones, streams, and
ones with an Idempotency-Key; some don't wait for their answer. The model answers statuses, hangs
up before and in the middle of its answers, stalls, and talks nonsense. Spread over the time, each
server gets SIGKILL once, and PostgreSQL is restarted once and killed once. Afterwards what has a
key is asked again until it is answered, and the books are compared with what callers saw.

Ends with 1 if an answer lacks its trace or its charge or has two, or if the budget has not used
exactly what is charged.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from app.services import Process
from app.settings import Settings, load_settings
from bench.run_faults import DurableServer
from db.migrations.runner import migrate
from db.models import Leaderboard
from resolvers.budgets import release_expired_holds
from tests.app.test_processes import free_port
from tests.conftest import SECRET_KEY
from tests.factories import make_tenant
from tests.faulty_model import FaultyModel, faulty_model
from tests.inference_ground import (
    Audit,
    Books,
    Callers,
    Story,
    audit,
    end_holds,
    make_production,
    read_books,
    serving_api,
)

SERVERS = 2
LIMIT_USD = "100000"
SHOWN_FAULTS = 20


class Replica:
    """A server that is killed and started again at the same address."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._port = free_port()
        self._stack = AsyncExitStack()
        self.url = f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        self._stack = AsyncExitStack()
        _, self._process = await self._stack.enter_async_context(
            serving_api(self._settings, self._port)
        )

    async def kill(self) -> None:
        """Send SIGKILL, and start another."""
        self._process.kill()
        await self.stop()
        await self.start()

    async def stop(self) -> None:
        """End it, if it has not ended."""
        await self._stack.aclose()


@dataclass
class Ground:
    """What is disturbed."""

    settings: Settings
    server: DurableServer
    replicas: list[Replica]

    async def restart_postgresql(self) -> None:
        """Stop PostgreSQL as an operator does, and start it again."""
        await self.server.start()

    async def kill_postgresql(self) -> None:
        """Send it SIGKILL, and start it again."""
        self.server.kill()
        await self.server.start()

    async def disturb(self, rng: random.Random, seconds: float) -> None:
        """Let time pass, and everything happen in it, in a random order."""
        blows: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("PostgreSQL is restarted", self.restart_postgresql),
            ("PostgreSQL is killed", self.kill_postgresql),
            *((f"server {n + 1} is killed", each.kill) for n, each in enumerate(self.replicas)),
        ]
        rng.shuffle(blows)
        began = time.monotonic()
        for number, (name, strike) in enumerate(blows, start=1):
            moment = seconds * (number - rng.random() / 2) / (len(blows) + 0.5)
            await asyncio.sleep(max(began + moment - time.monotonic(), 0))
            print(f"{time.monotonic() - began:5.0f} s: {name}", flush=True)
            await strike()
        await asyncio.sleep(max(began + seconds - time.monotonic(), 0))


def report(story: Story, books: Books, model: FaultyModel, found: Audit) -> None:
    """Print what was asked, what was seen, and what is stored."""
    statuses = Counter(status for _, status in books.traces.values())
    shown = ", ".join(f"{status or 'none'} {n}" for status, n in sorted(story.statuses.items()))
    rows = (
        ("requests", f"{story.statuses.total()}, by status: {shown}"),
        ("acknowledged", f"{len(story.acknowledged)} answers, {len(story.failed)} named failures"),
        ("calls of the model", f"{model.calls.total()}, {model.answered.total()} answered whole"),
        ("traces", f"{len(books.traces)}: {', '.join(f'{k} {n}' for k, n in statuses.items())}"),
        ("charges", f"{len(books.charges)}"),
        ("duplicates", f"{len(found.doubled)}"),
        ("lost", f"{len(found.lost)} traces, {len(found.uncharged)} charges"),
        ("used and charged", f"{books.used_usd:f} and {books.charged_usd:f} US dollars"),
        ("held in the end", f"{books.held_usd:f} US dollars by {books.hold_count} holds"),
    )
    for name, value in rows:
        print(f"{name:20}{value}")
    for fault in found.faults[:SHOWN_FAULTS]:
        print(f"  {fault}")


async def be_asked(
    ground: Ground, board: Leaderboard, token: str, arguments: argparse.Namespace
) -> Story:
    """Have callers ask while everything is disturbed."""
    rng = random.Random(arguments.seed)
    story = Story()
    urls = [each.url for each in ground.replicas]
    callers = Callers(urls, board, token, story, rng)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for _ in range(arguments.callers):
            group.create_task(callers.keep_asking(stop))
        await ground.disturb(rng, arguments.seconds)
        stop.set()
    print(f"{len(story.unanswered)} with a key are asked again", flush=True)
    await callers.settle_unanswered()
    return story


async def measure(arguments: argparse.Namespace, folder: Path) -> bool:
    """Print what came of it, and return whether the books are right."""
    server = DurableServer(folder / "pg")
    with server.postgres:
        settings = load_settings(
            database_url=server.postgres.dsn,
            secret_key=SECRET_KEY,
            allow_private_endpoints=True,
            object_store_url=str(folder / "objects"),
            idempotency_claim_seconds=5,
        )
        process = Process(settings)
        await migrate(process.database.engine)
        replicas = [Replica(settings) for _ in range(SERVERS)]
        async with AsyncExitStack() as stack:
            stack.push_async_callback(process.aclose)
            model = await stack.enter_async_context(faulty_model(random.Random(arguments.seed)))
            tenant = await make_tenant(process)
            board, token = await make_production(process, tenant, model, limit_usd=LIMIT_USD)
            for replica in replicas:
                stack.push_async_callback(replica.stop)
                await replica.start()
            story = await be_asked(Ground(settings, server, replicas), board, token, arguments)
            # What is held for callers that hung up is stored a moment later.
            await asyncio.sleep(2)
            await end_holds(settings.database_url)
            released = await release_expired_holds(process.system_context())
            print(f"{released} holds of servers that died are given back")
            books = await read_books(settings.database_url, board)
    found = audit(story, books)
    report(story, books, model, found)
    return not found.faults


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}, {arguments.callers} callers, {arguments.seconds:g} s")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        is_sound = asyncio.run(measure(arguments, Path(folder)))
    sys.exit(not is_sound)


if __name__ == "__main__":
    main()
