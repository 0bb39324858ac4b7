"""Following a run while it works."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from sqlalchemy import case, func, select, text, true

from db.models import Run, RunCandidate, RunResult
from db.session import ReadSession
from resolvers.auth import Scope, requires
from resolvers.context import Context
from resolvers.errors import NotFoundError
from resolvers.following import (
    SPEED_SECONDS,
    estimate_seconds_left,
    follow,
    measure_speed,
)
from resolvers.loaders.runs import counted_score, known_cost_usd
from resolvers.run_lifecycle import UNFINISHED


@dataclass(frozen=True, slots=True)
class PartialScore:
    """What a candidate has scored so far.

    Attributes:
        score: The mean of the rows it has been scored on; None before the first.
    """

    candidate_id: UUID
    score: float | None
    row_count: int
    failed: int


@dataclass(frozen=True, slots=True)
class RunState:
    """How far a run has come.

    Attributes:
        done: Calls stored, the failed ones among them.
        failed: Calls stored that ended in an error.
        total: All calls; None until the dataset has been read.
        cost_usd: The known cost so far, in US dollars.
        calls_per_second: Over the latest seconds.
        seconds_left: At that speed; None when it is not known, 0 once the run has ended.
        scores: By candidate, in the run's order.
    """

    run_id: UUID
    status: str
    error: str | None
    done: int
    failed: int
    total: int | None
    cost_usd: Decimal
    calls_per_second: float
    seconds_left: float | None
    scores: Sequence[PartialScore]

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come."""
        return self.status not in UNFINISHED


@requires(Scope.LEADERBOARDS_READ)
async def follow_run(ctx: Context, run_id: UUID) -> AsyncGenerator[RunState, None]:
    """Return a run's states, from the present one to its last.

    Raises:
        NotFoundError: The workspace has no such run.
    """
    async with ctx.database.read() as session:
        if await _find(session, ctx.workspace_id, run_id) is None:
            raise NotFoundError(f"run {run_id} does not exist")

    async def read() -> RunState:
        async with ctx.database.read() as session:
            run = await _find(session, ctx.workspace_id, run_id)
            if run is None:
                raise NotFoundError(f"run {run_id} does not exist")
            return await read_state(session, run)

    return follow(ctx.services.run_changes, run_id, read)


async def _find(session: ReadSession, workspace_id: UUID, run_id: UUID) -> Run | None:
    statement = select(Run).where(Run.id == run_id, Run.workspace_id == workspace_id)
    return await session.scalar(statement)


async def read_state(session: ReadSession, run: Run) -> RunState:
    """Return how far *run* has come."""
    is_recent = RunResult.created_at > func.now() - text(f"interval '{SPEED_SECONDS} seconds'")
    # What a judge has yet to score is not done; what people have yet to score is, for the calls.
    is_done = true() if "human" in run.evaluation else ~RunResult.is_pending
    statement = (
        select(
            RunCandidate.candidate_id,
            RunCandidate.asked_row_count,
            func.count(RunResult.id).filter(is_done),
            func.count(RunResult.error),
            func.avg(counted_score(run.evaluation)),
            func.coalesce(func.sum(known_cost_usd(RunResult)), 0),
            func.count(case((is_recent, 1))),
        )
        .outerjoin(
            RunResult,
            (RunResult.run_id == RunCandidate.run_id)
            & (RunResult.candidate_id == RunCandidate.candidate_id),
        )
        .where(RunCandidate.run_id == run.id)
        .group_by(RunCandidate.candidate_id, RunCandidate.asked_row_count, RunCandidate.position)
        .order_by(RunCandidate.position)
    )
    rows = (await session.execute(statement)).all()
    done = sum(row[2] for row in rows)
    has_ended = run.status not in UNFINISHED
    total = done if run.status == "completed" else _total(run, [row[1] for row in rows])
    speed = 0.0 if has_ended else measure_speed(run.started_at, sum(row[6] for row in rows))
    return RunState(
        run_id=run.id,
        status=run.status,
        error=run.error,
        done=done,
        failed=sum(row[3] for row in rows),
        total=total,
        # A run that scores another one's answers again has paid for none of them.
        cost_usd=Decimal(0) if run.kind == "rescore" else sum((row[5] for row in rows), Decimal(0)),
        calls_per_second=speed,
        seconds_left=0.0 if has_ended else estimate_seconds_left(done, total, speed),
        scores=[PartialScore(row[0], row[4], row[2], row[3]) for row in rows],
    )


def _total(run: Run, asked_row_counts: Sequence[int | None]) -> int | None:
    if run.row_count is None:
        return None
    return sum(run.row_count if count is None else count for count in asked_row_counts)
