"""Storing traces: rows a second in batches of 100, with and without the indexes of filters."""

import random
import time
from typing import Any, Final

import orjson
from sqlalchemy import text

from app.services import Process
from bench.traces.seeding import Owner
from db.base import instant_of, new_id
from resolvers.trace_upkeep import find_words

BATCH: Final = 100
FILTER_INDEXES: Final = (
    "ix_trace_workspace_id_model_id", "ix_trace_workspace_id_candidate_id_id",
    "ix_trace_workspace_id_token_id_id",
    "ix_trace_workspace_id_source_id", "ix_trace_failed", "ix_trace_metadata",
)  # fmt: skip
WORDS: Final = [f"word{int(1 + 30_000 * random.random() ** 6)}" for _ in range(100_000)]
PLAIN_INSERT = """
INSERT INTO trace_plain (id, workspace_id, leaderboard_id, candidate_id, token_id, source, status,
    provider, model, input, messages, output, latency_ms, prompt_tokens, completion_tokens,
    cost_usd, metadata, created_at)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::text[],
    $7::text[], $8::text[], $9::text[], $10::text[], $11::text[]::jsonb[], $12::text[],
    $13::float[], $14::int[], $15::int[], $16::numeric[], $17::text[]::jsonb[], $18::timestamptz[])
"""
PLAIN_COLUMNS = (
    "id", "workspace_id", "leaderboard_id", "candidate_id", "token_id", "source", "status",
    "provider", "model", "input", "messages", "output", "latency_ms", "prompt_tokens",
    "completion_tokens", "cost_usd", "trace_metadata", "created_at",
)  # fmt: skip


def _line(words: int) -> str:
    start = random.randrange(len(WORDS) - words)
    return " ".join(WORDS[start : start + words])


def make_trace(owner: Owner) -> dict[str, Any]:
    """Return the columns of a trace of now."""
    trace_id = new_id()
    question = f"Solve what a customer asks: {_line(30)} number {random.random()}"
    return {
        "id": trace_id, "workspace_id": owner.workspace_id, "leaderboard_id": owner.leaderboard_id,
        "run_id": None, "candidate_id": owner.candidate_id, "token_id": owner.token_id,
        "source": "inference", "status": "ok", "provider": "openrouter",
        "model": f"vendor/model-{random.randrange(4)}", "score": None, "error": None,
        "latency_ms": random.lognormvariate(6.5, 0.6), "first_byte_ms": None, "prompt_tokens": 100,
        "completion_tokens": 50, "cost_usd": None, "cost_source": "unknown", "price_version": 1,
        "trace_metadata": {"attempts": 1, "request_id": str(new_id()), "customer": 77},
        "created_at": instant_of(trace_id), "input": question,
        "messages": [{"role": "user", "content": question}], "output": _line(30), "expected": None,
    }  # fmt: skip


async def rows_per_second(
    process: Process, owners: list[Owner], seconds: float, *, plain: bool = False
) -> float:
    """Store batches, each in a transaction of its own, as fast as one writer can.

    Args:
        process: The product's.
        owners: Whose traces are stored.
        seconds: For how long.
        plain: Store them in the table of the old form, which is as large.
    """
    batches = [[make_trace(random.choice(owners[:3])) for _ in range(BATCH)] for _ in range(20)]
    stored = 0
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        batch = batches[stored // BATCH % len(batches)]
        for trace in batch:
            trace["id"] = new_id()
        storable = [] if plain else await process.services.traces.prepare(batch)
        async with process.database.write() as session:
            if plain:
                connection = await session.connection()
                await connection.exec_driver_sql(PLAIN_INSERT, _plain_values(batch))
            else:
                await process.services.traces.store(session, storable)
        stored += BATCH
    return stored / (time.perf_counter() - began)


def _plain_values(batch: list[dict[str, Any]]) -> tuple[Any, ...]:
    def value(trace: dict[str, Any], name: str) -> Any:
        is_json = name in {"messages", "trace_metadata"}
        return orjson.dumps(trace[name]).decode() if is_json else trace[name]

    return tuple([value(trace, name) for trace in batch] for name in PLAIN_COLUMNS)


async def words_per_second(process: Process) -> float:
    """Find the words of what has been stored, and return of how many traces a second."""
    began = time.perf_counter()
    found = await find_words(process.system_context())
    return found / (time.perf_counter() - began)


async def drop_filter_indexes(process: Process) -> None:
    """Drop the indexes of filters, of every day."""
    async with process.background_database.alone() as connection:
        for name in FILTER_INDEXES:
            await connection.execute(text(f"DROP INDEX {name}"))
