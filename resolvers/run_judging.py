"""The judging of a run's answers: each by its own score, or a row's answers in pairs."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import combinations
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, case, func, null, select, update
from sqlalchemy.dialects.postgresql import insert

from db.models import (
    DatasetRow,
    JudgeVerdict,
    Run,
    RunCandidate,
    RunComparison,
    RunResult,
)
from db.session import WriteSession
from engine.judge_prompts import Question, read_scale
from engine.judging import combine_orders
from engine.prompts import render_prompt
from providers.base import ChatTarget
from resolvers.catalogue import model_headers
from resolvers.context import Context
from resolvers.judging import Asker, Bench, Judge, JudgeFailedError, Verdict
from resolvers.model_calls import CallSubject
from resolvers.run_costs import sum_usd
from resolvers.run_lifecycle import notify_run
from resolvers.run_storage import store_patiently

JUDGE_TIMEOUT_SECONDS = 120.0
WORTH = {"first": (1.0, 0.0), "second": (0.0, 1.0), "tie": (0.5, 0.5)}


async def find_judge(ctx: Context, run: Run) -> Judge | None:
    """Return who judges a run, ready to be called; None when nobody does.

    Raises:
        IntegrationMissingError: The judge's provider needs a key, and it was taken away.
    """
    told = run.evaluation.get("judge")
    if told is None:
        return None
    headers = {}
    if run.kind != "rescore":  # scoring again asks nobody
        headers = await model_headers(ctx, told["model"], provider=told["provider"])
    return Judge(
        target=judge_target(told, headers),
        model=told["model"],
        rubric=run.evaluation.get("rubric"),
        scale=read_scale(run.evaluation),
        votes=run.evaluation.get("judge_votes", 1),
        is_pairwise=run.evaluation.get("judge_mode") == "pairwise",
    )


def judge_target(told: Mapping[str, Any], headers: Mapping[str, str]) -> ChatTarget:
    """Return how to call a judge.

    Args:
        told: Who it is, as `resolvers.judge_models.fix_judge` returns it.
        headers: Its credential.
    """
    return ChatTarget(
        provider=told["provider"],
        model_id=told["model"],
        url=None,
        headers=headers,
        params={},
        timeout_seconds=JUDGE_TIMEOUT_SECONDS,
        input_price_per_million_usd=_price(told["input_price_per_million_usd"]),
        output_price_per_million_usd=_price(told["output_price_per_million_usd"]),
    )


def _price(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def question_of(run: Run, judge: Judge, row: DatasetRow) -> Question:
    """Return what a judge is told of a row, beside the answers to it."""
    return Question(
        rubric=row.rubric or judge.rubric,
        input=render_prompt(run.system_prompt, row.input),
        expected=row.expected,
    )


async def score_result(
    ctx: Context, run: Run, bench: Bench, subject: CallSubject, row: DatasetRow, output: str
) -> None:
    """Have an answer scored, by as many votes as the run wants, and store the score.

    A judge that fails leaves an error in the score's stead.

    Raises:
        CallStoppedError: The run has ended.
        BudgetExceededError: The run's ceiling leaves no room for the judge.
    """
    question, judge = question_of(run, bench.judge, row), bench.judge
    asker = Asker(subject, row.position)
    verdicts: list[Verdict] = []
    score, error = 0.0, None
    in_vain_usd: Decimal | None = Decimal(0)
    try:
        for vote in range(judge.votes):
            verdict = await bench.score(question, output, vote=vote, asker=asker)
            verdicts.append(verdict)  # kept when a later vote fails: it is paid for
        score = judge.score_of(verdicts)
    except JudgeFailedError as failure:
        error, in_vain_usd = str(failure), failure.cost_usd
    changes = {
        "is_pending": False,
        "score": score,
        "error": error,
        "judgement": {"votes": [verdict.show() for verdict in verdicts]},
        "judge_cost_usd": _paid_usd(in_vain_usd),
    }

    async def store(session: WriteSession) -> None:
        await session.execute(
            update(RunResult)
            .where(
                RunResult.run_id == run.id,
                RunResult.candidate_id == subject.candidate_id,
                RunResult.position == row.position,
                RunResult.is_pending,
            )
            .values(changes)
        )
        await notify_run(session, run.id)

    await store_patiently(ctx.database, store)


def _paid_usd(in_vain_usd: Decimal | None) -> ColumnElement[Any]:
    """Return what the verdicts that were asked for a result cost, as its row is updated.

    It is read from the verdicts: those that a worker paid for before it died are among them.
    """
    if in_vain_usd is None:
        return null()
    own = (
        JudgeVerdict.run_id == RunResult.run_id,
        JudgeVerdict.candidate_id == RunResult.candidate_id,
        JudgeVerdict.position == RunResult.position,
    )
    cost_usd = JudgeVerdict.cost_usd
    known = case((func.count(cost_usd) == func.count(), func.coalesce(func.sum(cost_usd), 0)))
    paid = select(known).where(*own).correlate(RunResult).scalar_subquery()
    return paid + in_vain_usd


class RowComparison:
    """A row whose answers are compared in pairs, each pair in both orders.

    Args:
        ctx: The worker's.
        run: Whose row it is.
        bench: Who judges.
        row: The row.
        results: Every candidate's answer to it, in the run's order.
        subjects: What calls are made for, by candidate.
    """

    def __init__(
        self,
        ctx: Context,
        run: Run,
        bench: Bench,
        row: DatasetRow,
        results: Sequence[RunResult],
        subjects: Mapping[UUID, CallSubject],
    ) -> None:
        self._ctx = ctx
        self._run = run
        self._bench = bench
        self._row = row
        self._results = results
        self._subjects = subjects
        self._worth: dict[UUID, list[float]] = defaultdict(list)
        self._errors: dict[UUID, str] = {}
        self._in_vain_usd: dict[UUID, list[Decimal | None]] = defaultdict(list)

    async def compare(self) -> None:
        """Compare every pair that is not compared yet, and store each answer's share of wins.

        Raises:
            CallStoppedError: The run has ended.
            BudgetExceededError: The run's ceiling leaves no room for the judge.
        """
        known = await self._known()
        for first, second in combinations(self._results, 2):
            outcome = known.get((first.candidate_id, second.candidate_id))
            if outcome is None:
                outcome = await self._outcome(first, second)
            if outcome is not None:
                worth = WORTH[outcome]
                self._worth[first.candidate_id].append(worth[0])
                self._worth[second.candidate_id].append(worth[1])
        await store_patiently(self._ctx.database, self._store_scores)

    async def _known(self) -> dict[tuple[UUID, UUID], str]:
        statement = select(RunComparison).where(
            RunComparison.run_id == self._run.id, RunComparison.position == self._row.position
        )
        async with self._ctx.database.read() as session:
            return {
                (each.first_candidate_id, each.second_candidate_id): each.outcome
                for each in await session.scalars(statement)
            }

    async def _outcome(self, first: RunResult, second: RunResult) -> str | None:
        """Return which is better; an answer that is not there loses. None: the judge failed."""
        if first.output is None or second.output is None:
            outcome = "tie" if first.output == second.output else "second"
            if second.output is None and first.output is not None:
                outcome = "first"
            await self._store(first, second, outcome, {"orders": []})
            return outcome
        question = question_of(self._run, self._bench.judge, self._row)
        asker = Asker(self._subjects[first.candidate_id], self._row.position)
        other = Asker(self._subjects[second.candidate_id], self._row.position)
        outputs = (first.output, second.output)
        try:
            forward = await self._bench.compare(question, *outputs, asker=asker)
            backward = await self._bench.compare(question, *reversed(outputs), asker=other)
        except JudgeFailedError as failure:
            self._in_vain_usd[first.candidate_id].append(failure.cost_usd)
            for each in (first, second):
                self._errors.setdefault(each.candidate_id, str(failure))
            return None
        outcome = combine_orders(_preference(forward), _preference(backward))
        await self._store(first, second, outcome, {"orders": [forward.show(), backward.show()]})
        return outcome

    async def _store(
        self, first: RunResult, second: RunResult, outcome: str, judgement: dict[str, Any]
    ) -> None:
        values = {
            "run_id": self._run.id,
            "position": self._row.position,
            "first_candidate_id": first.candidate_id,
            "second_candidate_id": second.candidate_id,
            "outcome": outcome,
            "judgement": judgement,
        }

        async def store(session: WriteSession) -> None:
            await session.execute(insert(RunComparison).values(values).on_conflict_do_nothing())

        await store_patiently(self._ctx.database, store)

    async def _store_scores(self, session: WriteSession) -> None:
        for result in self._results:
            worth = self._worth[result.candidate_id]
            await session.execute(
                update(RunResult)
                .where(RunResult.id == result.id, RunResult.is_pending)
                .values(
                    is_pending=False,
                    score=sum(worth) / len(worth) if worth else 0.0,
                    error=None if worth else self._errors.get(result.candidate_id),
                    judge_cost_usd=_paid_usd(sum_usd(self._in_vain_usd[result.candidate_id])),
                )
            )
        await notify_run(session, self._run.id)


def _preference(verdict: Verdict) -> Any:
    return verdict.preferred


async def list_pending(
    ctx: Context, run: Run, positions: Sequence[int]
) -> list[tuple[DatasetRow, list[RunResult]]]:
    """Return the rows that have answers without a score, each with everybody's answer."""
    pending = (
        select(RunResult.position)
        .where(RunResult.run_id == run.id, RunResult.position.in_(positions), RunResult.is_pending)
        .distinct()
    )
    async with ctx.database.read() as session:
        rows = await session.scalars(
            select(DatasetRow)
            .where(DatasetRow.snapshot_id == run.snapshot_id, DatasetRow.position.in_(pending))
            .order_by(DatasetRow.position)
        )
        results = await session.scalars(
            select(RunResult)
            .join(
                RunCandidate,
                (RunCandidate.run_id == RunResult.run_id)
                & (RunCandidate.candidate_id == RunResult.candidate_id),
            )
            .where(RunResult.run_id == run.id, RunResult.position.in_(pending))
            .order_by(RunCandidate.position)
        )
        answers: dict[int, list[RunResult]] = defaultdict(list)
        for result in results:
            answers[result.position].append(result)
        return [(row, answers[row.position]) for row in rows]
