"""The servers that are compared, each in a process of its own on one core, and what they spend."""

import multiprocessing
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.graphql import limit, product, rows, usual
from bench.graphql.hosting import Factory, host
from bench.graphql.scene import Scene

LONGEST_START_SECONDS = 60


def factories() -> dict[str, Factory]:
    """Return what builds each server, by its name; the product comes first."""
    found: dict[str, Factory] = {"product": product.as_served}
    if product.has_compiled_executor():
        found["product-off"] = product.as_served_uncompiled
    return found | {
        "rows": rows.create_app,
        "limit": limit.create_app,
        "usual": usual.create_app,
    }


@dataclass(frozen=True, slots=True)
class Cores:
    """Which core the servers share, and which one the client has; None where it can't be said."""

    server: int | None
    client: int | None


def choose_cores() -> Cores:
    """Take two of the cores that this process may use."""
    if not hasattr(os, "sched_getaffinity"):
        return Cores(None, None)
    usable = sorted(os.sched_getaffinity(0))
    return Cores(usable[0], usable[1]) if len(usable) > 1 else Cores(None, None)


@dataclass(frozen=True, slots=True)
class Served:
    """A server that is up.

    Attributes:
        url: Where it is.
        process_id: Its process.
    """

    url: str
    process_id: int

    def cpu_seconds(self) -> float | None:
        """Return the processor time it has used so far, where the system tells."""
        stat = Path(f"/proc/{self.process_id}/stat")
        if not stat.exists():
            return None
        after_name = stat.read_text().rpartition(")")[2].split()
        user, system = int(after_name[11]), int(after_name[12])
        return (user + system) / os.sysconf("SC_CLK_TCK")


class _Hosted:
    """A server's process, from its start to its end."""

    def __init__(self, name: str, create: Factory, scene: Scene, core: int | None) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._name = name
        self._receiver, sender = spawn.Pipe(duplex=False)
        self._process = spawn.Process(
            target=host, args=(create, scene, core, sender), daemon=True, name=name
        )
        self._process.start()
        sender.close()

    def await_start(self) -> Served:
        """Return the server once it is up."""
        if not self._receiver.poll(LONGEST_START_SECONDS):
            raise TimeoutError(f"{self._name} did not start")
        url = self._receiver.recv()
        assert self._process.pid is not None
        return Served(url, self._process.pid)

    def end(self) -> None:
        """End the process."""
        self._receiver.close()
        self._process.kill()
        self._process.join()


@contextmanager
def started(name: str, create: Factory, scene: Scene, core: int | None) -> Iterator[Served]:
    """Serve with one server while the block runs."""
    hosted = _Hosted(name, create, scene, core)
    try:
        yield hosted.await_start()
    finally:
        hosted.end()


@contextmanager
def all_started(scene: Scene, core: int | None) -> Iterator[Mapping[str, Served]]:
    """Serve with every server while the block runs."""
    with ExitStack() as stack:
        hosted = {}
        for name, create in factories().items():
            hosted[name] = _Hosted(name, create, scene, core)
            stack.callback(hosted[name].end)
        yield {name: each.await_start() for name, each in hosted.items()}
