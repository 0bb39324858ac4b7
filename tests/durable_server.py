"""A PostgreSQL of a module's own, on a disk and with the product's settings, to be killed.

What it has acknowledged is synced. A module takes the fixtures by name: `durable` and
`database_url`.
"""

import asyncio
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.embedded_postgres import EmbeddedPostgres
from db.migrations.runner import migrate_url
from tests.app.test_up import servers_in


@dataclass(frozen=True)
class DurableServer:
    """The server, which can be killed and started again."""

    data_dir: Path
    postgres: EmbeddedPostgres

    def kill(self) -> None:
        """Send SIGKILL to all of its processes at once."""
        for pid in servers_in(self.data_dir):
            with suppress(ProcessLookupError):  # it served the API, which was killed before
                os.kill(pid, signal.SIGKILL)

    async def start_again(self) -> None:
        await asyncio.to_thread(self.postgres.stop)
        await asyncio.to_thread(self.postgres.start)


@pytest.fixture(scope="module")
def durable() -> Iterator[DurableServer]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        data_dir = Path(folder).resolve() / "pg"
        with EmbeddedPostgres(data_dir) as postgres:
            yield DurableServer(data_dir, postgres)


@pytest.fixture(scope="module")
async def database_url(durable: DurableServer) -> str:
    await migrate_url(durable.postgres.dsn)
    return durable.postgres.dsn
