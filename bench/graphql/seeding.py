"""Fills the benchmark's database with set-based statements; the same size is the same content.

Ids are made of the kind of row and its number, so that every reference is
arithmetic and ids sort by number, as version 7 UUIDs do by time.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from tempfile import gettempdir
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.services import Process
from app.settings import load_settings
from bench.graphql.product import SECRET_KEY
from bench.graphql.scene import Scene
from db.base import new_id
from db.migrations.runner import migrate
from db.partitions import create_days, next_days
from resolvers.tokens import create_api_token
from resolvers.workspaces import create_workspace

FIRST_INSTANT = datetime(2026, 1, 1, tzinfo=UTC)
SECONDS_BETWEEN = 1.000123
CANDIDATES = 8
RUNS = 20


@dataclass(frozen=True, slots=True)
class Size:
    """How much there is: 8 candidates and 20 runs a leaderboard, one result a candidate and run.

    Attributes:
        boards: Leaderboards.
        traces: Traces; of the results first of all, spread evenly, and else of inferences.
    """

    boards: int
    traces: int


_ID = """
CREATE FUNCTION pg_temp.id(kind text, number bigint) RETURNS uuid IMMUTABLE LANGUAGE sql AS $$
  SELECT (lpad(to_hex(1767225600000 + number), 12, '0') || '7'
          || lpad(to_hex(ascii(kind)), 3, '0') || '8' || lpad(to_hex(number), 15, '0'))::uuid $$
"""
_AT = """
CREATE FUNCTION pg_temp.at(number bigint) RETURNS timestamptz IMMUTABLE LANGUAGE sql AS $$
  SELECT timestamptz '2026-01-01 00:00:00+00' + number * interval '1.000123 s' $$
"""
# Of the millisecond of its trace, which is what leads to the day that it is stored in.
_TRACE_ID = """
CREATE FUNCTION pg_temp.trace_id(number bigint) RETURNS uuid IMMUTABLE LANGUAGE sql AS $$
  SELECT (lpad(to_hex(1767225600000 + floor(number * 1000.123)::bigint), 12, '0') || '7074'
          || '8' || lpad(to_hex(number), 15, '0'))::uuid $$
"""
_BOARDS = """
INSERT INTO leaderboard (id, workspace_id, name, system_prompt, dataset_type, dataset_url,
                         eval_type, evaluation, model_selection, created_at, updated_at)
SELECT pg_temp.id('b', b), :workspace, 'Leaderboard ' || b, 'Solve step by step: {input}', 'GET',
       'https://huggingface.co/datasets/bench/board-' || b || '/resolve/main/rows.jsonl',
       'exact', '{"match": "number"}', 'ranking_winner', pg_temp.at(b), pg_temp.at(b + 60)
FROM generate_series(0, :boards - 1) AS b
"""
_CANDIDATES = """
INSERT INTO candidate (id, workspace_id, leaderboard_id, provider, model_id, display_name, params,
                       input_price_per_million_usd, output_price_per_million_usd, timeout_seconds,
                       created_at)
SELECT pg_temp.id('c', c), :workspace, pg_temp.id('b', c / :candidates), 'openrouter',
       'vendor/model-' || c % :candidates, 'Model ' || c % :candidates, '{"temperature": 0.2}',
       0.5, 1.5, 20 + c % 4, pg_temp.at(c)
FROM generate_series(0, :boards * :candidates - 1) AS c
"""
_SNAPSHOTS = """
INSERT INTO dataset_snapshot (id, workspace_id, leaderboard_id, number, content_sha256, row_count,
                              size_bytes, source_url, created_at)
SELECT pg_temp.id('s', b), :workspace, pg_temp.id('b', b), 1,
       encode(sha256(b::text::bytea), 'hex'), 1, 100, 'https://huggingface.co/datasets/bench',
       pg_temp.at(b)
FROM generate_series(0, :boards - 1) AS b
"""
_ROWS = """
INSERT INTO dataset_row (snapshot_id, position, workspace_id, content_hash, input, expected, tags,
                         metadata)
SELECT pg_temp.id('s', b), 0, :workspace, substr(sha256(b::text::bytea), 1, 16),
       'What is ' || b || ' + 1?', b + 1, '{}', '{}'
FROM generate_series(0, :boards - 1) AS b
"""
# Run r is of leaderboard r % boards: a leaderboard's runs lie among the others', as in time.
_RUNS = """
INSERT INTO run (id, workspace_id, leaderboard_id, kind, status, system_prompt, dataset_url,
                 evaluation, dataset_size, snapshot_id, row_count, created_at, started_at,
                 finished_at)
SELECT pg_temp.id('r', r), :workspace, pg_temp.id('b', r % :boards), 'ranking', 'completed',
       'Solve step by step: {input}', 'https://huggingface.co/datasets/bench',
       '{"match": "number"}', '{"algorithm": "ALL", "rows": null, "seed": 1}',
       pg_temp.id('s', r % :boards), 1, pg_temp.at(r), pg_temp.at(r + 1), pg_temp.at(r + 30)
FROM generate_series(0, :boards * :runs - 1) AS r
"""
_RUN_CANDIDATES = """
INSERT INTO run_candidate (run_id, candidate_id, position, provider, model_id, params,
                           timeout_seconds)
SELECT pg_temp.id('r', r), pg_temp.id('c', (r % :boards) * :candidates + c), c, 'openrouter',
       'vendor/model-' || c, '{}', 20
FROM generate_series(0, :boards * :runs - 1) AS r, generate_series(0, :candidates - 1) AS c
"""
_RANKINGS = """
INSERT INTO ranking (id, workspace_id, leaderboard_id, run_id, row_count, completed_at)
SELECT pg_temp.id('k', r), :workspace, pg_temp.id('b', r % :boards), pg_temp.id('r', r), 1,
       pg_temp.at(r + 30)
FROM generate_series(0, :boards * :runs - 1) AS r
"""
_ENTRIES = """
INSERT INTO ranking_entry (ranking_id, candidate_id, rank, score, row_count, error_count,
                           latency_ms_p50, latency_ms_p95, cost_usd, cost_usd_per_1k)
SELECT pg_temp.id('k', r), pg_temp.id('c', (r % :boards) * :candidates + c), c + 1,
       1.0 / (c + 1), 1, 0, 100, 200, 0.001, 1
FROM generate_series(0, :boards * :runs - 1) AS r, generate_series(0, :candidates - 1) AS c
"""
_RESULTS = """
INSERT INTO run_result (id, run_id, candidate_id, position, trace_id, output, score, error,
                        latency_ms, prompt_tokens, completion_tokens, cost_usd, created_at)
SELECT pg_temp.id('e', n), pg_temp.id('r', n / :candidates),
       pg_temp.id('c', (n / :candidates % :boards) * :candidates + n % :candidates), 0,
       pg_temp.trace_id(greatest(0, :traces - 1 - (:results - 1 - n) * :stride)),
       CASE WHEN n % 50 > 0 THEN repeat('First, look at what is asked. ', 6) || n END,
       CASE WHEN n % 50 > 0 THEN n % 3 / 2.0 ELSE 0 END,
       CASE WHEN n % 50 = 0 THEN 'timeout: no answer within 20 s' END,
       100 + n * 37 % 9000 / 7.0, 60 + n % 40, 80 + n % 300, (n % 1000 + 1) * 0.000001,
       pg_temp.at(n)
FROM generate_series(0, :results - 1) AS n
"""
# From the newest, every stride-th trace is of a result while there are results; the others are
# inferences.
_MADE = """
CREATE TEMP TABLE made ON COMMIT DROP AS
SELECT t, result, n, c, pg_temp.trace_id(t) AS id
FROM generate_series(0, :traces - 1) AS t,
  LATERAL (SELECT :traces - 1 - t AS behind) AS place,
  LATERAL (SELECT behind % :stride = 0 AND behind / :stride < :results AS result) AS kind,
  LATERAL (SELECT CASE WHEN result THEN :results - 1 - behind / :stride ELSE t END AS n) AS number,
  LATERAL (SELECT CASE WHEN result
    THEN (n / :candidates % :boards) * :candidates + n % :candidates
    ELSE t::bigint * 7919 % (:boards * :candidates) END AS c) AS candidate
"""
_TRACES = """
INSERT INTO trace (id, workspace_id, leaderboard_id, run_id, candidate_id, source, status,
                   provider, model, score, error, latency_ms, prompt_tokens, completion_tokens,
                   cost_usd, metadata, created_at)
SELECT id, :workspace, pg_temp.id('b', c / :candidates),
       CASE WHEN result THEN pg_temp.id('r', n / :candidates) END, pg_temp.id('c', c),
       CASE WHEN result THEN 'run' ELSE 'inference' END,
       CASE WHEN n % 50 > 0 THEN 'ok' ELSE 'error' END, 'openrouter',
       'vendor/model-' || c % :candidates,
       CASE WHEN result AND n % 50 > 0 THEN n % 3 / 2.0 WHEN result THEN 0 END,
       CASE WHEN n % 50 = 0 THEN 'timeout: no answer within 20 s' END,
       100 + n * 37 % 9000 / 7.0, 60 + n % 40, 80 + n % 300, (n % 1000 + 1) * 0.000001, '{}',
       pg_temp.at(t)
FROM made ORDER BY t
"""
_TEXTS = """
INSERT INTO trace_text (id, workspace_id, input, messages, output, expected)
SELECT id, :workspace, 'What is ' || t || ' + 1?',
       jsonb_build_array(jsonb_build_object('role', 'user', 'content', 'What is ' || t || ' + 1?')),
       CASE WHEN n % 50 > 0 THEN repeat('First, look at what is asked. ', 6) || n END,
       CASE WHEN result THEN (t + 1)::text END
FROM made ORDER BY t
"""
_STATEMENTS = (
    _BOARDS, _CANDIDATES, _SNAPSHOTS, _ROWS, _RUNS, _RUN_CANDIDATES, _RANKINGS, _ENTRIES, _RESULTS,
    _MADE, _TRACES, _TEXTS,
)  # fmt: skip


async def fill(database_url: str, size: Size) -> Scene:
    """Migrate an empty database and fill it."""
    process = Process(
        load_settings(
            database_url=database_url, secret_key=SECRET_KEY, object_store_url=gettempdir()
        )
    )
    try:
        await migrate(process.database.engine)
        workspace_id = new_id()
        ctx = process.system_context(workspace_id)
        await create_workspace(ctx, id=workspace_id, name="bench", owner_id=new_id())
        made = await create_api_token(
            ctx,
            name="bench",
            scopes=["*"],
            expires_in=None,
            budget_limit_usd=None,
            budget_reset_interval="none",
        )
        async with process.database.write() as session:
            last = FIRST_INSTANT + timedelta(seconds=size.traces * SECONDS_BETWEEN)
            days = next_days(FIRST_INSTANT, (last - FIRST_INSTANT).days + 1)
            await create_days(session, days)
        async with process.background_database.engine.begin() as connection:
            newest = await _insert(connection, workspace_id, size)
        async with process.background_database.engine.connect() as connection:
            alone = await connection.execution_options(isolation_level="AUTOCOMMIT")
            await alone.execute(text("VACUUM (ANALYZE)"))
    finally:
        await process.aclose()
    return Scene(database_url, workspace_id, newest, made.token)


async def _insert(connection: AsyncConnection, workspace_id: UUID, size: Size) -> UUID:
    """Insert every row, and return the newest leaderboard's id."""
    results = size.boards * RUNS * CANDIDATES
    numbers = {
        "boards": size.boards,
        "traces": size.traces,
        "candidates": CANDIDATES,
        "runs": RUNS,
        "results": results,
        "stride": max(1, size.traces // results),
    }
    await connection.execute(text(_ID))
    await connection.execute(text(_AT))
    await connection.execute(text(_TRACE_ID))
    # What is referred to exists by construction; checking it row by row takes most of the time.
    await connection.execute(text("SET LOCAL session_replication_role = replica"))
    for statement in _STATEMENTS:
        filled = statement.replace(":workspace", f"'{workspace_id}'")
        for name, number in numbers.items():
            filled = filled.replace(f":{name}", str(number))
        await connection.exec_driver_sql(filled)
    newest: UUID = (
        await connection.execute(text("SELECT id FROM leaderboard ORDER BY id DESC LIMIT 1"))
    ).scalar_one()
    return newest
