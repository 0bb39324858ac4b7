"""The sandbox that most tests share, and a client that has its key."""

from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest

from app.sandbox.openrouter import SANDBOX_KEY
from tests.app.sandbox.serving import serve_sandbox


@pytest.fixture(scope="session")
def sandbox_url() -> Iterator[str]:
    with serve_sandbox() as url:
        yield url


@pytest.fixture(scope="session")
async def client(sandbox_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {"Authorization": f"Bearer {SANDBOX_KEY}"}
    async with httpx2.AsyncClient(base_url=sandbox_url, headers=headers) as client:
        yield client
