"""Whatever is killed while rows are pushed and consolidated, nothing is lost and nothing doubled.

PostgreSQL runs on a disk with the settings that the product starts it with: what it has
acknowledged is synced.
"""

import asyncio
import hashlib
import os
import random
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx2
import pytest
from sqlalchemy.exc import DBAPIError

from app.services import Process
from app.settings import Settings
from db.models import Leaderboard
from engine.rows import normalize_row, row_line
from resolvers.consolidation import consolidate_dataset
from resolvers.push import push_rows
from resolvers.snapshot_files import lines_key
from resolvers.snapshot_storage import read_snapshot
from tests import durable_server
from tests.app.test_processes import free_port
from tests.app.test_up import GERO, environment
from tests.conftest import NO_TLS, SECRET_KEY
from tests.durable_server import DurableServer
from tests.factories import Tenant
from tests.rest_compat.test_push import make_push_board, push, rows

# The same moments each time in CI, and others with PUSH_CRASH_SEED; more with PUSH_CRASHES.
SEED = int(os.environ.get("PUSH_CRASH_SEED", "1"))
KILLS = int(os.environ.get("PUSH_CRASHES", "2"))
# Every other one sends no Idempotency-Key.
PUSHERS = 8
MOST_ROWS = 40
MOST_PUSHES_BEFORE_A_KILL = 60
# A kill follows its moment by up to so long, to fall into statements and commits too.
LATEST_KILL_SECONDS = 0.02
WAIT_SECONDS = 30
HUNG_SECONDS = 10

pytestmark = pytest.mark.timeout(120 + 10 * KILLS)
durable = durable_server.durable
database_url = durable_server.database_url


@pytest.fixture
def object_dir(durable: DurableServer) -> Path:
    return durable.data_dir.parent / uuid4().hex


@pytest.fixture
def setting_overrides() -> dict[str, Any]:
    return {"idempotency_claim_seconds": 1}


@pytest.fixture
async def raw(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url.replace("+asyncpg", ""))
    yield connection
    await connection.close()


@dataclass(frozen=True)
class Api:
    """A `gero serve` of its own."""

    process: "subprocess.Popen[bytes]"
    client: httpx2.AsyncClient


@contextmanager
def api_process(settings: Settings, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    variables = environment(
        GERO_DATABASE_URL=settings.database_url,
        GERO_SECRET_KEY=SECRET_KEY,
        GERO_OBJECT_STORE_URL=settings.object_store,
        GERO_IDEMPOTENCY_CLAIM_SECONDS="1",
        GERO_LOG_LEVEL="error",
    )
    process = subprocess.Popen([GERO, "serve", "--port", str(port)], env=variables)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@asynccontextmanager
async def serving_api(settings: Settings, tenant: Tenant) -> AsyncIterator[Api]:
    port = free_port()
    with api_process(settings, port) as process:
        async with httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers=tenant.headers, timeout=WAIT_SECONDS,
            verify=NO_TLS,
        ) as client:  # fmt: skip
            async with asyncio.timeout(WAIT_SECONDS):
                while not await is_up(client):
                    await asyncio.sleep(0.02)
            yield Api(process, client)


async def is_up(client: httpx2.AsyncClient) -> bool:
    try:
        return (await client.get("/healthz")).status_code == 200
    except httpx2.ConnectError:
        return False


@dataclass(frozen=True)
class Sent:
    """A push: its rows, and its Idempotency-Key if it has one."""

    rows: list[dict[str, str]]
    key: str | None

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.key is None else {"Idempotency-Key": self.key}

    @property
    def lines(self) -> list[bytes]:
        return [row_line(normalize_row(row)) for row in self.rows]


@dataclass
class Story:
    """What was sent, and what came of it."""

    acknowledged: list[Sent] = field(default_factory=list)
    unanswered: list[Sent] = field(default_factory=list)
    # Without a key, so that nobody will ever know.
    given_up: list[Sent] = field(default_factory=list)


def draw_push(rng: random.Random, pusher: int) -> Sent:
    given = [{"input": f"question {uuid4()}"} for _ in range(rng.randint(1, MOST_ROWS))]
    for row in given:
        if rng.random() < 0.5:
            row["id"] = str(uuid4())
    return Sent(given, str(uuid4()) if pusher % 2 else None)


async def keep_pushing(
    client: httpx2.AsyncClient, board: Leaderboard, story: Story, rng: random.Random, pusher: int
) -> None:
    """Push until one push isn't acknowledged."""
    while True:
        sent = draw_push(rng, pusher)
        try:
            answer = await push(client, board, sent.rows, headers=sent.headers)
        except httpx2.HTTPError:
            break
        if answer.status_code != 202:
            assert answer.status_code == 503, answer.text
            break
        assert answer.json()["accepted_rows"] == len(sent.rows)
        story.acknowledged.append(sent)
    (story.unanswered if sent.key else story.given_up).append(sent)


async def kill_both(api: Api, server: DurableServer, story: Story, rng: random.Random) -> None:
    """Wait for a moment, and kill the API and PostgreSQL then, either of them first."""
    count = len(story.acknowledged) + rng.randint(0, MOST_PUSHES_BEFORE_A_KILL)
    kills = [api.process.kill, server.kill]
    rng.shuffle(kills)
    while len(story.acknowledged) < count:
        await asyncio.sleep(0.001)
    await asyncio.sleep(rng.uniform(0, LATEST_KILL_SECONDS))
    for kill in kills:
        kill()
    api.process.wait()


async def check_books(dsn: str, board: Leaderboard, story: Story) -> list[bytes]:
    """Check what is stored against what was acknowledged, and return the lines in order."""
    connection = await asyncpg.connect(dsn.replace("+asyncpg", ""))
    try:
        dataset = await connection.fetchrow(
            "SELECT * FROM dataset WHERE leaderboard_id = $1", board.id
        )
        stored = await connection.fetch(
            "SELECT *, (created_at AT TIME ZONE 'UTC')::date AS day FROM pushed_row "
            "WHERE leaderboard_id = $1 ORDER BY sequence",
            board.id,
        )
    finally:
        await connection.close()
    assert dataset is not None
    assert [row["sequence"] for row in stored] == list(range(1, len(stored) + 1))
    assert dataset["last_sequence"] == len(stored)
    assert dataset["day_row_count"] == sum(row["day"] == dataset["day"] for row in stored)
    assert dataset["month_row_count"] == sum(row["day"] >= dataset["month"] for row in stored)
    lines = Counter(bytes(row["line"]) for row in stored)
    acknowledged = Counter(line for sent in story.acknowledged for line in sent.lines)
    assert not acknowledged - lines
    # A push is taken whole or not at all.
    unknown = lines - acknowledged
    for sent in (*story.unanswered, *story.given_up):
        taken = sum(unknown.pop(line, 0) for line in sent.lines)
        assert taken in {0, len(sent.lines)}
    assert not unknown
    return [bytes(row["line"]) for row in stored]


async def repeat_unanswered(client: httpx2.AsyncClient, board: Leaderboard, story: Story) -> None:
    """Repeat each, and repeat it again."""
    repeated, story.unanswered = story.unanswered, []
    for answers in [
        await asyncio.gather(
            *(push(client, board, sent.rows, headers=sent.headers) for sent in repeated)
        )
        for _ in range(2)
    ]:
        for sent, answer in zip(repeated, answers, strict=True):
            assert answer.status_code == 202, answer.text
            assert answer.json()["accepted_rows"] == len(sent.rows)
    story.acknowledged += repeated


async def test_acknowledged_rows_survive_the_end_of_the_api_and_of_postgresql(
    durable: DurableServer, settings: Settings, process: Process, tenant: Tenant
) -> None:
    # Whatever was taken twice would be there twice.
    board = await make_push_board(process, tenant, dedupe=False)
    rng = random.Random(SEED)
    story = Story()
    for _ in range(KILLS):
        async with serving_api(settings, tenant) as api:
            await repeat_unanswered(api.client, board, story)
            pushers = [
                asyncio.create_task(keep_pushing(api.client, board, story, rng, number))
                for number in range(PUSHERS)
            ]
            await kill_both(api, durable, story, rng)
            await asyncio.gather(*pushers)
        await durable.start_again()
        await check_books(settings.database_url, board, story)
    async with serving_api(settings, tenant) as api:
        await repeat_unanswered(api.client, board, story)
        lines = await check_books(settings.database_url, board, story)
        answer = await api.client.post(f"/v1/leaderboard/{board.id}/dataset/consolidate")
        download = await api.client.get(f"/v1/leaderboard/{board.id}/dataset")
    made = answer.json()["snapshot"]
    assert (made["row_count"], made["dropped"]) == (len(lines), {})
    assert sorted(download.content.splitlines()) == sorted(lines)
    assert hashlib.sha256(download.content).hexdigest() == made["content_sha256"]


# Where a consolidation is held up, by a lock that the test has: of the leaderboard $1.
MOMENTS = {
    "while it reads": "LOCK TABLE dataset_edit IN ACCESS EXCLUSIVE MODE",
    "when its files are put": "SELECT FROM leaderboard WHERE id = $1 FOR UPDATE",
    "when its row is written": "SELECT FROM dataset WHERE leaderboard_id = $1 FOR UPDATE",
}
# Changes nothing, and has edits read.
EDIT_OF_NO_ROW = """
WITH edited AS (
  UPDATE dataset SET last_edit = 1 WHERE leaderboard_id = $1 RETURNING leaderboard_id, workspace_id
)
INSERT INTO dataset_edit
  (id, leaderboard_id, workspace_id, number, row_key, field, value, origin, provenance)
SELECT gen_random_uuid(), edited.*, 1, 'nobody', 'weight', '2', 'human', '{}' FROM edited
"""
HELD_UP = "SELECT count(*) FROM pg_locks WHERE NOT granted"
SNAPSHOTS = "SELECT count(*) FROM dataset_snapshot WHERE leaderboard_id = $1"
PUSHED = 1_500  # more than are read at a time


async def await_value(raw: asyncpg.Connection, query: str, expected: object) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while await raw.fetchval(query) != expected:
            await asyncio.sleep(0.01)


async def make_full_board(process: Process, tenant: Tenant) -> Leaderboard:
    board = await make_push_board(process, tenant)
    ctx = process.system_context(tenant.workspace_id)
    for start in range(0, PUSHED, 500):
        await push_rows(ctx, board.id, rows(500, start=start))
    return board


async def kill_held_up(
    apis: Sequence[Api], raw: asyncpg.Connection, boards: Sequence[Leaderboard]
) -> None:
    """Have the APIs consolidate *boards*, and kill them when all of them are held up."""
    consolidations = [
        asyncio.create_task(api.client.post(f"/v1/leaderboard/{board.id}/dataset/consolidate"))
        for api, board in zip(cycle(apis), boards, strict=False)
    ]
    await await_value(raw, HELD_UP, len(boards))
    for api in apis:
        api.process.kill()
    ended = await asyncio.gather(*consolidations, return_exceptions=True)
    assert all(isinstance(each, httpx2.HTTPError) for each in ended)


async def test_a_consolidation_that_is_killed_leaves_nothing_half_made_and_nothing_locked(
    settings: Settings, process: Process, tenant: Tenant, raw: asyncpg.Connection
) -> None:
    undisturbed, *boards = [await make_full_board(process, tenant) for _ in range(4)]
    ctx = process.system_context(tenant.workspace_id)
    expected = (await consolidate_dataset(ctx, undisturbed.id)).snapshot
    assert expected is not None
    await raw.execute(EDIT_OF_NO_ROW, boards[0].id)
    async with AsyncExitStack() as stack, raw.transaction():
        # One process consolidates two at a time.
        starting = [stack.enter_async_context(serving_api(settings, tenant)) for _ in range(2)]
        apis = await asyncio.gather(*starting)
        for board, lock in zip(boards, MOMENTS.values(), strict=True):
            await raw.execute(lock, *[board.id] * ("$1" in lock))
        await kill_held_up(apis, raw, boards)
    objects = Path(settings.object_store)
    keys = [lines_key(board.id, expected.content_sha256) for board in boards]
    assert [(objects / key).exists() for key in keys] == [False, True, True]
    assert [await raw.fetchval(SNAPSHOTS, board.id) for board in boards] == [0, 0, 0]
    async with asyncio.timeout(HUNG_SECONDS):
        made = await asyncio.gather(*(consolidate_dataset(ctx, board.id) for board in boards))
    assert [each.is_new for each in made] == [True, True, True]
    hashes = {each.snapshot.content_sha256 for each in made if each.snapshot}
    assert hashes == {expected.content_sha256}
    assert [await raw.fetchval(SNAPSHOTS, board.id) for board in boards] == [1, 1, 1]
    for key in keys:
        stored = (objects / key).read_bytes()
        assert hashlib.sha256(stored).hexdigest() == expected.content_sha256


# Has each commit of rows of a table wait for a standby, of which there is none: it is durable,
# and nobody is told, as when PostgreSQL dies at that moment.
COMMITS_WAIT = """
CREATE FUNCTION await_standby() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM set_config('synchronous_commit', 'on', true);
  RETURN NEW;
END $$;
CREATE TRIGGER await_standby BEFORE INSERT ON {table}
  FOR EACH ROW EXECUTE FUNCTION await_standby();
"""
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
BREAK_OFF = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


@asynccontextmanager
async def untold_commits(raw: asyncpg.Connection, table: str) -> AsyncIterator[None]:
    """Have every commit with rows of *table* wait, until the block ends."""
    await raw.execute("ALTER DATABASE gero SET synchronous_commit = local")
    await raw.execute(COMMITS_WAIT.format(table=table))
    await raw.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    await raw.execute("SELECT pg_reload_conf()")
    try:
        yield
    finally:
        await raw.execute("ALTER SYSTEM RESET synchronous_standby_names")
        await raw.execute("SELECT pg_reload_conf()")
        await raw.execute("DROP FUNCTION await_standby() CASCADE")
        await raw.execute("ALTER DATABASE gero RESET synchronous_commit")


async def test_rows_whose_commit_nobody_was_told_of_are_not_taken_again_by_the_repeat(
    settings: Settings, process: Process, tenant: Tenant, client: httpx2.AsyncClient,
    raw: asyncpg.Connection,
) -> None:  # fmt: skip
    board = await make_push_board(process, tenant, dedupe=False)
    headers = {"Idempotency-Key": "one"}
    await process.database.dispose()
    async with untold_commits(raw, "pushed_row"):
        pushing = asyncio.create_task(push(client, board, rows(3), headers=headers))
        await await_value(raw, WAITING, 1)
        await raw.execute(BREAK_OFF)
        assert (await pushing).status_code == 503
    for _ in range(2):
        again = await push(client, board, rows(3), headers=headers)
        assert (again.status_code, again.json()["accepted_rows"]) == (202, 3)
    lines = await check_books(settings.database_url, board, Story([Sent(rows(3), "one")]))
    assert len(lines) == 3


async def test_a_snapshot_whose_commit_nobody_was_told_of_is_whole_and_is_not_made_again(
    process: Process, tenant: Tenant, raw: asyncpg.Connection
) -> None:
    board = await make_push_board(process, tenant)
    ctx = process.system_context(tenant.workspace_id)
    await push_rows(ctx, board.id, rows(3))
    await process.background_database.dispose()
    async with untold_commits(raw, "dataset_snapshot"):
        consolidating = asyncio.ensure_future(consolidate_dataset(ctx, board.id))
        await await_value(raw, WAITING, 1)
        await raw.execute(BREAK_OFF)
        with pytest.raises(DBAPIError):
            await consolidating
    made = await consolidate_dataset(ctx, board.id)
    assert made.snapshot is not None
    assert (made.is_new, made.snapshot.number, made.snapshot.row_count) == (False, 1, 3)
    reader = await read_snapshot(ctx, made.snapshot.id)
    content = b"".join([part async for part in reader.stream()])
    assert hashlib.sha256(content).hexdigest() == made.snapshot.content_sha256
