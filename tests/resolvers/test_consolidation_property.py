"""However pushes, repeats, consolidations and crashes interleave, the snapshot comes to the same.

Which of two rows with the same content is taken, is decided by who comes first: what is pushed
again here is the same row, byte for byte.
"""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from app.services import Process
from app.settings import Settings
from db.base import new_id
from db.models import DatasetSnapshot, Leaderboard, PushedRow
from engine.rows import normalize_row, row_line
from resolvers.consolidation import consolidate_dataset
from resolvers.failures import is_outage
from resolvers.push import PushReceipt, push_rows
from resolvers.snapshot_storage import read_snapshot
from tests.factories import Tenant
from tests.rest_compat.test_push import make_push_board

# The same plans each time in CI, and others each time with CONSOLIDATION_EXAMPLES.
EXAMPLES = int(os.environ.get("CONSOLIDATION_EXAMPLES", "25"))
IS_REPEATABLE = "CONSOLIDATION_EXAMPLES" not in os.environ
WAIT_SECONDS = 20
PROCESSES = 2

# Where whoever stores is held up, by a lock that the test has, and then loses its connection.
CRASHES = {
    "before rows are counted": "SELECT FROM dataset WHERE leaderboard_id = $1 FOR UPDATE",
    "before rows are stored": "LOCK TABLE pushed_row IN SHARE MODE",
    "before a receipt is stored": "LOCK TABLE push_batch IN SHARE MODE",
    "before anything is read": "LOCK TABLE pushed_row IN ACCESS EXCLUSIVE MODE",
    "before a snapshot is numbered": "SELECT FROM leaderboard WHERE id = $1 FOR UPDATE",
    "before a snapshot is stored": "LOCK TABLE dataset_snapshot IN SHARE MODE",
}
ARE_HELD_UP = "SELECT count(*) FROM pg_locks WHERE NOT granted"
BREAK_OFF = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted"


def make_rows() -> list[dict[str, str]]:
    """Return different rows, in families that are alike; every other one has an id."""
    made = []
    for family in range(3):
        words = [f"word{family}{number}" for number in range(24)]
        for variant in range(6):
            changed = [*words[:variant], *(f"changed{variant}" for _ in range(variant)), *words]
            row = {"input": " ".join(changed), "output": str(variant)}
            if variant % 2:
                row["id"] = f"{family}-{variant}"
            made.append(row)
    return made


ROWS = make_rows()


@dataclass(frozen=True)
class Sent:
    """A push; its id is the same when it is repeated."""

    places: Sequence[int]
    id: UUID = field(default_factory=new_id)

    @property
    def rows(self) -> list[dict[str, str]]:
        return [ROWS[place] for place in self.places]


@dataclass(frozen=True)
class Step:
    """What one process is asked; the steps of a round are asked at once.

    Attributes:
        places: The rows that are pushed; None asks for a consolidation.
        repeat: Which earlier push is repeated instead, counted from the last.
        is_left: Whether who asked has gone before it was answered.
    """

    process: int
    places: Sequence[int] | None
    repeat: int | None = None
    is_left: bool = False


@dataclass(frozen=True)
class Round:
    """Steps that are under way together, and where all that stores then loses its connection."""

    steps: Sequence[Step]
    crash: str | None


ALL_PLACES = st.sampled_from(range(len(ROWS)))
STEPS = st.builds(
    Step,
    process=st.integers(0, PROCESSES - 1),
    places=st.none() | st.lists(ALL_PLACES, min_size=1, max_size=8),
    repeat=st.none() | st.integers(1, 4),
    is_left=st.booleans(),
)
ROUNDS = st.builds(
    Round,
    steps=st.lists(STEPS, min_size=1, max_size=6),
    crash=st.none() | st.sampled_from(sorted(CRASHES)),
)
DATASETS = st.fixed_dictionaries(
    {
        "dedupe": st.booleans(),
        "auto_limit_size": st.booleans(),
        "max_samples_to_gather": st.none() | st.integers(1, 20),
        "near_duplicate_threshold": st.sampled_from([None, 0.5, 0.9]),
    }
)


@dataclass(frozen=True)
class Scene:
    """Who takes part.

    Attributes:
        raw: The test's own connection.
    """

    processes: Sequence[Process]
    tenant: Tenant
    raw: asyncpg.Connection


@pytest.fixture
async def scene(settings: Settings, process: Process, tenant: Tenant) -> AsyncIterator[Scene]:
    other = Process(settings)
    raw = await asyncpg.connect(settings.dsn)
    yield Scene([process, other], tenant, raw)
    await raw.close()
    await other.aclose()


class Course:
    """A plan being carried out on a leaderboard of its own."""

    def __init__(self, scene: Scene, board: Leaderboard) -> None:
        self._scene = scene
        self._board = board
        self._contexts = [
            process.system_context(scene.tenant.workspace_id) for process in scene.processes
        ]
        self.sent: list[Sent] = []
        self.receipts: dict[UUID, PushReceipt] = {}

    async def carry_out(self, rounds: Sequence[Round]) -> DatasetSnapshot | None:
        """Return the snapshot that comes of it."""
        for each in rounds:
            if each.crash is None:
                await asyncio.gather(*map(self._take, each.steps))
            else:
                await self._crash(each.steps, CRASHES[each.crash])
        for sent in self.sent:
            await self._push(sent, 0)
        return (await consolidate_dataset(self._contexts[0], self._board.id)).snapshot

    async def _crash(self, steps: Sequence[Step], lock: str) -> None:
        raw = self._scene.raw
        async with asyncio.timeout(WAIT_SECONDS):
            async with raw.transaction():
                await raw.execute(lock, *[self._board.id] * ("$1" in lock))
                taking = asyncio.gather(*map(self._take, steps), return_exceptions=True)
                while not taking.done() and not await raw.fetchval(ARE_HELD_UP):
                    await asyncio.sleep(0.001)
                await raw.execute(BREAK_OFF)
            ended = await taking
        assert all(error is None or is_outage(error) for error in ended), ended

    async def _take(self, step: Step) -> None:
        asked = asyncio.ensure_future(self._ask(step))
        if step.is_left:
            await asyncio.sleep(0)
            asked.cancel()
            await asyncio.wait({asked})
        else:
            await asked

    async def _ask(self, step: Step) -> None:
        if step.places is None:
            await consolidate_dataset(self._contexts[step.process], self._board.id)
        elif step.repeat is not None and self.sent:
            await self._push(self.sent[-min(step.repeat, len(self.sent))], step.process)
        else:
            sent = Sent(step.places)
            self.sent.append(sent)
            await self._push(sent, step.process)

    async def _push(self, sent: Sent, process: int) -> None:
        ctx = self._contexts[process]
        receipt = await push_rows(ctx, self._board.id, sent.rows, id=sent.id)
        assert self.receipts.setdefault(sent.id, receipt) == receipt


async def stored_rows(process: Process, board: Leaderboard) -> dict[bytes, bytes]:
    """Return the lines of what was taken by their keys, as they came."""
    statement = (
        select(PushedRow.row_key, PushedRow.line)
        .where(PushedRow.leaderboard_id == board.id)
        .order_by(PushedRow.sequence)
    )
    async with process.database.read() as session:
        return {row.row_key: row.line for row in await session.execute(statement)}


async def covered_sequences(process: Process, board: Leaderboard) -> list[int]:
    """Return how far the snapshots reach, as they are numbered."""
    statement = (
        select(DatasetSnapshot.last_sequence)
        .where(DatasetSnapshot.leaderboard_id == board.id)
        .order_by(DatasetSnapshot.number)
    )
    async with process.database.read() as session:
        return list(await session.scalars(statement))


def expected_lines(sent: Sequence[Sent], *, dedupe: bool) -> Counter[bytes]:
    """Return what is taken where nothing bounds it."""
    counts = Counter(place for each in sent for place in each.places)
    return Counter(
        {
            row_line(normalize_row(ROWS[place])): 1 if dedupe or "id" in ROWS[place] else count
            for place, count in counts.items()
        }
    )


async def check_whole(
    process: Process, tenant: Tenant, snapshot: DatasetSnapshot, stored: dict[bytes, bytes]
) -> list[bytes]:
    """Check that each row is in *snapshot* or named as dropped; return what it drops."""
    reader = await read_snapshot(process.system_context(tenant.workspace_id), snapshot.id)
    kept = [key.tobytes() for key in (await reader.index())["key"]]
    dropped = [line async for line in reader.dropped()]
    named = [bytes.fromhex(orjson.loads(line)["key"]) for line in dropped]
    assert sorted([*kept, *named]) == sorted(stored)
    lines = [line async for _, line in reader.lines(range(snapshot.row_count))]
    assert lines == [stored[key] for key in kept]
    assert snapshot.dropped == Counter(orjson.loads(line)["reason"] for line in dropped)
    return dropped


@given(dataset=DATASETS, rounds=st.lists(ROUNDS, min_size=1, max_size=5))
@settings(
    max_examples=EXAMPLES,
    derandomize=IS_REPEATABLE,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@pytest.mark.timeout(60 + EXAMPLES)
async def test_any_interleaving_comes_to_what_pushing_all_of_it_at_once_does(
    scene: Scene, dataset: dict[str, Any], rounds: list[Round]
) -> None:
    process, tenant = scene.processes[0], scene.tenant
    board = await make_push_board(process, tenant, **dataset)
    course = Course(scene, board)
    snapshot = await course.carry_out(rounds)
    stored = await stored_rows(process, board)
    assert sum(receipt.accepted_rows for receipt in course.receipts.values()) == len(stored)
    if dataset["max_samples_to_gather"] is None or dataset["auto_limit_size"]:
        expected = expected_lines(course.sent, dedupe=dataset["dedupe"])
        assert Counter(stored.values()) == expected
    if snapshot is None:
        assert not stored
        return
    dropped = await check_whole(process, tenant, snapshot, stored)
    covered = await covered_sequences(process, board)
    assert covered == sorted(set(covered))
    assert covered[-1] == len(stored)

    # All of it at once, and in another order.
    other_board = await make_push_board(process, tenant, **dataset)
    ctx = process.system_context(tenant.workspace_id)
    lines = reversed(stored.values())
    taken = await push_rows(ctx, other_board.id, [orjson.loads(line) for line in lines])
    assert taken.accepted_rows == len(stored)
    once = (await consolidate_dataset(ctx, other_board.id)).snapshot
    assert once is not None
    assert snapshot.content_sha256 == once.content_sha256
    assert dropped == await check_whole(process, tenant, once, stored)
