"""OpenAI's JavaScript SDK calls production, whole and in parts."""

import asyncio
import json
import subprocess
from decimal import Decimal

import pytest

from app.services import Process
from tests.contracts.audit_tools import NODE_DIR
from tests.factories import Tenant, make_candidate, make_leaderboard, make_ranked_run

pytestmark = pytest.mark.audit


async def test_the_javascript_sdk_asks_streams_and_knows_errors(
    base_url: str, process: Process, tenant: Tenant
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id, slug="sums")
    candidate = await make_candidate(
        process, board, input_price_per_million_usd=Decimal(1),
        output_price_per_million_usd=Decimal(2),
    )  # fmt: skip
    await make_ranked_run(process, board, [candidate])
    command = ["node", "openai_sdk.mjs", f"{base_url}/v1", tenant.token, "leaderboard/sums"]
    ended = await asyncio.to_thread(
        subprocess.run, command, cwd=NODE_DIR, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    said = json.loads(ended.stdout)
    assert said["models"] == ["leaderboard/sums"]
    assert said["text"] == said["whole"]
    assert "5" in said["text"]
    assert said["usage"]["completion_tokens"] > 0
    assert said["failure"] == {"name": "NotFoundError", "status": 404, "code": "not_found"}
