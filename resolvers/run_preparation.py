"""The beginning of a run: its rows are fixed, and its calls are queued in shards."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import numpy as np
from sqlalchemy import select

from db.models import DatasetSnapshot, Leaderboard, Run
from db.session import ReadSession, WriteSession
from engine.money import plain_usd
from engine.selection import RowSelection, select_positions, shuffle_positions
from resolvers.auth import SYSTEM, requires
from resolvers.ceilings import ZERO
from resolvers.context import Context
from resolvers.datasets import take_snapshot
from resolvers.errors import BudgetExceededError, ConflictError
from resolvers.row_selection import select_rows
from resolvers.run_costs import estimate_calls
from resolvers.run_lifecycle import (
    RUN_SHARD,
    has_to_wait,
    lock_leaderboard,
    lock_run,
    notify_run,
)
from resolvers.shards import shard_size
from resolvers.snapshot_storage import bring_rows

# A run that stops early looks at its scores after so many rows, which several workers share.
WAVE_ROWS = 50
WAVE_SHARD_ROWS = 10


@requires(SYSTEM)
async def prepare_run(ctx: Context, run_id: UUID) -> None:
    """Fix the rows of a queued run whose turn it is, and queue its first calls.

    Raises:
        InvalidDatasetError: The dataset can't be used; repeating this won't help.
        UpstreamError: The hub failed; repeating this may help.
        BudgetExceededError: The run is expected to cost more than it may.
    """
    async with ctx.database.read() as session:
        run = await session.get(Run, run_id)
        board = await session.get(Leaderboard, run.leaderboard_id) if run else None
        if run is None or board is None or run.status != "queued":
            return  # another worker was faster, or the run has ended meanwhile
        if await has_to_wait(session, run):
            return  # who is before it queues it again
    snapshot = await _snapshot(ctx, run, board)
    positions = await choose_positions(ctx, run, snapshot)
    await bring_rows(ctx, snapshot, positions)
    if run.max_cost_usd is not None:
        estimate = await estimate_calls(ctx, run, snapshot, positions)
        run.estimated_cost_usd = estimate.expected_usd
        if estimate.is_measured and (estimate.expected_usd or 0) > run.max_cost_usd:
            # A guess is no reason to refuse: the ceiling holds by itself.
            raise BudgetExceededError(
                "the run would cost about "
                f"{plain_usd(round(estimate.expected_usd or ZERO, 6))} USD, by earlier calls of "
                f"its candidates, and may cost {plain_usd(run.max_cost_usd)} USD: no call was made"
            )
    await _begin(ctx, run, snapshot, positions)


async def _snapshot(ctx: Context, run: Run, board: Leaderboard) -> DatasetSnapshot:
    """Return the rows that the run uses: those of the run it repeats, else the newest."""
    if run.snapshot_id is not None:
        async with ctx.database.read() as session:
            return await session.get_one(DatasetSnapshot, run.snapshot_id)
    if board.deleted_at is not None:
        raise ConflictError("the leaderboard was deleted")
    return await take_snapshot(ctx, board, needs_expected=_needs_expected(run))


def _needs_expected(run: Run) -> bool:
    """Tell whether a run can use rows with an expected output alone."""
    is_compared = not {"judge", "human"} & run.evaluation.keys()
    return is_compared and run.kind != "improve_dataset"


async def choose_positions(ctx: Context, run: Run, snapshot: DatasetSnapshot) -> list[int]:
    """Return a run's rows by their places in its snapshot, in the order in which it asks them.

    A run that stops early asks them in an order drawn by its seed: its bounds hold for rows that
    come at random.
    """
    positions = await select_rows(
        ctx, snapshot, run.dataset_size, needs_expected=_needs_expected(run)
    )
    return shuffle_positions(positions, run.dataset_size["seed"]) if run.stops_early else positions


def pack_positions(positions: Sequence[int]) -> bytes:
    """Return positions as a run's row keeps them."""
    return np.asarray(positions, dtype="<u4").tobytes()


async def read_positions(session: ReadSession, run: Run) -> list[int]:
    """Return the rows that a run which has begun asks, in their order."""
    packed = await session.scalar(select(Run.positions).where(Run.id == run.id))
    if packed is not None:
        chosen: list[int] = np.frombuffer(packed, dtype="<u4").tolist()
        return chosen
    # It began before runs kept them, when its row said all that chose them.
    snapshot = await session.get_one(DatasetSnapshot, run.snapshot_id)
    positions = select_positions(snapshot.row_count, RowSelection(**run.dataset_size))
    return shuffle_positions(positions, run.dataset_size["seed"]) if run.stops_early else positions


async def _begin(
    ctx: Context, run: Run, snapshot: DatasetSnapshot, positions: Sequence[int]
) -> None:
    async with ctx.database.write() as session:
        begun = await lock_run(session, run.id)
        await lock_leaderboard(session, run.leaderboard_id)
        if begun is None or begun.status != "queued" or await has_to_wait(session, begun):
            return
        begun.status, begun.started_at = "running", datetime.now(UTC)
        begun.snapshot_id, begun.row_count = snapshot.id, len(positions)
        begun.positions = pack_positions(positions)
        begun.estimated_cost_usd = run.estimated_cost_usd
        await enqueue_shards(ctx, session, begun, positions, asked=0)
        await notify_run(session, run.id)


async def enqueue_shards(
    ctx: Context, session: WriteSession, run: Run, positions: Sequence[int], *, asked: int
) -> None:
    """Queue the calls of the rows behind the first *asked*: all of them, or the next wave."""
    rows = positions[asked:]
    size = shard_size(len(rows))
    if run.stops_early:
        rows, size = rows[:WAVE_ROWS], WAVE_SHARD_ROWS
    await ctx.services.queue.enqueue(
        session,
        RUN_SHARD,
        workspace_id=run.workspace_id,
        subject_id=run.id,
        arguments=[
            {"positions": list(rows[part * size : (part + 1) * size])}
            for part in range(math.ceil(len(rows) / size))
        ],
    )
