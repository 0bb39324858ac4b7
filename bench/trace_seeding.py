"""Fills a benchmark's database with days of traces, as production leaves them behind.

Workspaces are of very different sizes. Each day is made as a table of its own and then attached,
with its texts, its hours and, where it is asked for, its share of one plain table in the form that
traces had before they were partitioned.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg

from db.base import first_id_at, new_id

# Of a thousand traces, how many are of each workspace; and how many leaderboards it has.
SHARES: Final = (600, 200, 100, 60, 30, 10)
BOARDS: Final = (20, 10, 5, 3, 2, 1)
MODELS: Final = 4
SENTENCES: Final = 20_000
# A word in one of so many traces.
RARE_WORD, RARE_EVERY = "quokka", 100_000
COMMON_WORD = "word1"
INPUT = "place.opening || ' ' || a.line || ' number ' || n"
OUTPUT = f"b.line || CASE WHEN n % {RARE_EVERY} = 77 THEN ' {RARE_WORD}' ELSE '' END"

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
    {INPUT} AS input,
    jsonb_build_array(jsonb_build_object('role', 'user', 'content', {INPUT})) AS messages,
    {OUTPUT} AS output
FROM generate_series($1::bigint, $2::bigint - 1) AS n
CROSS JOIN LATERAL (
    SELECT $3::bigint + (n - $1) * 86400000 / ($2 - $1) AS ms, hashint8(n) AS h
) AS at
JOIN bench_place AS place ON place.place = (h & 1023) * 1000 / 1024
JOIN bench_line AS a ON a.line_number = ((h >> 3) & 65535) % {SENTENCES}
JOIN bench_line AS b ON b.line_number = ((h >> 9) & 65535) % {SENTENCES}
"""
NARROW = """
id, workspace_id, leaderboard_id, CASE WHEN source = 'run' THEN run_id END, candidate_id,
CASE WHEN source = 'inference' THEN token_id END, source, status, 'openrouter', model,
CASE WHEN source = 'run' THEN n % 3 / 2.0 END,
CASE WHEN status = 'error' THEN 'timeout: no answer within 20 s' END, latency_ms, NULL,
prompt_tokens, completion_tokens, cost_usd, 'provider', 1, metadata, created_at
"""
WIDE = "id, workspace_id, input, messages, output, NULL"
HOURS = """
INSERT INTO trace_hour
SELECT workspace_id, leaderboard_id, date_trunc('hour', created_at, 'UTC'), source,
    provider, model, greatest(ceil(ln(greatest(latency_ms, 1)) / ln(1.05)), 0)::int,
    '00000000-0000-0000-0000-000000000000', count(*), count(*) FILTER (WHERE status = 'error'),
    sum(prompt_tokens), sum(completion_tokens), coalesce(sum(cost_usd), 0),
    count(*) FILTER (WHERE cost_usd IS NULL)
FROM {day} GROUP BY 1, 2, 3, 4, 5, 6, 7
"""
PLAIN = """
CREATE TABLE trace_plain AS
SELECT trace.*, input, messages, output, expected
FROM trace JOIN trace_text USING (id, workspace_id)
LIMIT 0
"""


@dataclass(frozen=True, slots=True)
class Seeded:
    """What the database holds.

    Attributes:
        workspaces: The largest first.
        boards: One of each workspace.
    """

    workspaces: list[UUID]
    boards: list[UUID]
    tokens: list[UUID]
    runs: list[UUID]
    first_day: datetime
    days: int


async def make_places(connection: asyncpg.Connection) -> Seeded:
    """Make workspaces and leaderboards, and what a thousand traces are spread over."""
    await connection.execute(PLACES)
    await connection.execute(LINES)
    await connection.execute("CREATE INDEX ON bench_line (line_number); ANALYZE bench_line")
    places: list[Any] = []
    workspaces, boards, tokens, runs = [], [], [], []
    for share, board_count in zip(SHARES, BOARDS, strict=True):
        workspace_id, token_id = new_id(), new_id()
        await connection.execute(
            "INSERT INTO workspace (id, name) VALUES ($1, 'bench')", workspace_id
        )
        own = [new_id() for _ in range(board_count)]
        own_runs = [new_id() for _ in own]
        for number, board_id in enumerate(own):
            await connection.execute(
                "INSERT INTO leaderboard (id, workspace_id, name, system_prompt, dataset_type,"
                " eval_type, evaluation, model_selection)"
                " VALUES ($1, $2, $3, '{input}', 'GET', 'exact', '{}', 'ranking_winner')",
                board_id, workspace_id, f"board {number}",
            )  # fmt: skip
        candidates = {(board, model): new_id() for board in own for model in range(MODELS)}
        for _ in range(share):
            number = len(places)
            board, model = own[number % board_count], number // board_count % MODELS
            places.append(
                (number, workspace_id, board, candidates[board, model], token_id,
                 own_runs[number % board_count], f"vendor/model-{model}",
                 f"Solve what customer {number} asks, in three lines at most:")
            )  # fmt: skip
        workspaces.append(workspace_id)
        boards.append(own[0])
        tokens.append(token_id)
        runs.append(own_runs[0])
    await connection.copy_records_to_table("bench_place", records=places)
    await connection.execute("ANALYZE bench_place")
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return Seeded(workspaces, boards, tokens, runs, midnight, 0)


async def make_day(
    connection: asyncpg.Connection, day: datetime, first: int, after: int, *, plain: bool
) -> None:
    """Make the traces *first* up to *after*, evenly over one UTC day."""
    tag = f"{day:%Y%m%d}"
    low, high = first_id_at(day), first_id_at(day + timedelta(days=1))
    made = MADE.replace("$1", str(first)).replace("$2", str(after))
    made = made.replace("$3", str(int(day.timestamp() * 1000)))
    async with connection.transaction():
        await connection.execute(f"CREATE TEMP TABLE made ON COMMIT DROP AS {made}")
        for parent, columns in (("trace", NARROW), ("trace_text", WIDE)):
            await connection.execute(f"DROP TABLE IF EXISTS {parent}_{tag}")
            await connection.execute(
                f"CREATE TABLE {parent}_{tag} (LIKE {parent} INCLUDING DEFAULTS"
                " INCLUDING CONSTRAINTS)"
            )
            await connection.execute(
                f"INSERT INTO {parent}_{tag} SELECT {columns} FROM made ORDER BY n"
            )
            await connection.execute(
                f"ALTER TABLE {parent} ATTACH PARTITION {parent}_{tag}"
                f" FOR VALUES FROM ('{low}') TO ('{high}')"
            )
        await connection.execute(HOURS.format(day=f"trace_{tag}"))
        if plain:
            await connection.execute(
                f"INSERT INTO trace_plain SELECT t.*, input, messages, output, expected"
                f" FROM trace_{tag} AS t JOIN trace_text_{tag} USING (id) ORDER BY id"
            )
