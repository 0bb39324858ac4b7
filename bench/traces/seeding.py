"""Fills a database with days of traces, as production leaves them behind.

Workspaces are of very different sizes. Each day is made as a table of its own and then attached, so
that its indexes are built at once; beside it grows one plain table in the form that traces had
before: not partitioned, texts inline, and the three indexes of then.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg

from app.services import Process
from db.base import first_id_at, new_id
from db.migrations.runner import migrate
from resolvers.tokens import create_api_token
from resolvers.trace_upkeep import index_past_days, put_hours_together
from resolvers.trace_words import WORDS
from resolvers.workspaces import create_workspace

DAYS: Final = 30
# Of a thousand traces, how many are of each workspace; and how many leaderboards it has.
SHARES: Final = (600, 200, 100, 60, 30, 10)
BOARDS: Final = (4, 4, 3, 2, 2, 1)
MODELS: Final = 4
SENTENCES: Final = 20_000
COMMON_WORD, RARE_WORD, RARE_EVERY = "word1", "quokka", 100_000

PLACES = """
CREATE TABLE bench_place (
    place int PRIMARY KEY, workspace_id uuid, leaderboard_id uuid, candidate_id uuid,
    token_id uuid, run_id uuid, model text, opening text
)
"""
# Few words are in most lines and most words in few, as in any language.
LINES = f"""
CREATE TABLE bench_line AS
SELECT line_number::int,
    string_agg('word' || floor(1 + 30000 * power(random(), 6))::int, ' ') AS line
FROM generate_series(0, {SENTENCES - 1}) AS line_number, generate_series(1, 30)
GROUP BY line_number
"""
# One number is one trace, wherever it is stored: a row of everything that is known of it.
MADE = f"""
CREATE TEMP TABLE made ON COMMIT DROP AS
SELECT
    (lpad(to_hex(ms), 12, '0') || '7' || lpad(to_hex(n & 4095), 3, '0') || '8'
        || lpad(to_hex(n), 15, '0'))::uuid AS id,
    place.*, n, to_timestamp(ms / 1000.0) AS created_at,
    CASE WHEN n % 10 = 0 THEN 'run' WHEN n % 50 = 1 THEN 'manual' ELSE 'inference' END AS source,
    CASE WHEN n % 61 = 0 THEN 'error' ELSE 'ok' END AS status,
    exp(6.5 + 0.6 * (random() + random() + random() + random() - 2) * 1.73) AS latency_ms,
    100 + n % 900 AS prompt_tokens, 50 + n % 450 AS completion_tokens,
    CASE WHEN n % 40 > 0 THEN (100 + n % 900) * 0.000002 END AS cost_usd,
    jsonb_build_object('attempts', 1, 'request_id', md5(n::text), 'customer', n % 5000) AS metadata,
    place.opening || ' ' || a.line || ' number ' || n AS input,
    b.line || CASE WHEN n % {RARE_EVERY} = 77 THEN ' {RARE_WORD}' ELSE '' END AS output
FROM generate_series({{first}}::bigint, {{after}}::bigint - 1) AS n
CROSS JOIN LATERAL (
    SELECT {{begin_ms}}::bigint + (n - {{first}}) * {{span_ms}} / ({{after}} - {{first}}) AS ms,
        hashint8(n) AS h
) AS at
JOIN bench_place AS place ON place.place = (h & 1023) * 1000 / 1024
JOIN bench_line AS a ON a.line_number = ((h >> 3) & 65535) % {SENTENCES}
JOIN bench_line AS b ON b.line_number = ((h >> 9) & 65535) % {SENTENCES}
"""
RUN_ID = "CASE WHEN source = 'run' THEN run_id END"
TOKEN_ID = "CASE WHEN source = 'inference' THEN token_id END"
SCORE = "CASE WHEN source = 'run' THEN n % 3 / 2.0 END"
ERROR = "CASE WHEN status = 'error' THEN 'timeout: no answer within 20 s' END"
MESSAGES = "jsonb_build_array(jsonb_build_object('role', 'user', 'content', input))"
NARROW = f"""
id, workspace_id, leaderboard_id, {RUN_ID}, candidate_id, {TOKEN_ID}, source, status, 'openrouter',
model, {SCORE}, {ERROR}, latency_ms, NULL, prompt_tokens, completion_tokens, cost_usd, 'provider',
1, metadata, created_at
"""
WIDE = f"id, workspace_id, input, {MESSAGES}, output, NULL"
FOUND_BY = f"id, workspace_id, {WORDS.replace('trace_text.', 'made.')}"
INLINE = f"""
id, workspace_id, leaderboard_id, {RUN_ID}, candidate_id, {TOKEN_ID}, source, status, 'openrouter',
model, input, {MESSAGES}, output, NULL::text, {SCORE}, {ERROR}, latency_ms, prompt_tokens,
completion_tokens, cost_usd, metadata, created_at
"""
HOURS = """
INSERT INTO trace_hour
SELECT workspace_id, leaderboard_id, date_trunc('hour', created_at, 'UTC'), source, 'openrouter',
    model, greatest(ceil(ln(greatest(latency_ms, 1)) / ln(1.05)), 0)::int, leaderboard_id,
    count(*), count(*) FILTER (WHERE status = 'error'), sum(prompt_tokens), sum(completion_tokens),
    coalesce(sum(cost_usd), 0), count(*) FILTER (WHERE cost_usd IS NULL)
FROM made GROUP BY 1, 2, 3, 4, 5, 6, 7
"""
PLAIN = """
CREATE TABLE trace_plain (
    id uuid, workspace_id uuid, leaderboard_id uuid, run_id uuid, candidate_id uuid, token_id uuid,
    source text, status text, provider text, model text, input text, messages jsonb, output text,
    expected text, score float, error text, latency_ms float, prompt_tokens int,
    completion_tokens int, cost_usd numeric(24, 12), metadata jsonb, created_at timestamptz
)
"""
INDEX_PLAIN = """
ALTER TABLE trace_plain ADD PRIMARY KEY (id);
CREATE INDEX ON trace_plain (workspace_id, created_at, id);
CREATE INDEX ON trace_plain (leaderboard_id, created_at, id);
CREATE INDEX ON trace_plain (run_id, created_at, id) WHERE run_id IS NOT NULL;
"""


@dataclass(frozen=True, slots=True)
class Owner:
    """A workspace, and one of each of its things.

    Attributes:
        share: Its traces, of a thousand.
        api_token: With every scope.
    """

    share: int
    workspace_id: UUID
    leaderboard_id: UUID
    candidate_id: UUID
    token_id: UUID
    run_id: UUID
    api_token: str


async def fill(process: Process, dsn: str, traces: int, days: int) -> list[Owner]:
    """Migrate an empty database and fill it, and return the workspaces, the largest first."""
    await migrate(process.background_database.engine)
    connection = await asyncpg.connect(dsn)
    await connection.execute("SET maintenance_work_mem = '512MB'; SET work_mem = '128MB'")
    owners = await _make_places(process, connection, days)
    await connection.execute(PLAIN)
    now = datetime.now(UTC)
    first = 0
    for begin, end in _days_between(now - timedelta(days=days), now):
        after = round(traces * ((end - now) / timedelta(days=days) + 1))
        await _make_day(connection, begin, end, first, after)
        await put_hours_together(process.system_context())
        await connection.execute("VACUUM trace_hour")  # the server's own vacuum is off here
        print(f"  {begin:%Y-%m-%d}: {after:12,} traces", flush=True)
        first = after
    await connection.execute(INDEX_PLAIN)
    await index_past_days(process.system_context())
    await connection.execute("VACUUM (ANALYZE)")
    await connection.close()
    return owners


def _days_between(begin: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Yield the parts of the UTC days from *begin* to *end*."""
    while begin < end:
        midnight = begin.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        yield begin, min(midnight, end)
        begin = midnight


async def _make_places(process: Process, connection: asyncpg.Connection, days: int) -> list[Owner]:
    """Make workspaces and leaderboards, and what a thousand traces are spread over."""
    await connection.execute(PLACES)
    await connection.execute(LINES)
    await connection.execute("CREATE INDEX ON bench_line (line_number); ANALYZE bench_line")
    places: list[tuple[Any, ...]] = []
    owners = []
    for share, board_count in zip(SHARES, BOARDS, strict=True):
        workspace_id, token_id = new_id(), new_id()
        ctx = process.system_context(workspace_id)
        await create_workspace(ctx, id=workspace_id, name="bench", owner_id=new_id())
        made = await create_api_token(
            ctx, name="bench", scopes=["*"], expires_in=None, budget_limit_usd=None,
            budget_reset_interval="none",
        )  # fmt: skip
        boards = [new_id() for _ in range(board_count)]
        # As old as the oldest trace.
        run_of = {board: UUID(int=first_id_at(datetime.now(UTC) - timedelta(days=days + 1)).int
                              | new_id().int & (1 << 80) - 1) for board in boards}  # fmt: skip
        candidates = {(board, model): new_id() for board in boards for model in range(MODELS)}
        for board in boards:
            await connection.execute(
                "INSERT INTO leaderboard (id, workspace_id, name, system_prompt, dataset_type,"
                " dataset_url, eval_type, evaluation, model_selection)"
                " VALUES ($1, $2, 'bench', '{input}', 'GET', 'https://huggingface.co/bench',"
                " 'exact', '{}', 'ranking_winner')",
                board, workspace_id,
            )  # fmt: skip
        for place in range(share):
            board, model = boards[place % board_count], place // board_count % MODELS
            places.append(
                (len(places), workspace_id, board, candidates[board, model], token_id,
                 run_of[board], f"vendor/model-{model}",
                 f"Solve what customer {place} asks, in three lines at most:")
            )  # fmt: skip
        owners.append(
            Owner(share, workspace_id, boards[0], candidates[boards[0], 0], token_id,
                  run_of[boards[0]], made.token)
        )  # fmt: skip
    await connection.copy_records_to_table("bench_place", records=places)
    await connection.execute("ANALYZE bench_place")
    return owners


async def _make_day(
    connection: asyncpg.Connection, begin: datetime, end: datetime, first: int, after: int
) -> None:
    """Make the traces *first* up to *after*, evenly over a part of a UTC day."""
    midnight = begin.replace(hour=0, minute=0, second=0, microsecond=0)
    low, high = first_id_at(midnight), first_id_at(midnight + timedelta(days=1))
    made = MADE.format(
        first=first,
        after=after,
        begin_ms=int(begin.timestamp() * 1000),
        span_ms=(end - begin) // timedelta(milliseconds=1),
    )
    async with connection.transaction():
        await connection.execute(made)
        await connection.execute(f"INSERT INTO trace_plain SELECT {INLINE} FROM made ORDER BY n")
        await connection.execute(HOURS)
        parents = {"trace": NARROW, "trace_text": WIDE, "trace_words": FOUND_BY}
        for parent, columns in parents.items():
            day = f"{parent}_{midnight:%Y%m%d}"
            await connection.execute(f"DROP TABLE IF EXISTS {day}")
            await connection.execute(
                f"CREATE TABLE {day} (LIKE {parent} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)"
            )
            await connection.execute(f"INSERT INTO {day} SELECT {columns} FROM made ORDER BY n")
            await connection.execute(
                f"ALTER TABLE {parent} ATTACH PARTITION {day}"
                f" FOR VALUES FROM ('{low}') TO ('{high}')"
            )
