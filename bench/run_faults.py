"""Faults of runs: what is lost, doubled or paid for twice when workers and PostgreSQL are killed.

    python -m bench.run_faults [--runs 20] [--seed 1]

Each run goes on in two worker processes. At random moments one of them or both get SIGKILL, and
new ones follow at once; every fifth run loses PostgreSQL too, at the same moment. Afterwards the
run is compared with one of the same kind that nobody disturbed, and with what the provider was
asked. Ends with 1 if anything was lost, doubled or changed.
"""

import argparse
import asyncio
import os
import random
import signal
import sys
import tempfile
from pathlib import Path

import uvloop

from app.embedded_postgres import EmbeddedPostgres
from app.services import Process
from app.settings import load_settings
from db.migrations.runner import migrate
from tests.conftest import SECRET_KEY
from tests.jobs.kills import (
    CALLS_AT_ONCE,
    OWNER,
    Case,
    Ending,
    Ground,
    Moment,
    Workers,
    find_faults,
    serve_provider,
)

# Of the sandbox's own: its models take 15 to 70 ms then.
LATENCY_SCALE = 1.0
KILLS = (2, 3, 4)
WHOLE_SERVER_EVERY = 5
GOOD, FAIR, QUICK, MINI = (
    f"sandbox/{name}"
    for name in ("careful-large", "balanced-medium", "quick-small", "erratic-mini")
)
JUDGED = {"eval_type": "judge", "judge_model": "sandbox/fair-judge"}
IN_PAIRS = {**JUDGED, "evaluation": {"judge_mode": "pairwise"}}
LOW_CEILING = {"max_cost_usd": "0.13"}
LONG_ANSWERS = {"max_tokens": 2_000}  # of which each sets much aside
CASES = (
    Case("plain", (FAIR, QUICK, MINI), 100),
    Case("stops early", (GOOD, FAIR, QUICK, MINI), 300, run={"early_stopping": True}),
    Case("judged", (FAIR, QUICK), 75, board=JUDGED),
    Case("in pairs", (FAIR, QUICK, MINI), 30, board=IN_PAIRS),
    Case("ceiling", (FAIR, QUICK, MINI), 100, run={"max_cost_usd": "0.5"}),
    Case("low ceiling", (FAIR, QUICK), 100, run=LOW_CEILING, params=LONG_ANSWERS, may_stop=True),
    Case("judged ceiling", (FAIR, QUICK), 60, board=JUDGED, run={"max_cost_usd": "1"}),
)


class DurableServer:
    """PostgreSQL on a disk, with the settings that the product starts it with."""

    def __init__(self, data_dir: Path) -> None:
        self.postgres = EmbeddedPostgres(data_dir)
        self._pid_file = data_dir / "cluster" / "postmaster.pid"

    def kill(self) -> None:
        """Send SIGKILL to its first process, by which the others end."""
        os.kill(int(self._pid_file.read_text().split()[0]), signal.SIGKILL)

    async def start(self) -> None:
        """Start it again, which recovers what was committed."""
        await asyncio.to_thread(self.postgres.stop)
        await asyncio.to_thread(self.postgres.start)


def draw_moments(rng: random.Random, call_count: int, *, with_server: bool) -> list[Moment]:
    """Draw when to kill, from before the first call to behind the last."""
    counts = sorted(rng.randint(0, call_count) for _ in range(rng.choice(KILLS)))
    whole = rng.randrange(len(counts)) if with_server else None
    return [Moment(count, place == whole) for place, count in enumerate(counts)]


def describe(number: int, found: Ending, faults: list[str]) -> str:
    """Return a line that says what happened to a run."""
    story = found.story
    hits_server = any(kill.moment.is_whole_server for kill in story.kills)
    return (
        f"{number:3} {story.case.name:14} {found.outcome.status}: {len(story.kills)} kills of "
        f"{len(story.killed)} workers{' and PostgreSQL' if hits_server else ''}, "
        f"{len(story.calls)} calls, {story.repeats.total()} repeats (at most "
        f"{max(story.repeats_by_kill)} of a kill), {len(found.books.ids)} results: "
        f"{'; '.join(faults) or 'nothing lost, nothing doubled'}"
    )


async def disturb(ground: Ground, run_count: int, seed: int) -> bool:
    """Carry out runs and kill their workers; return whether each came through."""
    undisturbed: dict[str, Ending] = {}
    is_sound = True
    killed = repeats = 0
    for number in range(run_count):
        rng = random.Random(f"{seed} {number}")
        case = CASES[number % len(CASES)]
        if case.name not in undisturbed:
            (undisturbed[case.name],) = await ground.carry_out([case])
        with_server = number % WHOLE_SERVER_EVERY == WHOLE_SERVER_EVERY - 1
        call_count = len(undisturbed[case.name].story.calls)
        moments = draw_moments(rng, call_count, with_server=with_server)
        (found,) = await ground.carry_out([case], moments, seed=rng.getrandbits(32))
        faults = find_faults(found, undisturbed[case.name])
        print(describe(number + 1, found, faults), flush=True)
        is_sound &= not faults
        killed += len(found.story.killed)
        repeats += found.story.repeats.total()
    print(f"{run_count} runs, {killed} workers killed, {repeats} calls made again")
    return is_sound


async def measure(runs: int, seed: int, folder: Path) -> bool:
    """Print what happened to each run, and return whether all of them came through."""
    server = DurableServer(folder / "pg")
    with server.postgres:
        async with serve_provider(latency_scale=LATENCY_SCALE) as provider:
            settings = load_settings(
                database_url=server.postgres.dsn,
                secret_key=SECRET_KEY,
                sandbox_url=provider.address(OWNER),
                allow_private_endpoints=True,
                object_store_url=str(folder / "objects"),
            )
            process = Process(settings)
            await migrate(process.database.engine)
            with Workers(settings, provider) as workers:
                ground = Ground(process, provider, workers, server)
                is_sound = await disturb(ground, runs, seed)
            await process.aclose()
    return is_sound


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}, {CALLS_AT_ONCE} calls at once")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        is_sound = uvloop.run(measure(arguments.runs, arguments.seed, Path(folder)))
    sys.exit(not is_sound)


if __name__ == "__main__":
    main()
