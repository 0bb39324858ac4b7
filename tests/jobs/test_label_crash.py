"""Workers that die while a model labels: nothing stored is lost, and nothing is asked again."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from sqlalchemy import select

from app.services import Process
from app.settings import Settings
from db.models import DatasetEdit, DatasetSnapshot, Job, LabelJob, LabelResult
from engine.edits import EditField
from engine.rows import DatasetRow, id_key
from resolvers.label_execution import execute_label_shard
from resolvers.label_lifecycle import LABEL_SHARD
from resolvers.label_preparation import prepare_labels
from resolvers.label_storage import AskedRow, LabelReply, RowReply, store_replies
from tests.factories import Tenant
from tests.jobs.labelling import LabelPeer, await_job, label_peer, start_labels
from tests.jobs.test_auto_labels import GOOD, make_rows, questions, results
from tests.jobs.test_crash import worker_process

# What `worker_process` sets: calls of a provider at once.
CALLS_AT_ONCE = 4


@pytest.fixture
async def peer() -> AsyncIterator[LabelPeer]:
    async with label_peer() as made:
        yield made


@pytest.fixture
def setting_overrides(peer: LabelPeer) -> dict[str, Any]:
    return {"sandbox_url": peer.url}


async def stored(process: Process) -> dict[int, Any]:
    return {each.position: each.created_at for each in await results(process)}


async def labels(process: Process) -> list[tuple[bytes, str]]:
    async with process.database.read() as session:
        rows = await session.execute(select(DatasetEdit.row_key, DatasetEdit.field))
        return [(row[0], row[1]) for row in rows]


async def test_a_killed_worker_loses_nothing_and_repeats_at_most_the_calls_under_way(
    client: httpx2.AsyncClient, process: Process, settings: Settings, tenant: Tenant,
    peer: LabelPeer,
) -> None:  # fmt: skip
    board = await make_rows(client, process, tenant, questions(300))
    peer.answer, peer.seconds = lambda _: GOOD, 0.01
    job = await start_labels(client, board, max_cost_usd=10)
    kept: dict[int, Any] = {}
    for least in (60, 150):
        with worker_process(settings):  # ends in SIGKILL
            while len(await stored(process)) < least:
                await asyncio.sleep(0.01)
        kept = await stored(process)
        assert len(kept) < 300
        assert len(await labels(process)) == 4 * len(kept)  # each row with all its labels
    with worker_process(settings):
        ended = await await_job(client, board, job["id"])
    assert (ended["status"], ended["progress"]) == (
        "completed", {"done": 300, "failed": 0, "total": 300},
    ), ended  # fmt: skip
    after = await stored(process)
    assert {place: after[place] for place in kept} == kept
    given = await labels(process)
    assert len(given) == len(set(given)) == 1_200
    assert set(peer.calls) == {f"question {n}" for n in range(300)}
    assert peer.calls.total() - 300 <= 2 * CALLS_AT_ONCE
    assert max(peer.calls.values()) <= 3
    async with process.database.read() as session:
        job_row = (await session.scalars(select(LabelJob))).one()
    # What a killed call may have cost stays set aside.
    assert job_row.committed_usd >= Decimal("0.001") * peer.calls.total()
    assert ended["cost_usd"] == pytest.approx(0.3)


@pytest.fixture
async def job(client: httpx2.AsyncClient, process: Process, tenant: Tenant) -> LabelJob:
    """Return a job of 20 rows whose shards wait for a worker; there is none."""
    board = await make_rows(client, process, tenant, questions(20))
    await start_labels(client, board, max_cost_usd=1)
    async with process.database.read() as session:
        (job_id,) = await session.scalars(select(LabelJob.id))
    await prepare_labels(process.system_context(tenant.workspace_id), job_id)
    async with process.database.read() as session:
        return await session.get_one(LabelJob, job_id)


async def test_a_reply_that_is_stored_again_changes_nothing(
    process: Process, tenant: Tenant, job: LabelJob
) -> None:
    ctx = process.system_context(tenant.workspace_id)
    asked = AskedRow(0, id_key("0"), DatasetRow("question 0"), [EditField.TAGS, EditField.RUBRIC])
    bad = LabelReply(
        1, {}, "unreadable_reply: x", is_final=False, cost_usd=Decimal(2), prompt_tokens=5,
        released_usd=Decimal(-2),
    )  # fmt: skip
    good = replace(
        bad, number=2, error=None, is_final=True, cost_usd=None, labels={EditField.TAGS: ["a"]}
    )
    # A worker that was taken for dead may come with its own first reply behind everything.
    late = replace(good, number=1, labels={EditField.RUBRIC: "late"})
    for reply in (bad, bad, good, good, bad, late):
        await store_replies(process.database, [RowReply(ctx, job, asked, reply, seen=0)])
    (result,) = await results(process)
    assert (result.replies, result.is_pending, result.error) == (2, False, None)
    assert result.cost_usd == 2
    assert result.prompt_tokens == 10
    assert await labels(process) == [(id_key("0"), "tags")]
    async with process.database.read() as session:
        assert (await session.get_one(LabelJob, job.id)).committed_usd == 4


async def test_a_row_that_was_asked_about_in_vain_is_asked_once_more_after_a_death(
    process: Process, tenant: Tenant, peer: LabelPeer, job: LabelJob
) -> None:
    ctx = process.system_context(tenant.workspace_id)
    async with process.database.read() as session:
        shards = (await session.scalars(select(Job).where(Job.kind == LABEL_SHARD))).all()
        snapshot = await session.get_one(DatasetSnapshot, job.snapshot_id)
    first = shards[0]
    position, key = first.arguments["positions"][0], bytes.fromhex(first.arguments["keys"][0])
    asked = AskedRow(position, key, DatasetRow("x"), [EditField.TAGS])
    bad = LabelReply(1, {}, "unreadable_reply: x", is_final=False, cost_usd=Decimal(0))
    given = RowReply(ctx, job, asked, bad, seen=snapshot.last_edit)
    await store_replies(process.database, [given])
    peer.answer = lambda _: "Gladly!"
    for shard in shards:
        await execute_label_shard(ctx, shard)
    assert sorted(peer.calls.values()) == [1] + [2] * 19
    assert {(each.replies, each.is_pending) for each in await results(process)} == {(2, False)}
    async with process.database.read() as session:
        ended = await session.get_one(LabelJob, job.id)
    assert (ended.status, ended.finished_at is None) == ("failed", False)
    assert (ended.error or "").startswith("all 20 calls failed with unreadable_reply: ")


async def test_deaths_count_only_while_a_shard_does_not_come_on(
    process: Process, tenant: Tenant, peer: LabelPeer, job: LabelJob
) -> None:
    ctx = process.system_context(tenant.workspace_id)
    peer.answer = lambda _: json.dumps(dict.fromkeys(("expected", "tags", "quality", "rubric")))
    async with process.database.write() as session:
        shard = (await session.scalars(select(Job).where(Job.kind == LABEL_SHARD))).first()
        assert shard is not None
        shard.attempts, shard.status = 5, "running"
        positions = shard.arguments["positions"]
        session.add(
            LabelResult(job_id=job.id, position=positions[0], replies=1, labelled=[], latency_ms=1)
        )
    await execute_label_shard(ctx, shard)
    async with process.database.read() as session:
        seen = await session.get_one(Job, shard.id)
    assert (seen.attempts, seen.arguments["left"]) == (1, len(positions) - 1)
    assert peer.calls.total() == len(positions) - 1
