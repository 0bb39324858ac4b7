"""The beginning of a labelling job: its rows are fixed, and its calls are queued in shards."""

from datetime import UTC, datetime
from uuid import UUID

from db.models import LabelJob, Leaderboard
from db.session import WriteSession
from engine.money import plain_usd
from resolvers.auth import SYSTEM, requires
from resolvers.call_totals import Expectation
from resolvers.ceilings import ZERO
from resolvers.context import Context
from resolvers.errors import BudgetExceededError, ConflictError
from resolvers.label_lifecycle import LABEL_SHARD, finish_job, lock_job, notify_job
from resolvers.label_rows import ChosenRows, choose_rows
from resolvers.shards import shard_size


@requires(SYSTEM)
async def prepare_labels(ctx: Context, job_id: UUID) -> None:
    """Fix the rows of a queued job, and queue its calls; without a row it is completed.

    Raises:
        ConflictError: The leaderboard was deleted.
        InvalidDatasetError: The dataset can't be used; repeating this won't help.
        UpstreamError: The hub failed; repeating this may help.
        BudgetExceededError: The job is expected to cost more than it may.
    """
    async with ctx.database.read() as session:
        job = await session.get(LabelJob, job_id)
        board = await session.get(Leaderboard, job.leaderboard_id) if job else None
    if job is None or board is None or job.status != "queued":
        return  # another worker was faster, or the job has ended meanwhile
    if board.deleted_at is not None:
        raise ConflictError("the leaderboard was deleted")
    chosen, cost = await choose_rows(ctx, job)
    _check_ceiling(job, cost)
    async with ctx.database.write() as session:
        begun = await lock_job(session, job_id)
        if begun is None or begun.status != "queued":
            return
        begun.status, begun.started_at = "running", datetime.now(UTC)
        begun.snapshot_id, begun.row_count = chosen.snapshot.id, len(chosen.positions)
        begun.estimated_cost_usd = cost.expected_usd
        if chosen.positions:
            await _enqueue_shards(ctx, session, begun, chosen)
            await notify_job(session, job_id)
        else:
            await finish_job(session, begun, "completed")


def _check_ceiling(job: LabelJob, cost: Expectation) -> None:
    """Refuse a job that is expected to pass its ceiling; a guess is no reason to.

    Raises:
        BudgetExceededError: It is.
    """
    expected_usd = cost.expected_usd or ZERO
    ceiling_usd = job.max_cost_usd
    if ceiling_usd is not None and cost.basis == "measured" and expected_usd > ceiling_usd:
        raise BudgetExceededError(
            f"the job would cost about {plain_usd(round(expected_usd, 6))} USD, by earlier labels "
            f"of this dataset, and may cost {plain_usd(ceiling_usd)} USD: no call was made"
        )


async def _enqueue_shards(
    ctx: Context, session: WriteSession, job: LabelJob, chosen: ChosenRows
) -> None:
    size = shard_size(len(chosen.positions))
    await ctx.services.queue.enqueue(
        session,
        LABEL_SHARD,
        workspace_id=job.workspace_id,
        subject_id=job.id,
        arguments=[
            {
                "positions": chosen.positions[start : start + size],
                # A row that was edited no longer tells its own.
                "keys": [key.hex() for key in chosen.keys[start : start + size]],
            }
            for start in range(0, len(chosen.positions), size)
        ],
    )
