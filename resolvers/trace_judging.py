"""The judging of a rollout's sampled answers: each scored once, below the rollout's ceiling."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Uuid, bindparam, select, update
from sqlalchemy.dialects.postgresql import insert

from db.base import new_id
from db.models import Job, Rollout, Trace, TraceScore
from db.session import ReadSession, WriteSession
from engine.judge_prompts import (
    SCORE_PROMPT_VERSION,
    Question,
    read_scale,
    score_messages,
    score_response_format,
)
from engine.judging import ScoreVerdict, VerdictError, read_score
from engine.prompts import text_of_messages
from engine.rollouts import Arm, score_increment
from providers.base import LENGTHS, ChatTarget
from resolvers.auth import SYSTEM, requires
from resolvers.catalogue import model_headers
from resolvers.ceilings import release_costs
from resolvers.columns import kept_query
from resolvers.context import Context
from resolvers.judging import REPLY_RETRIES
from resolvers.meters import CallSource
from resolvers.model_calls import CallOutcome, CallSubject, trace_values
from resolvers.paging import AnySelect
from resolvers.rollout_sums import JUDGE, add_increments
from resolvers.run_calls import call_for
from resolvers.run_costs import sum_usd
from resolvers.run_judging import judge_target
from resolvers.run_storage import store_patiently
from resolvers.shards import ShardWork

# Judges may think before they tell, and what a call may cost is set aside before it. Many models
# refuse to be asked for more.
JUDGE_MAX_TOKENS = 4_096


@requires(SYSTEM)
async def judge_traces(ctx: Context, job: Job) -> None:
    """Have the judge score the answers of a job that have no score yet.

    Args:
        ctx: The worker's.
        job: Its subject is a rollout, of which nothing is done unless it runs; its `trace_ids` are
            of answers, some of which may be gone by now.

    Raises:
        IntegrationMissingError: The key that the judge needs was taken away.
        BudgetExceededError: The rollout's ceiling leaves no room for another call.
    """
    trace_ids = [UUID(each) for each in job.arguments["trace_ids"]]
    async with ctx.database.read() as session:
        rollout = await session.get(Rollout, job.subject_id)
        if rollout is None or rollout.status != "running" or rollout.judge is None:
            return
        traces = await _unscored(session, rollout, trace_ids)
    headers = await model_headers(ctx, rollout.judge["model"], provider=rollout.judge["provider"])
    judging = _Judging(ctx, rollout, rollout.judge, headers)
    await judging.work.do([judging.score(trace) for trace in traces])


async def _unscored(
    session: ReadSession, rollout: Rollout, trace_ids: Sequence[UUID]
) -> Sequence[Trace]:
    scored = select(TraceScore.trace_id).where(TraceScore.trace_id.in_(trace_ids))
    statement = select(Trace).where(
        Trace.id.in_(trace_ids),
        Trace.leaderboard_id == rollout.leaderboard_id,
        Trace.output.is_not(None),
        Trace.id.not_in(scored),
    )
    return (await session.scalars(statement.order_by(Trace.id))).all()


@requires(SYSTEM)
async def stop_judging(ctx: Context, rollout_id: UUID, reason: str) -> None:
    """Have nobody judge a rollout's answers any more: the judge can't be asked, or paid."""
    async with ctx.database.write() as session:
        await session.execute(
            update(Rollout)
            .where(Rollout.id == rollout_id, Rollout.judge_error.is_(None))
            .values(judge_error=reason)
        )


def _write_status() -> AnySelect:
    return select(Rollout.id, Rollout.status).where(Rollout.id == bindparam("id", type_=Uuid()))


class _Judging:
    """The judge's calls of one job; each score is stored as it comes back."""

    def __init__(
        self, ctx: Context, rollout: Rollout, judge: dict[str, Any], headers: Mapping[str, str]
    ) -> None:
        self._ctx = ctx
        self._rollout = rollout
        self._judge = judge
        self._target: ChatTarget = judge_target(judge, headers)
        self._scale = read_scale(judge)
        self._params: dict[str, Any] = {
            "temperature": 0.0,
            "response_format": score_response_format(self._scale),
        }
        if not any(self._target.params.get(name) for name, _ in LENGTHS):
            self._params["max_tokens"] = JUDGE_MAX_TOKENS
        self.work = ShardWork(self._is_running)

    async def _is_running(self) -> bool:
        (row,) = await self._ctx.database.fetch(kept_query(_write_status), id=self._rollout.id)
        return bool(row.status == "running")

    async def score(self, trace: Trace) -> None:
        """Have one answer scored, and asked for again while the reply can't be read.

        Raises:
            CallStoppedError: The rollout has ended.
            BudgetExceededError: Its ceiling leaves no room.
        """
        services = self._ctx.services
        async with services.gate.of(self._rollout.workspace_id, self._target.provider):
            costs: list[Decimal | None] = []
            complaint = ""
            for _ in range(REPLY_RETRIES + 1):
                said = await self._ask(trace, costs)
                if not isinstance(said, VerdictError):
                    return
                complaint = str(said)
            await self._store_failure(trace, costs, f"unreadable_verdict: {complaint}")

    async def _ask(
        self, trace: Trace, costs: list[Decimal | None]
    ) -> ScoreVerdict | VerdictError | None:
        """Ask once; store the call, and what it amounts to unless it is to be asked again.

        Returns:
            The verdict; why the reply is none; or None when the call failed.
        """
        question = Question(
            rubric=self._judge["rubric"],
            input=text_of_messages(trace.messages or []),
            expected=trace.expected,
        )
        messages = score_messages(question, trace.output or "", self._scale)
        call = call_for(
            self._ctx,
            self._rollout,
            self._target,
            messages,
            self._params,
            source=CallSource.JUDGE,
            stopped=self.work.stopped,
        )
        async with call as (outcome, released_usd):
            costs.append(outcome.cost_usd)
            said = self._read(outcome)
            score: dict[str, Any] | None = None
            if isinstance(said, ScoreVerdict):
                unit = self._scale.to_unit(said.score)
                score = self._score(trace, costs, score=unit, reason=said.reason)
            elif outcome.error is not None:
                score = self._score(trace, costs, error=f"judge_failed: {outcome.error.summary}")
            await self._store(trace, self._trace(trace, outcome, messages), score, released_usd)
        return said

    def _read(self, outcome: CallOutcome) -> ScoreVerdict | VerdictError | None:
        if outcome.answer is None:
            return None
        try:
            return read_score(outcome.answer.output, self._scale)
        except VerdictError as error:
            return error

    def _score(
        self,
        trace: Trace,
        costs: Sequence[Decimal | None],
        *,
        score: float | None = None,
        reason: str | None = None,
        error: str | None = None,
    ) -> dict[str, Any]:
        return {
            "trace_id": trace.id,
            "workspace_id": self._rollout.workspace_id,
            "rollout_id": self._rollout.id,
            "judge_model": self._judge["model"],
            "score": score,
            "reason": reason,
            "error": error,
            "cost_usd": sum_usd(costs),
        }

    def _trace(
        self, trace: Trace, outcome: CallOutcome, messages: Sequence[dict[str, str]]
    ) -> dict[str, Any]:
        """Return the trace of the judge's own call."""
        subject = CallSubject(
            workspace_id=self._rollout.workspace_id,
            leaderboard_id=self._rollout.leaderboard_id,
            candidate_id=self._candidate_of(trace),
            source="run",
            run_id=None,
            token_id=None,
            model=self._judge["model"],
        )
        said = {
            "role": "judge",
            "prompt_version": SCORE_PROMPT_VERSION,
            "rollout_id": str(self._rollout.id),
            "trace_id": str(trace.id),
        }
        return trace_values(
            new_id(), subject, self._target, outcome, input=None, messages=messages, metadata=said
        )

    def _candidate_of(self, trace: Trace) -> UUID:
        is_canary = trace.trace_metadata["rollout"]["arm"] == Arm.CANARY
        return self._rollout.to_candidate_id if is_canary else self._rollout.from_candidate_id

    async def _store(
        self,
        trace: Trace,
        call: Mapping[str, Any],
        score: Mapping[str, Any] | None,
        released_usd: Decimal,
    ) -> None:
        traces = self._ctx.services.traces
        storable = await traces.prepare([call])

        async def store(session: WriteSession) -> None:
            # After a commit whose answer was lost this is done again, and must add nothing again.
            is_new = await traces.store(session, storable)
            if score is not None:
                await self._store_score(session, trace, score)
            if is_new and released_usd:
                await release_costs(session, Rollout, [(self._rollout.id, released_usd)])

        await store_patiently(self._ctx.database, store)

    async def _store_failure(
        self, trace: Trace, costs: Sequence[Decimal | None], error: str
    ) -> None:
        score = self._score(trace, costs, error=error)

        async def store(session: WriteSession) -> None:
            await self._store_score(session, trace, score)

        await store_patiently(self._ctx.database, store)

    async def _store_score(
        self, session: WriteSession, trace: Trace, score: Mapping[str, Any]
    ) -> None:
        """Store a score, if its answer has none yet, and add it to its arm's."""
        redact = self._ctx.services.redactors.redact_text  # a judge quotes what it judges
        told = {name: await redact(trace.workspace_id, score[name]) for name in ("reason", "error")}
        new = insert(TraceScore).values({**score, **told}).on_conflict_do_nothing()
        is_first = await session.scalar(new.returning(TraceScore.trace_id)) is not None
        if is_first and score["score"] is not None:
            note = trace.trace_metadata["rollout"]
            delta = score_increment(
                self._rollout.id, note["step"], Arm(note["arm"]), score["score"]
            )
            await add_increments(session, [delta], writer=JUDGE)
