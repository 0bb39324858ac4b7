"""Snapshots in a bucket of a real S3 server: made, run on, downloaded and compared."""

import hashlib
from typing import Any

import httpx2
import pytest

from app.services import Process
from tests.conftest import ask, await_run
from tests.factories import Tenant, make_candidate
from tests.providers.conftest import WRITER, S3Server
from tests.rest_compat.test_consolidation import consolidate, download
from tests.rest_compat.test_push import make_push_board, push, rows

DIFF = """
query ($a: ID!, $b: ID!) {
  snapshotDiff(a: $a, b: $b) { addedCount removedCount changedCount unchangedCount }
}
"""


@pytest.fixture
def setting_overrides(s3_server: S3Server) -> dict[str, Any]:
    return {
        "object_store_url": "s3://snapshots-of-tests/gero",
        "s3_endpoint_url": s3_server.endpoint_url,
        "s3_region": "us-east-1",
        "s3_access_key_id": WRITER["accessKey"],
        "s3_secret_access_key": WRITER["secretKey"],
    }


async def test_a_snapshot_in_a_bucket_is_ranked_on_downloaded_and_compared(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, worker: None, s3_server: S3Server
) -> None:
    board = await make_push_board(process, tenant)
    await make_candidate(process, board)
    await push(client, board, rows(700))
    first = (await consolidate(client, board))["snapshot"]
    got = await download(client, board)
    assert hashlib.sha256(got.content).hexdigest() == first["content_sha256"]
    part = await download(client, board, headers={"Range": "bytes=20000-20099"})
    assert part.content == got.content[20_000:20_100]
    size = {"mode": "LIMIT", "limit": {"rows": 20, "algorithm": "LAST_N"}}
    started = await client.post(f"/api/leaderboards/{board.id}/run", json={"dataset": size})
    ended = await await_run(client, board.id, started.json()["id"])
    assert (ended["status"], ended["row_count"]) == ("completed", 20)
    await push(client, board, rows(5, start=700))
    second = (await consolidate(client, board))["snapshot"]
    compared = await ask(client, DIFF, a=first["id"], b=second["id"])
    assert compared["data"]["snapshotDiff"] == {
        "addedCount": 5,
        "removedCount": 0,
        "changedCount": 0,
        "unchangedCount": 700,
    }
