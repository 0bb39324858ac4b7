"""The servers that are measured: started on one core, and asked for what they spend."""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.serving import listen
from bench.graphql.hosting import pin
from bench.graphql.servers import Cores
from bench.inference.native import Load, LoadError

LONGEST_START_SECONDS = 120  # some gateways import for half a minute
LONGEST_END_SECONDS = 15


@dataclass(frozen=True, slots=True)
class Server:
    """A server that is up.

    Attributes:
        name: Of the figures.
        port: On this machine.
        request: The bytes that it is asked with.
        process_id: Its process; None for the model endpoint itself.
    """

    name: str
    port: int
    request: Callable[[Load], bytes]
    process_id: int | None = None

    def cpu_seconds(self) -> float:
        """Return the processor time it has used so far; 0 for the model endpoint."""
        if self.process_id is None:
            return 0.0
        stat = Path(f"/proc/{self.process_id}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self) -> int:
        """Return the memory that it takes now."""
        status = Path(f"/proc/{self.process_id}/statm").read_text().split()
        return int(status[1]) * os.sysconf("SC_PAGE_SIZE")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with listen("127.0.0.1", 0) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def started(
    argv: Sequence[str | Path],
    port: int,
    cores: Cores,
    *,
    log: Path,
    variables: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server on its core while the block runs; it ends by SIGTERM.

    Args:
        argv: Its command.
        port: Where it will listen.
        cores: What it is pinned to, and what everybody else is.
        log: Takes what it prints.
        variables: Further environment variables.

    Raises:
        LoadError: It does not start.
    """
    pin(cores.server)
    with log.open("wb") as printed:
        process = subprocess.Popen(
            argv,
            env={**os.environ, **(variables or {})},
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
        )
    pin(cores.client)
    try:
        _await_listening(process, port, log)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(LONGEST_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_listening(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    give_up_at = time.monotonic() + LONGEST_START_SECONDS
    while time.monotonic() < give_up_at and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise LoadError(f"{process.args!r} did not start: {log.read_text(errors='replace')[-2_000:]}")
