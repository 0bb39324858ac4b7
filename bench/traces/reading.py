"""Reading traces: how long each kind of question takes, of workspaces of different sizes."""

import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, TypeAlias

import asyncpg
import numpy as np

from app.services import Process
from bench.traces.seeding import COMMON_WORD, RARE_WORD, Owner
from resolvers.inputs import TraceStatsQuery
from resolvers.paging import PageRequest
from resolvers.trace_filter import TraceFilter
from resolvers.trace_stats import get_workspace_stats
from resolvers.traces import get_trace, list_leaderboard_traces, list_traces

# A question is asked for so long and so often, but once at least.
LONGEST_SECONDS: Final = 8.0
Question: TypeAlias = Callable[[], Awaitable[object]]

NARROW = frozenset({
    "id", "source", "status", "provider", "model", "score", "error", "latency_ms", "prompt_tokens",
    "completion_tokens", "cost_usd", "created_at",
})  # fmt: skip
WHOLE = NARROW | {"input", "messages", "output", "expected"}
NEWEST: Final = PageRequest(size=50)
PLAIN_LIST = (
    f"SELECT {', '.join(sorted(NARROW))} FROM trace_plain WHERE workspace_id = $1{{more}}"
    " ORDER BY created_at DESC, id DESC LIMIT 51"
)
PLAIN_STATS = """
SELECT date_trunc('{interval}', created_at), model, count(*),
    count(*) FILTER (WHERE status = 'error'),
    percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY latency_ms),
    sum(prompt_tokens), sum(completion_tokens), sum(cost_usd)
FROM trace_plain WHERE workspace_id = $1 AND created_at >= now() - interval '{days} days'
GROUP BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a question took, in milliseconds."""

    p50_ms: float
    p95_ms: float


async def time_question(ask: Question, rounds: int) -> Timing:
    """Ask once to warm up, and then time each of *rounds* times."""
    until = time.perf_counter() + LONGEST_SECONDS
    await ask()
    taken: list[float] = []
    while not taken or (len(taken) < rounds and time.perf_counter() < until):
        began = time.perf_counter()
        await ask()
        taken.append((time.perf_counter() - began) * 1000)
    p50, p95 = np.percentile(taken, [50, 95])
    return Timing(float(p50), float(p95))


def filters_of(owner: Owner) -> Iterator[tuple[str, TraceFilter, str | None]]:
    """Yield what is asked for: its name, the filter, and the condition on the plain table."""
    now = datetime.now(UTC)
    day = now - timedelta(days=20)
    yield "newest 50", TraceFilter(), ""
    yield (
        "a day, 20 days ago",
        TraceFilter(since=day, until=day + timedelta(days=1)),
        f" AND created_at >= '{day}' AND created_at < '{day + timedelta(days=1)}'",
    )
    yield "source: 10%", TraceFilter(source="run"), " AND source = 'run'"
    yield "source: none", TraceFilter(source="dataset"), " AND source = 'dataset'"
    yield "status: 1.6%", TraceFilter(status="error"), " AND status = 'error'"
    yield "has error", TraceFilter(has_error=True), " AND error IS NOT NULL"
    yield "model: 25%", TraceFilter(model="vendor/model-3"), " AND model = 'vendor/model-3'"
    yield "model: none", TraceFilter(model="vendor/none"), " AND model = 'vendor/none'"
    yield "provider", TraceFilter(provider="openrouter"), " AND provider = 'openrouter'"
    yield (
        "candidate",
        TraceFilter(candidate_id=owner.candidate_id),
        f" AND candidate_id = '{owner.candidate_id}'",
    )
    yield "token", TraceFilter(token_id=owner.token_id), f" AND token_id = '{owner.token_id}'"
    yield "token: none", TraceFilter(token_id=owner.run_id), f" AND token_id = '{owner.run_id}'"
    yield "run", TraceFilter(run_id=owner.run_id), f" AND run_id = '{owner.run_id}'"
    yield "latency: slowest 2%", TraceFilter(min_latency_ms=2_300), " AND latency_ms >= 2300"
    yield (
        "latency: one of 100,000",
        TraceFilter(min_latency_ms=4_660),
        " AND latency_ms >= 4660",
    )
    yield "latency: none", TraceFilter(min_latency_ms=60_000), " AND latency_ms >= 60000"
    yield (
        "cost: 5%",
        TraceFilter(min_cost_usd=Decimal("0.0019"), max_cost_usd=Decimal(1)),
        " AND cost_usd BETWEEN 0.0019 AND 1",
    )
    yield "cost: none", TraceFilter(min_cost_usd=Decimal(1)), " AND cost_usd >= 1"
    yield "score: 3%", TraceFilter(min_score=1), " AND score >= 1"
    yield "score: none", TraceFilter(min_score=2), " AND score >= 2"
    yield (
        "metadata: one of 5,000",
        TraceFilter(metadata_key="customer", metadata_value="77"),
        """ AND metadata @> '{"customer": 77}'""",
    )
    yield (
        "metadata: none",
        TraceFilter(metadata_key="request_id", metadata_value="none"),
        """ AND metadata @> '{"request_id": "none"}'""",
    )
    yield "metadata: a key", TraceFilter(metadata_key="customer"), " AND metadata ? 'customer'"
    yield "search: in half", TraceFilter(search=COMMON_WORD), None
    yield "search: in 2%", TraceFilter(search="word100"), None
    yield "search: one of 100,000", TraceFilter(search=RARE_WORD), None
    yield "search: none", TraceFilter(search="nowhere"), None
    yield "search: a phrase", TraceFilter(search=f'"{COMMON_WORD} word2"'), None
    yield "search: in 2%, failed", TraceFilter(search="word100", status="error"), None


def questions_of(
    process: Process, connection: asyncpg.Connection, owner: Owner
) -> Iterator[tuple[str, Question, Question | None]]:
    """Yield each question: its name, how the product answers, and how the plain table does."""

    def context() -> Any:
        return process.system_context(owner.workspace_id)

    def plain(sql: str, *values: Any) -> Question:
        return lambda: connection.fetch(sql, *values)

    for name, where, more in filters_of(owner):
        yield (
            name,
            lambda where=where: list_traces(context(), NEWEST, where, NARROW),  # type: ignore[misc]
            None if more is None else plain(PLAIN_LIST.format(more=more), owner.workspace_id),
        )
    nothing = TraceFilter()
    yield (
        "newest 50, whole",
        lambda: list_traces(context(), NEWEST, nothing, WHOLE),
        plain(
            "SELECT * FROM trace_plain WHERE workspace_id = $1"
            " ORDER BY created_at DESC, id DESC LIMIT 51",
            owner.workspace_id,
        ),
    )
    yield (
        "newest 50 of a leaderboard",
        lambda: list_leaderboard_traces(
            context(), [owner.leaderboard_id], NEWEST, nothing, NARROW
        ),
        plain(PLAIN_LIST.replace("workspace_id", "leaderboard_id").format(more=""),
              owner.leaderboard_id),
    )  # fmt: skip
    yield "one by its id", _one(process, connection, owner), None
    for days, interval in ((1, "hour"), (30, "day"), (30, "hour")):
        query = TraceStatsQuery.model_validate(
            {"since": datetime.now(UTC) - timedelta(days=days), "interval": interval}
        )
        yield (
            f"statistics: {days} days by {interval}",
            lambda query=query: get_workspace_stats(context(), owner.workspace_id, query),  # type: ignore[misc]
            plain(PLAIN_STATS.format(days=days, interval=interval), owner.workspace_id),
        )


def _one(process: Process, connection: asyncpg.Connection, owner: Owner) -> Question:
    chosen: list[Any] = []

    async def ask() -> object:
        if not chosen:
            chosen.append(
                await connection.fetchval(
                    "SELECT id FROM trace_plain WHERE workspace_id = $1"
                    " ORDER BY created_at LIMIT 1 OFFSET 100",
                    owner.workspace_id,
                )
            )
        return await get_trace(process.system_context(owner.workspace_id), chosen[0], WHOLE)

    return ask
