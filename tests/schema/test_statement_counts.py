"""Statements depend on an operation's depth, never on how many rows it returns."""

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from app.services import Process
from resolvers.inputs import NewShadow
from resolvers.loaders.answers import ComparisonsByPlace, OutputByPlace
from resolvers.loaders.base import Loader
from resolvers.loaders.datasets import RowByPlace
from resolvers.loaders.slices import CountByParent, SliceByParent
from resolvers.paging import PageRequest
from resolvers.rollouts import start_rollout
from resolvers.shadows import start_shadow
from resolvers.where import NOTHING
from tests.conftest import SqlLog, ask
from tests.factories import (
    Tenant,
    make_candidate,
    make_label_job,
    make_leaderboard,
    make_ranked_run,
    make_tenant,
)

BOARDS = "{ leaderboards(first: 50) { nodes { %s } } }"
TRACES = "{ traces(first: 50) { nodes { %s } } }"
EDGES = {
    "candidates": BOARDS % "candidates { id leaderboard { id } }",
    "production": BOARDS % "productionCandidate { id }",
    "dataset": BOARDS % "dataset { url latestSnapshot { number leakage { leakingRowCount } } }",
    "snapshots": BOARDS
    % """dataset { snapshots(first: 2) { totalCount nodes { number leaderboard { id }
         rows(first: 3) { totalCount nodes { input key } }
         labelled: rows(first: 3, filter: {labelled: true}) { totalCount nodes { side } }
         droppedRows(first: 3) { totalCount nodes { key } } } } }""",
    "jobs": BOARDS
    % """dataset { jobs(first: 2) { totalCount nodes { costUsd progress { done total }
         snapshot { number } leaderboard { id } } } }""",
    "ranking": BOARDS % "ranking { run { id } entries { rank candidate { displayName } } }",
    "runs": BOARDS % "runs(first: 2) { totalCount nodes { id leaderboard { id } } }",
    "run edges": BOARDS
    % """runs(first: 1) { nodes { progress { done total } costUsd snapshot { number }
         ranking { id } candidates { id } } }""",
    "results": BOARDS
    % """runs(first: 1) { nodes { results(first: 3, orderBy: BEST_FIRST) { totalCount
         nodes { output row { input } whole: row { key } candidate { id }
                 trace { output } } } } }""",
    "rollouts": BOARDS
    % """rollout { share arms { requestCount } verdict { action } toCandidate { id } }
         rollouts(first: 2) { totalCount nodes { status arms { arm } leaderboard { id } } }
         promotions { nodes { rollout { id } } }""",
    "shadow": BOARDS % "shadow { status challenger { id } }",
    "traces": BOARDS % "traces(first: 3) { totalCount nodes { input output } }",
    "trace edges": TRACES
    % "messages expected leaderboard { id } candidate { id } run { id leaderboard { id } }",
}


async def make_boards(process: Process, tenant: Tenant, count: int) -> None:
    for _ in range(count):
        board = await make_leaderboard(process, tenant.workspace_id)
        candidates = [
            await make_candidate(
                process, board, input_price_per_million_usd=1, output_price_per_million_usd=1
            )
            for _ in range(2)
        ]
        run = await make_ranked_run(process, board, candidates)
        for _ in range(2):
            await make_label_job(process, board, snapshot_id=run.snapshot_id)
        ctx = process.system_context(tenant.workspace_id)
        await start_rollout(ctx, board.id, candidates[1].id, None)
        shadow = NewShadow(challenger_id=candidates[1].id, budget_usd=Decimal(1))
        await start_shadow(ctx, board.id, shadow)


async def statements(
    client: httpx2.AsyncClient, sql: SqlLog, tenant: Tenant, operation: str
) -> tuple[int, Any]:
    client.headers.update(tenant.headers)
    with sql.record() as seen:
        answer = await ask(client, operation)
    assert "errors" not in answer, answer
    return len(seen), answer["data"]


async def test_every_edge_costs_the_same_for_1_and_for_50_parents(
    anonymous: httpx2.AsyncClient, process: Process, sql: SqlLog
) -> None:
    one, many = await make_tenant(process), await make_tenant(process)
    await make_boards(process, one, 1)
    await make_boards(process, many, 50)
    counts = {}
    for name, operation in EDGES.items():
        single, _ = await statements(anonymous, sql, one, operation)
        fifty, data = await statements(anonymous, sql, many, operation)
        assert len(next(iter(data.values()))["nodes"]) == 50
        counts[name] = (single, fifty)
    assert {name: pair for name, pair in counts.items() if pair[0] != pair[1]} == {}


async def test_wide_texts_are_read_only_when_they_are_asked_for(
    anonymous: httpx2.AsyncClient, process: Process, sql: SqlLog
) -> None:
    tenant = await make_tenant(process)
    await make_boards(process, tenant, 1)
    anonymous.headers.update(tenant.headers)
    with sql.record() as narrow:
        await ask(anonymous, "{ traces { nodes { id status } } }")
    with sql.record() as wide:
        await ask(anonymous, "{ traces { nodes { id input output messages } } }")
    assert [statement for statement in narrow if "output" in statement] == []
    assert len([statement for statement in wide if "output" in statement]) == 1
    # The days of the traces are found first, so that no others' texts are planned for.
    assert len(wide) == len(narrow) + 1


def concrete(kind: type[Any] = Loader) -> Iterator[type[Any]]:
    for child in kind.__subclasses__():
        if not child.__subclasses__():
            yield child
        yield from concrete(child)


def random_key(kind: type[Any]) -> Any:
    """Return a key that *kind* finds nothing for."""
    if issubclass(kind, SliceByParent):
        return uuid4(), PageRequest(), NOTHING
    if issubclass(kind, CountByParent):
        return uuid4(), NOTHING
    if kind in {ComparisonsByPlace, OutputByPlace}:
        return uuid4(), uuid4(), 0
    return (uuid4(), 0) if kind is RowByPlace else uuid4()


@pytest.mark.parametrize("kind", sorted(concrete(), key=str))
async def test_fifty_keys_cost_one_statement(
    kind: type[Any], process: Process, sql: SqlLog
) -> None:
    loader = kind(process.database, uuid4(), UUID(int=0))
    with sql.record() as seen:
        await asyncio.gather(*(loader.load(random_key(kind)) for _ in range(50)))
    assert len(seen) == 1
