"""Exporting traces: rows a second over HTTP, and how much memory the server takes for it."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bench.graphql import product
from bench.graphql.scene import Scene
from bench.graphql.servers import Served, started

MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True)
class Exported:
    """What came of an export.

    Attributes:
        memory_bytes: What the server took at most, and at first.
    """

    rows: int
    size_bytes: int
    seconds: float
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
        began = time.perf_counter()
        rows, size_bytes = await _read(served, scene, "/export")
        seconds = time.perf_counter() - began
        return Exported(rows, size_bytes, seconds, first, _memory_bytes(served, "VmHWM"))


async def _read(served: Served, scene: Scene, tail: str) -> tuple[int, int]:
    """Read an answer to its end, and return its lines and bytes."""
    url = urlsplit(served.url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    path = f"/v1/leaderboard/{scene.leaderboard_id}/traces{tail}"
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n"
        f"Authorization: Bearer {scene.token}\r\n\r\n".encode()
    )
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    lines = size_bytes = 0
    while chunk := await reader.read(MEBIBYTE):
        # A row ends in a line feed alone; the lengths of chunks in two characters.
        lines += chunk.count(b"}\n")
        size_bytes += len(chunk)
    writer.close()
    return lines, size_bytes
