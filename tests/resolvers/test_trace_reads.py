"""What is read of forty days of traces: no day that is not needed, whoever asks for what."""

import json
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest
from sqlalchemy import update

from app.services import Process
from db.base import first_id_at, new_id
from db.models import Leaderboard, Workspace
from db.partitions import create_days, day_of
from resolvers.trace_upkeep import drop_old_traces, find_words, index_past_days
from tests.conftest import ON_OLDEST_TOO, ask
from tests.factories import Tenant, make_candidate, make_leaderboard, make_ranked_run, make_tenant
from tests.rest_compat.test_push import make_push_board

DAYS, A_DAY = 40, 1_000
MIDNIGHT = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
TODAY = day_of(MIDNIGHT)
FILL = """
INSERT INTO trace (id, workspace_id, leaderboard_id, candidate_id, token_id, source, status, model,
                   error, latency_ms, metadata, created_at)
SELECT id, workspace, board, board, board, 'inference',
       CASE WHEN n % 5 = 0 THEN 'error' ELSE 'ok' END, 'm' || n % 4,
       CASE WHEN n % 5 = 0 THEN 'timeout: x' END, 1 + n % 100,
       jsonb_build_object('customer', n % 7), to_timestamp(ms / 1000.0)
FROM made ORDER BY id;
INSERT INTO trace_text (id, workspace_id, input, output)
SELECT id, workspace,
       'common words' || CASE WHEN ago = 11 AND n % 100 = 0 THEN ' quokka' ELSE '' END,
       repeat('x', 200)
FROM made ORDER BY id;
INSERT INTO trace_unsearched SELECT workspace_id, id FROM trace_text;
INSERT INTO trace_hour
SELECT workspace, board, date_trunc('day', to_timestamp(ms / 1000.0), 'UTC'), 'inference', '',
       'm', 0, board, count(*), 0, 0, 0, 0, 0
FROM made GROUP BY 1, 2, 3;
"""
MADE = """
CREATE TEMP TABLE made ON COMMIT DROP AS
SELECT n, ago, ms, workspace, board,
  (lpad(to_hex(ms), 12, '0') || '70008' || lpad(to_hex(ago * 1000 + n), 15, '0'))::uuid AS id
FROM generate_series(0, $1::bigint - 1) AS ago, generate_series(0, $2::bigint - 1) AS n,
  LATERAL (SELECT $3::bigint - ago * 86400000 + n * ($4::bigint / $2) AS ms) AS at,
  LATERAL (SELECT ($5::uuid[])[1 + n % 2] AS workspace, ($6::uuid[])[1 + n % 2] AS board) AS owner
"""
Operation = Callable[[], Awaitable[object]]


def at(days_ago: float) -> str:
    return (MIDNIGHT - timedelta(days=days_ago)).isoformat()


@pytest.fixture
async def other(database_url: str) -> Any:
    """Yield a connection to a database that logs what is executed over those that follow."""
    connection = await asyncpg.connect(database_url.replace("+asyncpg", ""))
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"ALTER DATABASE {name} SET log_statement = 'all'")
    yield connection
    await connection.close()


async def fill(process: Process, other: asyncpg.Connection, boards: list[Leaderboard]) -> None:
    """Store traces of forty days, those of two workspaces side by side, and today's up to now."""
    async with process.database.write() as session:
        await create_days(session, [TODAY - timedelta(days=ago) for ago in range(DAYS)])
    today_ms = (datetime.now(UTC) - MIDNIGHT) // timedelta(milliseconds=1)
    async with other.transaction():
        await other.execute(
            MADE.replace("$1", str(DAYS)).replace("$2", str(A_DAY))
            .replace("$3", str(int(MIDNIGHT.timestamp() * 1000))).replace("$4", str(today_ms))
            .replace("$5", "ARRAY['" + "','".join(str(b.workspace_id) for b in boards) + "']")
            .replace("$6", "ARRAY['" + "','".join(str(b.id) for b in boards) + "']")
        )  # fmt: skip
        await other.execute(FILL)
    assert await find_words(process.system_context()) == DAYS * A_DAY
    await other.execute("ANALYZE")


async def log_of(other: asyncpg.Connection) -> Path:
    data_dir = Path(await other.fetchval("SHOW data_directory"))
    return data_dir.parent / "server.log"


class Watch:
    """Tells which days statements read, as they are executed.

    The server logs every statement that the product sends, with its values; each is then explained.

    Args:
        log: The server's.
        other: Explains.
    """

    def __init__(self, log: Path, other: asyncpg.Connection) -> None:
        self._log = log
        self._other = other

    async def days_of(self, operation: Operation) -> dict[str, list[int]]:
        """Return how many days ago those were whose traces, and whose texts, were read."""
        read = {day for plan in await self.plans_of(operation) for day in days_read(plan)}
        return {
            parent: sorted(ago for name, ago in read if name == parent)
            for parent in ("trace", "trace_text", "trace_words")
        }

    async def plans_of(self, operation: Operation) -> list[Mapping[str, Any]]:
        """Return how each statement was executed."""
        before = self._log.stat().st_size
        await operation()
        with self._log.open("rb") as log:
            log.seek(before)
            said = log.read().decode()
        return [await self._explain(statement) for statement in statements_in(said)]

    async def _explain(self, statement: str) -> Mapping[str, Any]:
        doing = self._other.transaction()
        await doing.start()
        try:
            (told,) = await self._other.fetchrow(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}")
        finally:
            await doing.rollback()
        plan: Mapping[str, Any] = json.loads(told)[0]["Plan"]
        return plan


def statements_in(said: str) -> Iterator[str]:
    """Yield the statements about traces in a server's log, with their values put in."""
    sql = None
    for entry in re.split(r"^(?=\d{4}-\d\d-\d\d \S+ \S+ \[\d+\] )", said, flags=re.M):
        begun = re.match(r"\S+ \S+ \S+ \[\d+\] LOG:  execute [^:]+: (.*)", entry, re.S)
        given = re.match(r"\S+ \S+ \S+ \[\d+\] DETAIL:  Parameters: (.*)", entry, re.S | re.I)
        if begun:
            sql = begun[1].replace("\n\t", "\n")
        elif given and sql is not None:
            values = dict(re.findall(r"\$(\d+) = ('(?:[^']|'')*'|NULL)", given[1]))
            if "trace" in sql and not sql.lstrip().startswith("INSERT"):
                yield re.sub(r"\$(\d+)", partial(_value, values), sql)
            sql = None


def _value(values: Mapping[str, str], place: re.Match[str]) -> str:
    return values[place[1]]


def days_read(plan: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield the parent and the age in days of each partition that a plan has read.

    Those of days to come are empty.
    """
    for parent, ago, scan in scans_in(plan):
        if scan["Actual Loops"] > 0 and ago >= 0:
            yield parent, ago


def scans_in(plan: Mapping[str, Any]) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
    """Yield each reading of a partition in a plan, with its parent and its age in days."""
    name = re.fullmatch(r"(trace(?:_text|_words)?)_(\d{8})", plan.get("Relation Name", ""))
    if name:
        then = datetime.strptime(name[2], "%Y%m%d").replace(tzinfo=UTC)
        yield name[1], (MIDNIGHT - then).days, plan
    for below in plan.get("Plans", ()):
        yield from scans_in(below)


DAYS_OF_WORDS = {
    "common word": [0],
    "word of a leaderboard": [0],
    "rare word in a window": [11, 12],
    "deleting old ones": [36, 37, 38, 39],
}


@ON_OLDEST_TOO
async def test_no_day_is_read_that_is_not_needed(
    other: asyncpg.Connection, process: Process, tenant: Tenant, client: httpx2.AsyncClient
) -> None:
    board = await make_push_board(process, tenant)
    stranger = await make_leaderboard(process, (await make_tenant(process)).workspace_id)
    await fill(process, other, [board, stranger])
    ranked = await make_leaderboard(process, tenant.workspace_id)
    run = await make_ranked_run(process, ranked, [await make_candidate(process, ranked)], rows=20)
    async with process.database.write() as session:
        await session.execute(
            update(Workspace)
            .where(Workspace.id == tenant.workspace_id)
            .values(trace_retention_days=36)
        )
    watch = Watch(await log_of(other), other)
    one = await other.fetchval(
        "SELECT id FROM trace WHERE workspace_id = $1 AND id > $2 ORDER BY id LIMIT 1",
        tenant.workspace_id, first_id_at(MIDNIGHT - timedelta(days=17)),
    )  # fmt: skip
    path = f"/v1/leaderboard/{board.id}/traces"

    def graphql(operation: str) -> Operation:
        async def run_it() -> None:
            answer = await ask(client, operation)
            assert "errors" not in answer, answer

        return run_it

    def rest(tail: str) -> Operation:
        async def get() -> None:
            answer = await client.get(f"{path}{tail}")
            assert answer.status_code == 200, answer.text

        return get

    def listing(given: str) -> Operation:
        return graphql(f"{{ traces(first: 50, filter: {{{given}}}) {{ nodes {{ id }} }} }}")

    window = f'since: "{at(20)}", until: "{at(17)}"'
    of_board = f'{{ leaderboard(id: "{board.id}") {{ traces(first: 50%s) {{ %s }} }} }}'
    today, three = [0], [18, 19, 20]
    expected: list[tuple[str, Operation, list[int], list[int]]] = [
        ("newest", graphql("{ traces(first: 50) { nodes { id } } }"), today, []),
        ("newest, whole", graphql("{ traces(first: 50) { nodes { input output } } }"),
         today, today),
        ("of a leaderboard", graphql(of_board % ("", "nodes { id }")), today, []),
        ("by its id", graphql(f'{{ trace(id: "{one}") {{ id model }} }}'), [17], []),
        ("by its id, whole", graphql(f'{{ trace(id: "{one}") {{ input }} }}'), [17], [17]),
        ("feedback", graphql(f'{{ trace(id: "{one}") {{ feedback {{ score }} }} }}'), [17], []),
        ("add feedback", graphql(f'mutation {{ addFeedback(input: {{traceId: "{one}", score: 1}}) '
                                 "{ feedback { id } } }"), [17], []),
        ("window", listing(window), [18], []),
        ("window, counted", graphql(f"{{ traces(filter: {{{window}}}) {{ totalCount }} }}"),
         three, []),
        ("window of a leaderboard, counted",
         graphql(of_board % (f", filter: {{{window}}}", "totalCount")), three, []),
        ("run", listing(f'runId: "{run.id}"'), today, []),
        ("run that is none", listing(f'runId: "{new_id()}"'), today, []),
        ("results", graphql(f'{{ run(id: "{run.id}") {{ results(first: 20) {{ nodes {{ trace '
                            "{ id output } } } } }"), today, today),
        ("model", listing('model: "m2"'), today, []),
        ("status", listing("status: ERROR"), today, []),
        ("error", listing("hasError: true"), today, []),
        ("token", listing(f'tokenId: "{board.id}"'), today, []),
        ("candidate", listing(f'candidateId: "{board.id}"'), today, []),
        ("latency", listing("minLatencyMs: 30"), today, []),
        ("metadata in a window",
         listing(f'metadataKey: "customer", metadataValue: "3", {window}'), [18], []),
        ("common word", listing('search: "common"'), today, today),
        ("rare word in a window",
         listing(f'search: "quokka", since: "{at(12)}", until: "{at(10)}"'), [11, 12], [11, 12]),
        ("word of a leaderboard",
         graphql(of_board % (', filter: {search: "common"}', "nodes { id }")), today, today),
        ("listing", rest("?limit=100"), today, today),
        ("export of a window", rest(f"/export?since={at(3)[:19]}Z&until={at(2)[:19]}Z"), [3], [3]),
        ("export, oldest first",
         rest(f"/export?order=oldest_first&since={at(3)[:19]}Z&until={at(2)[:19]}Z"), [3], [3]),
        ("statistics", rest(f"/stats?since={at(39)[:19]}Z"), [], []),
        ("rows of traces", graphql(
            f'mutation {{ createRowsFromTraces(input: {{leaderboardId: "{board.id}", limit: 30}}) '
            "{ receipts { acceptedRows } } }"), today, today),
        ("deleting old ones", lambda: drop_old_traces(process.system_context()),
         [36, 37, 38, 39], [36, 37, 38, 39]),
    ]  # fmt: skip
    found = {name: await watch.days_of(operation) for name, operation, _, _ in expected}
    assert found == {
        name: {"trace": traces, "trace_text": texts, "trace_words": DAYS_OF_WORDS.get(name, [])}
        for name, _, traces, texts in expected
    }


@ON_OLDEST_TOO
async def test_of_days_that_are_over_no_trace_is_read_that_a_rare_limit_does_not_admit(
    other: asyncpg.Connection, process: Process, tenant: Tenant, client: httpx2.AsyncClient
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    stranger = await make_leaderboard(process, (await make_tenant(process)).workspace_id)
    await fill(process, other, [board, stranger])
    await other.execute("UPDATE trace SET cost_usd = latency_ms / 1000, score = latency_ms / 100")
    await other.execute("VACUUM ANALYZE trace")
    await index_past_days(process.system_context())
    watch = Watch(await log_of(other), other)
    found: dict[str, tuple[bool, set[int]]] = {}
    for limit in ("minLatencyMs: 101", "maxLatencyMs: 0", "minCostUsd: 0.11", "maxCostUsd: 0",
                  "minScore: 1.01", "maxScore: 0"):  # fmt: skip
        listing = f"traces(first: 50, filter: {{{limit}}}) {{ totalCount nodes {{ id }} }}"
        operation = f'{{ {listing} leaderboard(id: "{board.id}") {{ {listing} }} }}'
        plans = await watch.plans_of(partial(ask, client, operation))
        scans = [(ago, scan) for plan in plans for _, ago, scan in scans_in(plan)]
        passed_over = {ago for ago, scan in scans if scan.get("Rows Removed by Filter")}
        found[limit] = len(scans) > 4 * DAYS, passed_over - {0}
    assert found == dict.fromkeys(found, (True, set()))
