"""A peer model of the tests' own, and a leaderboard over it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.services import Process
from db.models import Candidate, Leaderboard
from tests.factories import Tenant, make_candidate, make_leaderboard
from tests.model_peer import ModelPeer, model_peer

PEER_ROWS = 120


@pytest.fixture
async def peer() -> AsyncIterator[ModelPeer]:
    async with model_peer(PEER_ROWS) as made:
        yield made


@pytest.fixture
def setting_overrides(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Read datasets from the peer where a test has one."""
    if "peer" not in request.fixturenames:
        return {}
    served: ModelPeer = request.getfixturevalue("peer")
    return {"huggingface_url": served.url, "run_concurrency": 8}


async def make_board(
    process: Process, tenant: Tenant, peer: ModelPeer, *names: str, **columns: Any
) -> tuple[Leaderboard, list[Candidate]]:
    """Store a leaderboard over the peer's dataset, with a candidate for each name."""
    board = await make_leaderboard(
        process,
        tenant.workspace_id,
        url=peer.dataset_url,
        **{"system_prompt": "{input}", "evaluation": {"match": "exact"}, **columns},
    )
    candidates = [
        await make_candidate(
            process, board, endpoint_url=peer.endpoint(name), display_name=name,
            input_price_per_million_usd=1, output_price_per_million_usd=1,
        )
        for name in names
    ]  # fmt: skip
    return board, candidates
