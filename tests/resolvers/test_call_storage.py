"""Calls come to the same whether they are stored one by one or together."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select

from app.services import Process
from db.models import Candidate, Charge, Leaderboard, Trace, TraceHour, TraceText, UnsearchedTrace
from resolvers.call_storage import EndedCall
from resolvers.trace_storage import SUMS
from tests.conftest import ON_OLDEST_TOO
from tests.factories import Tenant, make_candidate, make_leaderboard, trace_of

BEGAN = datetime.now(UTC).replace(minute=59, second=58, microsecond=0) - timedelta(hours=2)
PRICED = {"cost_source": "computed", "price_version": 1}
KINDS: tuple[dict[str, Any], ...] = (
    {"prompt_tokens": 3, "completion_tokens": 4, "cost_usd": Decimal("0.25")},
    {"prompt_tokens": 5, "completion_tokens": 6, "cost_usd": Decimal("0.000000000001")},
    {"status": "error", "error": "provider_error: no", "latency_ms": 250.0},
    {"status": "cancelled", "cost_usd": Decimal(1), "cost_source": "unknown"},
    {"model": None, "provider": None, "completion_tokens": 7},
    {"trace_metadata": {"of": UUID(int=1), "usd": Decimal("0.10")}, "messages": None},
)


def calls_of(board: Leaderboard, candidate: Candidate) -> Iterator[EndedCall]:
    """Yield a call of each kind, a second apart, in two hours."""
    for place, kind in enumerate(KINDS):
        trace = trace_of(board, candidate, BEGAN + timedelta(seconds=place), **(PRICED | kind))
        yield EndedCall(trace, kind.get("cost_usd", Decimal(0)), [], 0)


async def sums_of(process: Process, board: Leaderboard) -> list[tuple[Any, ...]]:
    columns = (TraceHour.hour, TraceHour.provider, TraceHour.model, TraceHour.bucket)
    counted = select(*columns, *(getattr(TraceHour, name) for name in SUMS))
    async with process.database.read() as session:
        rows = await session.execute(
            counted.where(TraceHour.leaderboard_id == board.id).order_by(*columns)
        )
        return [tuple(row) for row in rows]


@ON_OLDEST_TOO
async def test_one_by_one_or_together(process: Process, tenant: Tenant) -> None:
    apart, together = [await make_leaderboard(process, tenant.workspace_id) for _ in range(2)]
    candidate = await make_candidate(process, apart)
    batches: list[int] = []
    process.services.calls.watchers.append(lambda count, _: batches.append(count))
    for call in calls_of(apart, candidate):
        await (await process.services.calls.offer(call))
    stored = [await process.services.calls.offer(call) for call in calls_of(together, candidate)]
    for each in stored:
        await each
    assert batches == [1] * len(KINDS) + [len(KINDS)]
    sums = await sums_of(process, apart)
    assert sums == await sums_of(process, together)
    (hour, _, model, _, *counted), *_ = sums
    assert (hour, model) == (BEGAN.replace(minute=0, second=0), candidate.display_name)
    assert counted == [2, 0, 8, 10, Decimal("0.250000000001"), 0]
    async with process.database.read() as session:
        for entity in (Trace, TraceText, UnsearchedTrace, Charge):
            assert await session.scalar(select(func.count()).select_from(entity)) == 2 * len(KINDS)
        described = select(Trace.trace_metadata, Trace.messages).order_by(Trace.id.desc()).limit(2)
        found = [tuple(row) for row in await session.execute(described)]
        assert found == [({"of": str(UUID(int=1)), "usd": "0.10"}, None)] * 2


@pytest.mark.parametrize("count", [1, 3])
async def test_what_was_stored_is_left_as_it_is(
    process: Process, tenant: Tenant, count: int
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    calls = list(calls_of(board, await make_candidate(process, board)))
    for call in calls[:2]:
        await (await process.services.calls.offer(call))
    sums = await sums_of(process, board)
    stored = [await process.services.calls.offer(call) for call in calls[:count]]
    for each in stored:
        await each
    if count == 1:
        assert await sums_of(process, board) == sums
    counted = sum(row[4] for row in await sums_of(process, board))
    assert counted == max(2, count)
    async with process.database.read() as session:
        assert await session.scalar(select(func.count()).select_from(Charge)) == max(2, count)
