"""The product answers alike over HTTP whether it compiles operations or not."""

import gc
import json
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from graphql import GraphQLSchema, build_schema

from app.server import create_operations
from app.services import Process
from app.settings import Settings
from tests.compiled_graphql.product_operations import OperationWriter, Written
from tests.conftest import ask
from tests.factories import (
    Tenant,
    make_candidate,
    make_leaderboard,
    make_ranked_run,
    make_tenant,
    make_trace,
)
from tests.inference_ground import serving_api
from tests.rest_compat.test_push import make_push_board, rows
from tests.schema.test_snapshots import make_snapshot
from tests.schema.test_timing import BOARDS, timed

PUBLIC_URL = "https://gero.example"
# Of a fixed seed in CI, of a fresh one with FUZZ_EXAMPLES.
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "200"))
SEED = random.SystemRandom().getrandbits(32) if "FUZZ_EXAMPLES" in os.environ else 20_261_101
IDS = """{ leaderboards(first: 9) { nodes { id runs(first: 9) { nodes { id } } candidates { id }
    dataset { snapshots { nodes { id rows(first: 9) { edges { cursor node { id } } } } } } } }
  traces { nodes { id } edges { cursor } } other: leaderboards { edges { cursor } } }"""


@pytest.fixture
def setting_overrides() -> dict[str, Any]:
    """Show the same address from both servers."""
    return {"public_url": PUBLIC_URL}


@pytest.fixture
async def interpreting_url(settings: Settings, process: Process) -> AsyncIterator[str]:
    """Return where the same database is served with graphql-core's executor.

    It has a process of its own: when something fails, graphql-core drops what it has not
    begun to await beside it, whichever coroutines those are, and here nothing may do so.
    """
    async with serving_api(
        settings,
        GERO_GRAPHQL_COMPILED="false",
        GERO_PUBLIC_URL=PUBLIC_URL,
        GERO_HUGGINGFACE_URL=settings.huggingface_url,
        GERO_OPENROUTER_URL=settings.openrouter_url,
    ) as (url, _):
        yield url


async def fill(process: Process, tenant: Tenant, client: httpx2.AsyncClient) -> None:
    """Store what operations can find: also what is removed, and what is another workspace's."""
    for number in range(3):
        board = await make_leaderboard(process, tenant.workspace_id)
        candidates = [
            await make_candidate(process, board),
            await make_candidate(process, board, endpoint_url="https://example.com/v1"),
        ]
        await make_ranked_run(process, board, candidates[: number + 1], rows=number + 1)
        await make_ranked_run(process, board, candidates[:1], rows=1)
        async with process.database.write() as session:
            for days in range(3):
                await make_trace(session, board, candidates[0], days_ago=days)
    await make_leaderboard(process, tenant.workspace_id, name='empty "board" é\u2028')
    pushed = await make_push_board(process, tenant, auto_limit_size=True, max_samples_to_gather=4)
    for start in (0, 3):
        await make_snapshot(client, pushed, rows(3, start=start))
    stranger = await make_tenant(process)
    other = await make_leaderboard(process, stranger.workspace_id)
    await make_ranked_run(process, other, [await make_candidate(process, other)])


async def written_over(client: httpx2.AsyncClient, schema: GraphQLSchema) -> OperationWriter:
    """Return a writer that knows the ids and cursors of what is stored."""
    data = (await ask(client, IDS))["data"]
    boards = data["leaderboards"]["nodes"]
    snapshots = [each for board in boards for each in board["dataset"]["snapshots"]["nodes"]]
    places = [edge for each in snapshots for edge in each["rows"]["edges"]]
    ids = {
        "leaderboard": [board["id"] for board in boards],
        "run": [run["id"] for board in boards for run in board["runs"]["nodes"]],
        "candidate": [each["id"] for board in boards for each in board["candidates"]],
        "trace": [trace["id"] for trace in data["traces"]["nodes"]],
        "datasetSnapshot": [snapshot["id"] for snapshot in snapshots],
        "datasetRow": [edge["node"]["id"] for edge in places],
    }
    edges = [*data["traces"]["edges"][::4], *places[::6], *data["other"]["edges"]]
    return OperationWriter(schema, random.Random(SEED), ids, [edge["cursor"] for edge in edges])


def shown(answer: Any) -> tuple[str, list[str], bool]:
    """Return an answer's data as it was sent, and its errors in one order.

    Where several fields fail below what becomes null, which of them are told is a matter
    of time: it is only compared whether one is.
    """
    errors = answer.get("errors", [])
    own = [error for error in errors if not is_below_null(answer.get("data"), error.get("path"))]
    told = sorted(json.dumps(error) for error in own)
    return json.dumps(answer.get("data")), told, bool(errors)


def is_below_null(data: Any, path: list[str | int] | None) -> bool:
    """Tell whether *path* leads through something that is null."""
    for key in path or ():
        if data is None:
            return True
        data = data[key]
    return False


async def send(client: httpx2.AsyncClient, url: str, written: Written) -> Any:
    body = {"query": written.text, "variables": written.variables}
    response = await client.post(f"{url}/graphql", json=body)
    assert response.status_code == 200
    return response.json()


@pytest.mark.timeout(60 + EXAMPLES)
async def test_operations_are_answered_alike_with_and_without_compiling(
    client: httpx2.AsyncClient,
    process: Process,
    tenant: Tenant,
    settings: Settings,
    base_url: str,
    interpreting_url: str,
) -> None:
    for url, executor in ((base_url, "compiled"), (interpreting_url, "graphql-core")):
        assert (await timed(client, BOARDS, url=url))["executor"] == executor
    await fill(process, tenant, client)
    schema = build_schema(create_operations(settings).describe())
    writer = await written_over(client, schema)
    codes: Counter[str] = Counter()
    for _ in range(EXAMPLES):
        written = writer.write()
        compiled = await send(client, base_url, written)
        interpreted = await send(client, interpreting_url, written)
        assert shown(compiled) == shown(interpreted), (SEED, written)
        codes.update({error["extensions"]["code"] for error in compiled.get("errors", [])} or {""})
    assert set(codes) <= {"", "invalid_input", "not_found", "query_too_costly"}
    assert codes[""] > EXAMPLES / 3
    gc.collect()
