"""Exporting traces: how fast over HTTP, and how much memory the server takes for it."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import numpy as np

from bench.graphql import product
from bench.graphql.scene import Scene
from bench.graphql.servers import Served, started

MEBIBYTE = 2**20
# So many rows are timed together.
TIMED_ROWS = 10_000
PLAIN_EXPORT = """
SELECT to_json(plain) FROM trace_plain AS plain WHERE workspace_id = $1 ORDER BY created_at, id
"""


class Pace:
    """How fast an export comes.

    Attributes:
        rows: That have come.
        size_bytes: Of all of it.
    """

    def __init__(self) -> None:
        self.rows = self.size_bytes = 0
        self._marks = [time.perf_counter()]

    def note(self, piece: bytes) -> None:
        """Count what has come."""
        # A row ends in a line feed alone; the lengths of chunks in two characters.
        self.rows += piece.count(b"}\n")
        self.size_bytes += len(piece)
        if self.rows >= len(self._marks) * TIMED_ROWS:
            self._marks.append(time.perf_counter())

    def show(self) -> str:
        """Return it for a person."""
        seconds = time.perf_counter() - self._marks[0]
        taken = np.diff(self._marks) * 1000 if len(self._marks) > 1 else [np.nan]
        p50, p95 = np.percentile(taken, [50, 95])
        return (
            f"{self.rows:,} rows, {self.size_bytes / MEBIBYTE:,.0f} MiB, "
            f"{self.rows / seconds:,.0f} rows/s; milliseconds of each {TIMED_ROWS:,} rows, "
            f"p50 and p95: {p50:,.0f} {p95:,.0f}"
        )


@dataclass(frozen=True, slots=True)
class Exported:
    """What came of an export.

    Attributes:
        shown: How fast it was.
        first_memory_bytes: What the server took before it.
        most_memory_bytes: What the server took at most.
    """

    shown: str
    first_memory_bytes: int
    most_memory_bytes: int


def _memory_bytes(served: Served, name: str) -> int:
    for line in Path(f"/proc/{served.process_id}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise ValueError(name)


async def export(scene: Scene) -> Exported:
    """Export all traces of a leaderboard from a server of its own process."""
    with started("product", product.as_served, scene, None) as served:
        await _read(served, scene, "?limit=1000")
        first = _memory_bytes(served, "VmRSS")
        pace = await _read(served, scene, "/export")
        return Exported(pace.show(), first, _memory_bytes(served, "VmHWM"))


async def export_plain(connection: asyncpg.Connection, scene: Scene) -> str:
    """Copy the workspace's traces as JSON out of the plain table; return how fast that was."""
    pace = Pace()

    async def note(piece: bytes) -> None:
        pace.note(piece)

    await connection.copy_from_query(PLAIN_EXPORT, scene.workspace_id, output=note)
    return pace.show()


async def _read(served: Served, scene: Scene, tail: str) -> Pace:
    """Read an answer to its end, and return how fast it came."""
    url = urlsplit(served.url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    path = f"/v1/leaderboard/{scene.leaderboard_id}/traces{tail}"
    pace = Pace()
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n"
        f"Authorization: Bearer {scene.token}\r\n\r\n".encode()
    )
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    while piece := await reader.read(MEBIBYTE):
        pace.note(piece)
    writer.close()
    return pace
