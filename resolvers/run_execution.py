"""The work of a run: making the calls of its rows, and storing each answer once."""

from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Uuid, bindparam, select

from db.base import new_id
from db.models import (
    Candidate,
    DatasetRow,
    Job,
    Leaderboard,
    Run,
    RunCandidate,
    RunResult,
)
from db.session import ReadSession
from engine.prompts import render_prompt
from providers.base import ChatTarget, ProviderError
from resolvers.auth import SYSTEM, requires
from resolvers.candidates import chat_target
from resolvers.columns import kept_query
from resolvers.context import Context
from resolvers.judging import Bench, Judge
from resolvers.meters import CallSource
from resolvers.model_calls import (
    CallOutcome,
    CallResult,
    CallSubject,
    trace_values,
)
from resolvers.paging import AnySelect
from resolvers.run_calls import call_for
from resolvers.run_judging import RowComparison, find_judge, list_pending, score_result
from resolvers.run_lifecycle import (
    ADVANCE_RUN,
    RUN_SHARD,
    UNFINISHED,
    finish_run,
    lock_run,
    queue_step,
)
from resolvers.run_rescoring import rescore_rows
from resolvers.run_scoring import score_output
from resolvers.shards import ShardWork, count_unfinished_shards, end_shard, note_progress


@requires(SYSTEM)
async def execute_shard(ctx: Context, job: Job) -> None:
    """Make the calls of some of a run's rows that are not stored yet.

    Args:
        ctx: The worker's.
        job: The shard's own, which is finished here: its subject is a run, of which nothing is
            done unless it is under way, its `positions` the rows by their place in the snapshot.

    Raises:
        IntegrationMissingError: A key that the run needs was taken away.
        BudgetExceededError: The run's ceiling leaves no room for another call.
    """
    run_id, positions = job.subject_id, job.arguments["positions"]
    async with ctx.database.read() as session:
        run = await session.get(Run, run_id)
        board = await session.get(Leaderboard, run.leaderboard_id) if run else None
        if run is None or board is None or run.status != "running":
            return
        pairs = await _candidates(session, run_id)
        missing = await _missing(session, run, [how.candidate_id for how, _ in pairs], positions)
    judge = await find_judge(ctx, run)
    if board.deleted_at is not None:
        await fail_run(ctx, run_id, "the leaderboard was deleted")
        return
    if job.attempts > 1:
        await note_progress(ctx, job, len(missing), of=len(positions) * len(pairs))
    subjects = {how.candidate_id: _subject(run, how, candidate) for how, candidate in pairs}
    shard = _Shard(ctx, run, judge)
    if run.kind == "rescore":
        await rescore_rows(ctx, run, missing)
    else:
        targets = {
            how.candidate_id: await chat_target(ctx, how, candidate) for how, candidate in pairs
        }
        await shard.work.do([shard.call(targets[key], subjects[key], row) for key, row in missing])
    await shard.work.do(await shard.list_judging(positions, subjects))
    await _finish_shard(ctx, run, job.id)


async def _candidates(
    session: ReadSession, run_id: UUID
) -> Sequence[tuple[RunCandidate, Candidate]]:
    """Return who is still asked, in the run's order."""
    statement = (
        select(RunCandidate, Candidate)
        .join(Candidate, Candidate.id == RunCandidate.candidate_id)
        .where(RunCandidate.run_id == run_id, RunCandidate.asked_row_count.is_(None))
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


def _subject(run: Run, how: RunCandidate, candidate: Candidate) -> CallSubject:
    return CallSubject(
        workspace_id=run.workspace_id,
        leaderboard_id=run.leaderboard_id,
        candidate_id=candidate.id,
        source="run",
        run_id=run.id,
        token_id=run.token_id,
        model=how.model_id or candidate.display_name,
    )


def _write_status() -> AnySelect:
    return select(Run.id, Run.status).where(Run.id == bindparam("id", type_=Uuid()))


class _Shard:
    """The calls of a shard; each answer is stored as it comes back."""

    def __init__(self, ctx: Context, run: Run, judge: Judge | None) -> None:
        self._ctx = ctx
        self._run = run
        self.work = ShardWork(self._is_running)
        self._stopped = self.work.stopped
        self._bench = None if judge is None else Bench(ctx, run, judge, self._stopped)

    async def _is_running(self) -> bool:
        # Beside the sessions, which may all be taken by what is under way.
        (row,) = await self._ctx.database.fetch(kept_query(_write_status), id=self._run.id)
        return bool(row.status == "running")

    async def call(self, target: ChatTarget, subject: CallSubject, row: DatasetRow) -> None:
        """Ask one candidate one row, and have its answer scored if a judge scores each."""
        services, workspace_id = self._ctx.services, self._run.workspace_id
        endpoint = services.health.of(workspace_id, target, self._stopped)
        # Who has to wait for its own endpoint keeps nobody from calling another one.
        with suppress(ProviderError):
            await endpoint.wait()
        async with services.gate.of(workspace_id, target.provider):
            if self._stopped.is_set():
                return
            # The place is held until the answer is stored: so no more calls than there are places
            # can be lost, and paid for again, with a process that dies.
            output = await self._ask(target, subject, row)
        bench = self._bench
        if bench is not None and not bench.judge.is_pairwise and output is not None:
            await score_result(self._ctx, self._run, bench, subject, row, output)

    async def list_judging(
        self, positions: Sequence[int], subjects: Mapping[UUID, CallSubject]
    ) -> list[Coroutine[Any, Any, None]]:
        """Return what is left to judge of some rows: of a killed worker, or of pairs."""
        bench = self._bench
        if bench is None:
            return []
        pending = await list_pending(self._ctx, self._run, positions)
        if bench.judge.is_pairwise:
            return [
                RowComparison(self._ctx, self._run, bench, row, results, subjects).compare()
                for row, results in pending
            ]
        return [
            score_result(
                self._ctx, self._run, bench, subjects[result.candidate_id], row, result.output
            )
            for row, results in pending
            for result in results
            if result.is_pending and result.output is not None
        ]

    async def _ask(self, target: ChatTarget, subject: CallSubject, row: DatasetRow) -> str | None:
        """Ask one candidate one row, store its answer, and return it."""
        run = self._run
        messages = [{"role": "user", "content": render_prompt(run.system_prompt, row.input)}]
        call = call_for(
            self._ctx, run, target, messages, {}, source=CallSource.RUN, stopped=self._stopped
        )
        async with call as (outcome, released_usd):
            result = _result(run, target, subject, row, messages, outcome)
            stored = replace(result, released_usd=released_usd)
            await (await self._ctx.services.run_results.offer(stored))
        return None if outcome.answer is None else outcome.answer.output


def _result(
    run: Run,
    target: ChatTarget,
    subject: CallSubject,
    row: DatasetRow,
    messages: Sequence[dict[str, Any]],
    outcome: CallOutcome,
) -> CallResult:
    is_pending = False
    if outcome.answer is None:
        # It scores 0, as users would have seen it fail.
        score, error = 0.0, outcome.error.summary if outcome.error else None
    elif "judge" in run.evaluation or "human" in run.evaluation:
        score, error, is_pending = 0.0, None, True
    else:
        score, error = score_output(run.evaluation, outcome.answer.output, row.expected)
    trace = trace_values(
        new_id(),
        subject,
        target,
        outcome,
        input=row.input,
        messages=messages,
        expected=row.expected,
        score=None if is_pending else score,
        metadata={"position": row.position},
    )
    result = {
        "id": new_id(),
        "run_id": run.id,
        "candidate_id": subject.candidate_id,
        "position": row.position,
        "trace_id": trace["id"],
        "output": trace["output"],
        "score": score,
        "error": error,
        "is_pending": is_pending,
        "judgement": None,
        "judge_cost_usd": Decimal(0),
        "human_score": None,
        **{name: trace[name] for name in ("latency_ms", "cost_usd", "created_at")},
        **{name: trace[name] for name in ("prompt_tokens", "completion_tokens")},
    }
    return CallResult(trace, result)


async def _finish_shard(ctx: Context, run: Run, job_id: UUID) -> None:
    """Mark a shard done; the last one lets the run go on to what is next."""
    async with ctx.database.write() as session:
        locked = await lock_run(session, run.id)
        if locked is None or locked.status != "running":
            return
        await end_shard(session, job_id)
        if not await count_unfinished_shards(session, run.id, kind=RUN_SHARD):
            await queue_step(ctx, session, ADVANCE_RUN, run.workspace_id, run.id)


@requires(SYSTEM)
async def fail_run(ctx: Context, run_id: UUID, reason: str) -> None:
    """End a run that can't go on; what it has stored stays."""
    async with ctx.database.write() as session:
        run = await lock_run(session, run_id)
        if run is not None and run.status in UNFINISHED:
            await finish_run(ctx, session, run, "failed", error=reason)
