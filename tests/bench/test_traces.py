"""The benchmark of traces compares like with like: what it lists is the same on both sides."""

from collections.abc import Mapping
from typing import Any

import asyncpg
import pytest

from app.services import Process
from bench.traces.reading import NARROW, NEWEST, PLAIN_LIST, filters_of, questions_of
from bench.traces.seeding import Owner, fill
from bench.traces.storing import drop_filter_indexes, rows_per_second, words_per_second
from resolvers.traces import list_traces

TRACES, DAYS = 4_000, 3


@pytest.fixture
def setting_overrides() -> dict[str, Any]:
    return {"trace_retention_days": 90}


@pytest.fixture
async def connection(database_url: str) -> Any:
    made = await asyncpg.connect(database_url.replace("+asyncpg", ""))
    yield made
    await made.close()


@pytest.fixture
async def owners(process: Process, database_url: str) -> list[Owner]:
    return await fill(process, database_url.replace("+asyncpg", ""), TRACES, DAYS)


async def test_both_sides_list_the_same_traces_by_every_filter(
    process: Process, owners: list[Owner], connection: asyncpg.Connection
) -> None:
    assert await connection.fetchval("SELECT count(*) FROM trace_plain") == TRACES
    assert (
        await connection.fetchval("SELECT count(*) FROM trace JOIN trace_text USING (id)") == TRACES
    )
    listed: dict[str, int] = {}
    for owner in (owners[0], owners[-1]):
        for name, where, more in filters_of(owner):
            ctx = process.system_context(owner.workspace_id)
            page = await list_traces(ctx, NEWEST, where, NARROW)
            listed[name] = max(listed.get(name, 0), len(page.rows))
            if more is not None:
                rows = await connection.fetch(PLAIN_LIST.format(more=more), owner.workspace_id)
                plain: list[Mapping[str, Any]] = [dict(row) for row in rows[:50]]
                assert [dict(row) for row in page.rows] == plain, name
    empty = {name for name, count in listed.items() if not count}
    # Made at random: two words of a line may follow each other, or be in a failure, or not.
    by_chance = {"search: a phrase", "search: in 2%, failed", "latency: one of 100,000"}
    assert empty - by_chance == {
        "a day, 20 days ago", "source: none", "model: none", "token: none", "latency: none",
        "cost: none", "score: none", "metadata: none", "search: none",
    }  # fmt: skip


async def test_every_question_is_answered_and_traces_are_stored(
    process: Process, owners: list[Owner], connection: asyncpg.Connection
) -> None:
    for _, ask, ask_plain in questions_of(process, connection, owners[0]):
        await ask()
        if ask_plain is not None:
            await ask_plain()
    before = await connection.fetchval("SELECT count(*) FROM trace")
    assert await rows_per_second(process, owners, 0.05) > 0
    assert await words_per_second(process) > 0
    await drop_filter_indexes(process)
    assert await rows_per_second(process, owners, 0.05, plain=True) > 0
    assert await connection.fetchval("SELECT count(*) FROM trace") > before
    assert await connection.fetchval("SELECT count(*) FROM trace_plain") > TRACES
