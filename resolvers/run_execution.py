"""The work of a run: reading its dataset, making its calls, and storing them once."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.exc import SQLAlchemyError

from db.base import new_id
from db.bulk import column_arrays, insert_from_arrays
from db.models import (
    Candidate,
    DatasetRow,
    Job,
    Leaderboard,
    Run,
    RunCandidate,
    RunResult,
    Trace,
)
from db.session import Database, ReadSession
from engine.matching import MatchMode, PatternError, score_answer
from engine.prompts import render_prompt
from engine.selection import RowSelection, select_positions
from providers.base import ChatTarget, DatasetError
from resolvers.auth import SYSTEM, requires
from resolvers.candidates import chat_target
from resolvers.context import Context
from resolvers.datasets import take_snapshot
from resolvers.errors import InvalidDatasetError, UpstreamError
from resolvers.failures import is_outage
from resolvers.model_calls import (
    CallOutcome,
    CallResult,
    CallSubject,
    call_model,
    trace_values,
)
from resolvers.run_completion import complete_run
from resolvers.runs import RUN_SHARD

# Large enough to keep every call slot busy, small enough to spread over workers.
SHARD_ROWS = 50
RETRIES = 4
UNFINISHED = ("queued", "running")
# Answers that are paid for are held so long for a database that is away.
LONGEST_OUTAGE_SECONDS = 120
OUTAGE_POLL_SECONDS = 0.5
STORE_TRACES = insert_from_arrays(Trace).on_conflict_do_nothing()
STORE_RESULTS = insert_from_arrays(RunResult).on_conflict_do_nothing()


@requires(SYSTEM)
async def prepare_run(ctx: Context, run_id: UUID) -> None:
    """Read a queued run's dataset into a snapshot, and queue its calls in shards.

    Raises:
        InvalidDatasetError: The dataset can't be used; repeating this won't help.
        UpstreamError: The hub failed; repeating this may help.
    """
    async with ctx.database.read() as session:
        run = await session.get(Run, run_id)
        board = await session.get(Leaderboard, run.leaderboard_id) if run else None
    if run is None or board is None or run.status != "queued":
        return  # another worker was faster, or the run failed meanwhile
    if board.deleted_at is not None:
        await fail_run(ctx, run_id, "the leaderboard was deleted")
        return
    try:
        snapshot = await take_snapshot(ctx, board, run.dataset_url or "")
    except DatasetError as error:
        if error.is_retryable:
            raise UpstreamError(str(error)) from error
        raise InvalidDatasetError(str(error)) from error
    positions = select_positions(snapshot.row_count, RowSelection(**run.dataset_size))
    async with ctx.database.write() as session:
        begun = await session.scalar(
            update(Run)
            .where(Run.id == run_id, Run.status == "queued")
            .values(
                status="running",
                snapshot_id=snapshot.id,
                row_count=len(positions),
                started_at=datetime.now(UTC),
            )
            .returning(Run.id)
        )
        if begun is not None:
            await ctx.services.queue.enqueue(
                session,
                RUN_SHARD,
                workspace_id=run.workspace_id,
                subject_id=run_id,
                arguments=[
                    {"positions": positions[start : start + SHARD_ROWS]}
                    for start in range(0, len(positions), SHARD_ROWS)
                ],
            )


@dataclass(frozen=True, slots=True)
class _Entrant:
    """A run's candidate, ready to be called."""

    target: ChatTarget
    subject: CallSubject


@requires(SYSTEM)
async def execute_shard(ctx: Context, run_id: UUID, job_id: UUID, positions: Sequence[int]) -> None:
    """Make the calls of some of a run's rows that are not stored yet; the last shard ranks.

    Args:
        ctx: The worker's.
        run_id: A run that is under way; of any other, nothing is done.
        job_id: The shard's own job, which is finished here.
        positions: The rows, by their place in the snapshot.

    Raises:
        IntegrationMissingError: A key that the run needs was taken away.
    """
    async with ctx.database.read() as session:
        run = await session.get(Run, run_id)
        board = await session.get(Leaderboard, run.leaderboard_id) if run else None
        if run is None or board is None or run.status != "running":
            return
        pairs = await _candidates(session, run_id)
        missing = await _missing(session, run, [how.candidate_id for how, _ in pairs], positions)
    if board.deleted_at is not None:
        await fail_run(ctx, run_id, "the leaderboard was deleted")
        return
    entrants = {
        how.candidate_id: await _entrant(ctx, run, how, candidate) for how, candidate in pairs
    }
    await _call_all(ctx, run, [(entrants[candidate_id], row) for candidate_id, row in missing])
    await _finish_shard(ctx, run_id, job_id)


async def _candidates(
    session: ReadSession, run_id: UUID
) -> Sequence[tuple[RunCandidate, Candidate]]:
    statement = (
        select(RunCandidate, Candidate)
        .join(Candidate, Candidate.id == RunCandidate.candidate_id)
        .where(RunCandidate.run_id == run_id)
        .order_by(RunCandidate.position)
    )
    return [(row[0], row[1]) for row in await session.execute(statement)]


async def _missing(
    session: ReadSession, run: Run, candidate_ids: Sequence[UUID], positions: Sequence[int]
) -> list[tuple[UUID, DatasetRow]]:
    """Return the (candidate, row) pairs that have no result yet.

    They go row by row over all candidates, so that a run that stops has
    compared them evenly.
    """
    rows = await session.scalars(
        select(DatasetRow)
        .where(DatasetRow.snapshot_id == run.snapshot_id, DatasetRow.position.in_(positions))
        .order_by(DatasetRow.position)
    )
    stored = await session.execute(
        select(RunResult.candidate_id, RunResult.position).where(
            RunResult.run_id == run.id, RunResult.position.in_(positions)
        )
    )
    done = {(row[0], row[1]) for row in stored}
    return [
        (candidate_id, row)
        for row in rows
        for candidate_id in candidate_ids
        if (candidate_id, row.position) not in done
    ]


async def _entrant(ctx: Context, run: Run, how: RunCandidate, candidate: Candidate) -> _Entrant:
    return _Entrant(
        target=await chat_target(ctx, how, candidate),
        subject=CallSubject(
            workspace_id=run.workspace_id,
            leaderboard_id=run.leaderboard_id,
            candidate_id=candidate.id,
            source="run",
            run_id=run.id,
            token_id=run.token_id,
            model=how.model_id or candidate.display_name,
        ),
    )


async def _call_all(ctx: Context, run: Run, units: Sequence[tuple[_Entrant, DatasetRow]]) -> None:
    """Make the calls, a bounded number at once, and store each answer as it comes back.

    After a failure no further call begins, and those under way still finish:
    their answers are paid for.
    """
    failures: list[Exception] = []

    async def call(entrant: _Entrant, row: DatasetRow) -> None:
        try:
            async with ctx.services.gate.of(run.workspace_id, entrant.target.provider):
                if failures:
                    return
                result = await _call(ctx, run, entrant, row)
                stored = await ctx.services.run_results.offer(result)
            await stored
        except Exception as error:  # noqa: BLE001 - raised once the others have finished
            failures.append(error)

    async with asyncio.TaskGroup() as calls:
        for entrant, row in units:
            calls.create_task(call(entrant, row))
    if failures:
        raise failures[0]


async def store_call_results(database: Database, results: Sequence[CallResult]) -> None:
    """Store what came of some calls, in one transaction; what is stored already stays.

    The calls are paid for, so an outage of the database is waited for.

    Raises:
        SQLAlchemyError: The database refused them, or did not come back in time.
    """
    traces = column_arrays(Trace, [each.trace for each in results])
    rows = column_arrays(RunResult, [each.result for each in results])
    give_up_at = time.monotonic() + LONGEST_OUTAGE_SECONDS
    while True:
        try:
            async with database.write() as session:
                await session.execute(STORE_TRACES, traces)
                await session.execute(STORE_RESULTS, rows)
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            if not is_outage(error) or time.monotonic() > give_up_at:
                raise
            await asyncio.sleep(OUTAGE_POLL_SECONDS)
        else:
            return


async def _call(ctx: Context, run: Run, entrant: _Entrant, row: DatasetRow) -> CallResult:
    """Ask one candidate one row."""
    messages = [{"role": "user", "content": render_prompt(run.system_prompt, row.input)}]
    outcome = await call_model(ctx.services.chat, entrant.target, messages, {}, retries=RETRIES)
    score, error = _score(run.evaluation, outcome, row)
    trace = trace_values(
        new_id(),
        entrant.subject,
        entrant.target,
        outcome,
        input=row.input,
        messages=messages,
        expected=row.expected,
        score=score,
        metadata={"position": row.position},
    )
    result = {
        "id": new_id(),
        "run_id": run.id,
        "candidate_id": entrant.subject.candidate_id,
        "position": row.position,
        "trace_id": trace["id"],
        "output": trace["output"],
        "score": score,
        "error": error,
        **{name: trace[name] for name in ("latency_ms", "cost_usd", "created_at")},
        **{name: trace[name] for name in ("prompt_tokens", "completion_tokens")},
    }
    return CallResult(trace, result)


def _score(
    evaluation: dict[str, Any], outcome: CallOutcome, row: DatasetRow
) -> tuple[float, str | None]:
    """Return an outcome's score, and its error; an error scores 0, as users would see it fail."""
    if outcome.answer is None:
        return 0.0, outcome.error.summary if outcome.error else None
    try:
        score = score_answer(
            outcome.answer.output,
            row.expected or "",
            match=MatchMode(evaluation["match"]),
            extract=evaluation.get("extract"),
        )
    except PatternError as error:
        return 0.0, f"invalid_expected: {error}"
    return score, None


async def _finish_shard(ctx: Context, run_id: UUID, job_id: UUID) -> None:
    """Mark a shard done, and rank the run if it was the last one.

    The run's row is locked first: of two shards that end together, the later
    one sees the other done.
    """
    async with ctx.database.write() as session:
        run = await session.scalar(
            select(Run).where(Run.id == run_id).with_for_update(key_share=True)
        )
        if run is None or run.status != "running":
            return
        await session.execute(
            update(Job)
            .where(Job.id == job_id)
            .values(status="succeeded", finished_at=datetime.now(UTC))
        )
        left = await session.scalar(
            select(func.count())
            .select_from(Job)
            .where(Job.subject_id == run_id, Job.kind == RUN_SHARD, Job.status.in_(UNFINISHED))
        )
        if not left:
            await complete_run(session, run)


@requires(SYSTEM)
async def fail_run(ctx: Context, run_id: UUID, reason: str) -> None:
    """End a run that can't go on; what it has stored stays."""
    async with ctx.database.write() as session:
        await session.execute(
            update(Run)
            .where(Run.id == run_id, Run.status.in_(UNFINISHED))
            .values(status="failed", error=reason, finished_at=datetime.now(UTC))
        )
