"""Inference: what the product adds to a model's latency, and its throughput beside a bare server.

    python -m bench.inference [--rounds 5] [--seconds 2] [--requests 200000] [--log-level warning]
        [--peer litellm=PATH] [--peer portkey=PATH] [--peer smg=PATH]
    python -m bench.inference --servers 4
    python -m bench.inference --profile [samples|calls]

Each server has one core to itself while it is asked; the model, the load client and PostgreSQL
share the other one. `direct` is the model endpoint without a server before it. `product` is one
`gero serve`: a token with a scope and a budget, a trace and a charge committed before each answer.
`bare` (bare.py) commits as much, and does nothing else; `usual` (usual.py) stores nothing. The
rounds take the servers in turn, and every figure is a median over the rounds. Where other work runs
on the machine, the processor time is the figure to trust. In the end the traces and charges must be
those of the answers, to the last one.

`--servers` asks instead one server, and then so many at once, for the calls of one token: 32 at a
time in all, of a model of 50 ms.

`--requests` is how many answers the product's memory is watched for; 0 leaves that out, and
`--rounds 0` the rest. Linux and a C compiler are needed. The peers are gateways that you have
installed, none with a database:

    python -m venv L && L/bin/pip install 'litellm[proxy]'     --peer litellm=L/bin/litellm
    python -m venv S && S/bin/pip install smg                  --peer smg=S/bin/smg
    npm i @portkey-ai/gateway
        --peer portkey=node_modules/@portkey-ai/gateway/build/start-server.js
"""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from app.embedded_postgres import EmbeddedPostgres
from bench.graphql.hosting import pin
from bench.graphql.measuring import rotated
from bench.graphql.servers import Cores, choose_cores
from bench.inference.figures import (
    BARE,
    BUSY,
    DIRECT,
    LOADS,
    PRODUCT,
    Measured,
    Report,
    memory_verdict,
    shown_wrong,
)
from bench.inference.native import Burst, Load, LoadError, Programs, chat_request
from bench.inference.peers import PEERS
from bench.inference.product import Scene, check_accounts, make_scene
from bench.inference.replicas import ReplicaReport, share_calls
from bench.inference.servers import Server, free_port, started

# The code that is here, whichever one `gero` is installed from.
GERO = (sys.executable, "-c", "from app.cli import main; main(prog_name='gero')")
MILESTONES = (5_000, 50_000, 100_000, 200_000)
WATCHED_EVERY = 5_000
WARM_UP_SECONDS = 1.0
LONGEST_WATCH_SECONDS = 600.0
PROFILED_SECONDS = 10


@dataclass(slots=True)
class Bench:
    """What a run has.

    Attributes:
        answered: How often each server has answered with 200.
    """

    folder: Path
    programs: Programs
    cores: Cores
    scene: Scene
    model_port: int
    log_level: str
    answered: Counter[str] = field(default_factory=Counter)

    @property
    def model_url(self) -> str:
        """Where the model is."""
        return f"http://127.0.0.1:{self.model_port}/v1/chat/completions"

    @contextmanager
    def serving_product(
        self, command: Sequence[str | Path], *, log_name: str = PRODUCT
    ) -> Iterator[Server]:
        """Run the product by *command*, which is `gero` in some way."""
        port = free_port()
        variables = {**self.scene.variables(self.folder), "GERO_LOG_LEVEL": self.log_level}
        argv = [*command, "serve", "--port", str(port)]
        log = self.folder / f"{log_name}.log"
        with started(argv, port, self.cores, log=log, variables=variables) as process:
            yield Server(PRODUCT, port, self.scene.request, process.pid)

    @contextmanager
    def serving_all(self, peers: dict[str, Path]) -> Iterator[list[Server]]:
        """Run every server, and yield them with the model itself."""
        with ExitStack() as stack:
            servers = [Server(DIRECT, self.model_port, chat_request)]
            for name, further in ((BARE, [self.scene.dsn]), ("usual", [])):
                port = free_port()
                module = f"bench.inference.{name}"
                argv = [sys.executable, "-m", module, str(port), self.model_url, *further]
                log = self.folder / f"{name}.log"
                process = stack.enter_context(started(argv, port, self.cores, log=log))
                servers.append(Server(name, port, chat_request, process.pid))
            servers.append(stack.enter_context(self.serving_product(GERO)))
            for name, program in peers.items():
                port = free_port()
                peer = PEERS[name](program, port, self.model_port, self.folder)
                log = self.folder / f"{name}.log"
                process = stack.enter_context(
                    started(peer.argv, port, self.cores, log=log, variables=peer.variables)
                )
                servers.append(Server(name, port, peer.request, process.pid))
            yield servers

    def measure(
        self, server: Server, load: Load, *, seconds: float, answers: int = 1_000_000
    ) -> Measured:
        """Send a load to a server.

        Raises:
            LoadError: An answer was wrong, or did not come.
        """
        before = server.cpu_seconds()
        burst = self.send(server, load, seconds=seconds, answers=answers)
        if burst.wrong:
            log = (self.folder / f"{server.name}.log").read_text(errors="replace")[:3_000]
            raise LoadError(
                f"{server.name} answered {burst.first_wrong} ({burst.wrong} times): {log}"
            )
        return Measured(burst, (server.cpu_seconds() - before) / max(1, burst.right) * 1_000)

    def send(self, server: Server, load: Load, *, seconds: float, answers: int) -> Burst:
        """Send a load to a server, and count what it answers."""
        try:
            request = server.request(load)
            burst = self.programs.send(server.port, request, load, seconds=seconds, answers=answers)
        except LoadError as error:
            raise LoadError(f"{server.name}: {error}") from error
        self.answered[server.name] += burst.right
        return burst

    def check(self) -> None:
        """Check the accounts of those who keep any."""
        asyncio.run(check_accounts(self.scene, self.answered))


def measure_rounds(bench: Bench, servers: Sequence[Server], *, rounds: int, seconds: float) -> None:
    """Measure every server with every load, and print the figures."""
    report = Report()
    wrong: dict[str, str] = {}
    for server in servers:
        for load in LOADS:
            if load.stream:
                burst = bench.send(
                    server, Load(1, load.delay_ms, stream=True), seconds=1, answers=1
                )
                if burst.wrong:
                    wrong[server.name] = burst.first_wrong
                    continue
            bench.measure(server, load, seconds=WARM_UP_SECONDS)
    for number in range(rounds):
        for load in LOADS:
            for server in rotated(servers, number):
                if load.stream and server.name in wrong:
                    continue
                measured = bench.measure(server, load, seconds=seconds)
                report.add(load, server.name, measured)
    bench.check()
    print("\n".join([*report.table(), *shown_wrong(wrong), *report.verdicts()]), flush=True)


def watch_memory(bench: Bench, product: Server, requests: int) -> None:
    """Print the product's memory on the way to so many answers, and its slope."""
    answers, resident = [0], [product.resident_bytes()]
    while answers[-1] < requests:
        following = min(WATCHED_EVERY, requests - answers[-1])
        measured = bench.measure(product, BUSY, seconds=LONGEST_WATCH_SECONDS, answers=following)
        answers.append(answers[-1] + measured.burst.right)
        resident.append(product.resident_bytes())
        if answers[-1] in {*MILESTONES, requests}:
            print(f"{answers[-1]:9,} answers: {resident[-1] / 1e6:.1f} MB resident", flush=True)
    bench.check()
    print(memory_verdict(answers[1:], resident[1:]))


def measure_replicas(bench: Bench, count: int, *, rounds: int, seconds: float) -> None:
    """Print what one server of a token adds, and what many do."""
    report = ReplicaReport()
    with ExitStack() as stack:
        servers = [
            stack.enter_context(bench.serving_product(GERO, log_name=f"{PRODUCT}-{number}"))
            for number in range(count)
        ]
        asked = (servers[:1], servers)
        for number in range(rounds + 1):
            one, many = (
                share_calls(bench.programs, some, seconds=seconds if number else WARM_UP_SECONDS)
                for some in asked
            )
            for burst in (*one, *many):
                if burst.wrong:
                    raise LoadError(f"{burst.wrong} wrong answers: {burst.first_wrong}")
                bench.answered[PRODUCT] += burst.right
            if number:
                report.add(one, many)
        bench.check()
    print("\n".join(report.lines()), flush=True)


def profile(bench: Bench, kind: str) -> None:
    """Print where the product's time goes at full load."""
    command = [sys.executable, "-m", "bench.inference.profiled", kind]
    with bench.serving_product(command) as product:
        bench.measure(product, BUSY, seconds=WARM_UP_SECONDS)
        assert product.process_id is not None
        os.kill(product.process_id, signal.SIGUSR1)
        measured = bench.measure(product, BUSY, seconds=PROFILED_SECONDS)
    print((bench.folder / "product.log").read_text(), end="")
    print(f"{measured.per_second:,.0f} req/s while it was profiled")


@contextmanager
def prepared(log_level: str) -> Iterator[Bench]:
    """Make what every mode needs."""
    cores = choose_cores()
    pin(cores.client)
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp") as name,
        EmbeddedPostgres(Path(name) / "pg") as postgres,
    ):
        folder = Path(name)
        programs = Programs(folder)
        with programs.serving_model() as port:
            model_url = f"http://127.0.0.1:{port}/v1/chat/completions"
            scene = asyncio.run(make_scene(postgres.dsn, folder, model_url))
            yield Bench(folder, programs, cores, scene, port, log_level)


def named_peer(value: str) -> tuple[str, Path]:
    """Read a peer's name and its program."""
    name, _, path = value.partition("=")
    if name not in PEERS or not Path(path).is_file():
        raise argparse.ArgumentTypeError(
            f"{value!r} is not NAME=PATH, with {', '.join(PEERS)} and its program"
        )
    return name, Path(path).absolute()


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--servers", type=int, choices=range(2, 17), metavar="2..16")
    parser.add_argument("--log-level", default="warning")
    parser.add_argument("--peer", type=named_peer, action="append", default=[])
    parser.add_argument("--profile", nargs="?", const="samples", choices=("samples", "calls"))
    arguments = parser.parse_args()
    with prepared(arguments.log_level) as bench:
        if arguments.profile is not None:
            profile(bench, arguments.profile)
            return
        print(f"load average {os.getloadavg()[0]:.1f}", flush=True)
        if arguments.servers:
            rounds, seconds = arguments.rounds, arguments.seconds
            measure_replicas(bench, arguments.servers, rounds=rounds, seconds=seconds)
            return
        if arguments.rounds:
            with bench.serving_all(dict(arguments.peer)) as servers:
                measure_rounds(bench, servers, rounds=arguments.rounds, seconds=arguments.seconds)
        if arguments.requests:
            with bench.serving_product(GERO) as product:
                watch_memory(bench, product, arguments.requests)


if __name__ == "__main__":
    main()
