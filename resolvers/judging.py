"""Asking a judge: one verdict at a time, read strictly, and paid for once."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from db.base import new_id
from db.models import JudgeVerdict, Run
from db.session import WriteSession
from engine.judge_prompts import (
    PAIRWISE_PROMPT_VERSION,
    SCORE_PROMPT_VERSION,
    Question,
    Scale,
    pairwise_messages,
    pairwise_response_format,
    score_messages,
    score_response_format,
)
from engine.judging import (
    PreferenceVerdict,
    ScoreVerdict,
    VerdictError,
    combine_votes,
    read_preference,
    read_score,
    verdict_key,
)
from providers.base import ChatTarget
from resolvers.ceilings import release_costs
from resolvers.context import Context
from resolvers.meters import CallSource
from resolvers.model_calls import (
    CallOutcome,
    CallStoppedError,
    CallSubject,
    trace_values,
)
from resolvers.patience import retry_outage
from resolvers.redactors import redact_text
from resolvers.run_calls import call_for
from resolvers.run_costs import sum_usd
from resolvers.run_storage import store_patiently

# A judge whose reply can't be read is asked again so often.
REPLY_RETRIES = 2
# Several votes would all be the same at temperature 0.
VOTING_TEMPERATURE = 0.7


class JudgeFailedError(Exception):
    """There is no verdict; the text says why, as `code: message`.

    Attributes:
        cost_usd: What asking in vain cost, in US dollars; None when that is not known.
    """

    def __init__(self, message: str, costs: Sequence[Decimal | None] = ()) -> None:
        super().__init__(message)
        self.cost_usd = sum_usd(costs)


@dataclass(frozen=True, slots=True)
class Asker:
    """The result that a verdict is asked for, which pays for it.

    Attributes:
        position: The row's place in the run's snapshot.
    """

    subject: CallSubject
    position: int


@dataclass(frozen=True, slots=True)
class Judge:
    """The judge of a run.

    Attributes:
        rubric: The owner's words; a row's own go before them.
        votes: Scores asked of each answer.
        is_pairwise: Whether it compares answers instead of scoring each.
    """

    target: ChatTarget
    model: str
    rubric: str | None
    scale: Scale
    votes: int
    is_pairwise: bool

    @property
    def params(self) -> dict[str, Any]:
        """What is sent beside the messages, but for the format of the reply."""
        return {"temperature": 0.0 if self.votes == 1 else VOTING_TEMPERATURE}

    def score_of(self, verdicts: Sequence["Verdict"]) -> float:
        """Return what an answer's votes amount to, 0 to 1."""
        scores = [verdict.score for verdict in verdicts if verdict.score is not None]
        return self.scale.to_unit(combine_votes(scores))

    def key(self, version: str, question: Question, answers: Sequence[str], vote: int) -> bytes:
        """Return the key of a verdict; see `engine.judging.verdict_key`."""
        return verdict_key(
            judge=self.model,
            prompt_version=version,
            params=self.params,
            question=question,
            answers=answers,
            scale=None if self.is_pairwise else self.scale,
            vote=vote,
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge said."""

    id: UUID
    score: float | None
    preferred: str | None
    reason: str
    prompt_version: str

    def show(self) -> dict[str, Any]:
        """Return it as results store it."""
        return {
            "verdict_id": str(self.id),
            "score": self.score,
            "preferred": self.preferred,
            "reason": self.reason,
            "prompt_version": self.prompt_version,
        }


class Bench:
    """A run's judge at work.

    Args:
        ctx: The worker's.
        run: Whose answers are judged.
        judge: Who judges.
        stopped: Once it is set, the judge is asked no more.

    A run that scores another one's answers again has the verdicts that are known, and no others.
    """

    def __init__(self, ctx: Context, run: Run, judge: Judge, stopped: asyncio.Event) -> None:
        self._ctx = ctx
        self._run = run
        self._stopped = stopped
        self.judge = judge

    async def score(self, question: Question, answer: str, *, vote: int, asker: Asker) -> Verdict:
        """Return the score of one answer.

        Raises:
            JudgeFailedError: The judge can't be asked, or its replies can't be read.
            CallStoppedError: The run has ended.
        """
        scale = self.judge.scale
        return await self._verdict(
            question,
            [answer],
            vote=vote,
            asker=asker,
            version=SCORE_PROMPT_VERSION,
            messages=lambda: score_messages(question, answer, scale),
            response_format=score_response_format(scale),
            read=lambda text: read_score(text, scale),
        )

    async def compare(
        self, question: Question, first: str, second: str, *, asker: Asker
    ) -> Verdict:
        """Return which of two answers is preferred, shown in this order.

        Raises:
            JudgeFailedError: The judge can't be asked, or its replies can't be read.
            CallStoppedError: The run has ended.
        """
        return await self._verdict(
            question,
            [first, second],
            vote=0,
            asker=asker,
            version=PAIRWISE_PROMPT_VERSION,
            messages=lambda: pairwise_messages(question, first, second),
            response_format=pairwise_response_format(),
            read=read_preference,
        )

    async def _verdict(
        self,
        question: Question,
        answers: Sequence[str],
        *,
        vote: int,
        asker: Asker,
        version: str,
        messages: Callable[[], list[dict[str, str]]],
        response_format: Mapping[str, Any],
        read: Callable[[str], ScoreVerdict | PreferenceVerdict],
    ) -> Verdict:
        key = self.judge.key(version, question, answers, vote)

        async def ask() -> Verdict:
            return await self._ask(
                key, messages(), response_format, read, vote=vote, asker=asker, version=version
            )

        # What is known is looked up behind the gate too: the database has fewer connections than
        # a run has answers.
        async with self._ctx.services.gate.of(self._run.workspace_id, self.judge.target.provider):
            if self._stopped.is_set():
                raise CallStoppedError
            return await self._find_or_ask(key, ask)

    async def _find_or_ask(
        self, key: bytes, ask: Callable[[], Coroutine[Any, Any, Verdict]]
    ) -> Verdict:
        known = await find_verdict(self._ctx, key)
        if known is not None:
            return known
        if self._run.kind == "rescore":
            raise JudgeFailedError(
                "verdict_missing: the judge was never asked this, and scoring again asks nobody"
            )

        verdicts = self._ctx.services.verdicts_under_way
        verdict: Verdict = await verdicts.share((self._run.workspace_id, key), ask)
        return verdict

    async def _ask(
        self,
        key: bytes,
        messages: Sequence[dict[str, str]],
        response_format: Mapping[str, Any],
        read: Callable[[str], ScoreVerdict | PreferenceVerdict],
        *,
        vote: int,
        asker: Asker,
        version: str,
    ) -> Verdict:
        """Ask until a reply can be read, and store every call, the useless ones too."""
        params = {**self.judge.params, "response_format": dict(response_format)}
        said = {"prompt_version": version, "vote": vote}
        costs: list[Decimal | None] = []
        complaint = ""
        for _ in range(REPLY_RETRIES + 1):
            call = call_for(
                self._ctx, self._run, self.judge.target, messages, params,
                source=CallSource.JUDGE, stopped=self._stopped,
            )  # fmt: skip
            async with call as (outcome, released_usd):
                costs.append(outcome.cost_usd)
                verdict = None
                if outcome.answer is not None:
                    try:
                        verdict = _verdict_of(read(outcome.answer.output), version)
                        verdict = replace(verdict, reason=await self._redact(verdict.reason))
                    except VerdictError as error:
                        complaint = await self._redact(str(error))
                trace = self._trace(asker, outcome, messages, said)
                row = None
                if verdict is not None:
                    row = {**self._row(verdict, asker, costs), "key": key, "vote": vote}
                await self._store(trace, row, released_usd)
            if outcome.error is not None:
                summary = await self._redact(outcome.error.summary)
                raise JudgeFailedError(f"judge_failed: {summary}", costs)
            if verdict is not None:
                return verdict
        raise JudgeFailedError(
            f"unreadable_verdict: none of {len(costs)} replies could be read: {complaint}", costs
        )

    async def _redact(self, text: str) -> str:
        """Return what a judge says as it may be stored: it quotes what it judges."""
        get = partial(self._ctx.services.redactors.get, self._run.workspace_id)
        return await redact_text(await retry_outage(get), text)  # it is paid for

    def _trace(
        self,
        asker: Asker,
        outcome: CallOutcome,
        messages: Sequence[dict[str, str]],
        said: Mapping[str, Any],
    ) -> dict[str, Any]:
        return trace_values(
            new_id(),
            asker.subject._replace(model=self.judge.model),
            self.judge.target,
            outcome,
            input=None,
            messages=messages,
            metadata={"role": "judge", "position": asker.position, **said},
        )

    def _row(
        self, verdict: Verdict, asker: Asker, costs: Sequence[Decimal | None]
    ) -> dict[str, Any]:
        return {
            "id": verdict.id,
            "workspace_id": self._run.workspace_id,
            "run_id": self._run.id,
            "candidate_id": asker.subject.candidate_id,
            "position": asker.position,
            "judge_model": self.judge.model,
            "prompt_version": verdict.prompt_version,
            "attempts": len(costs),
            "score": verdict.score,
            "preferred": verdict.preferred,
            "reason": verdict.reason,
            "cost_usd": sum_usd(costs),
        }

    async def _store(
        self, trace: Mapping[str, Any], row: Mapping[str, Any] | None, released_usd: Decimal
    ) -> None:
        async def store(session: WriteSession) -> None:
            traces = self._ctx.services.traces
            stored = await traces.store(session, await traces.prepare([trace]))
            if row is not None:
                values = {**row, "trace_id": trace["id"]}
                await session.execute(insert(JudgeVerdict).values(values).on_conflict_do_nothing())
            if stored and released_usd:
                await release_costs(session, Run, [(self._run.id, released_usd)])

        await store_patiently(self._ctx.database, store)


async def find_verdict(ctx: Context, key: bytes) -> Verdict | None:
    """Return a verdict that the workspace has paid for, if there is one."""
    async with ctx.database.read() as session:
        row = await session.scalar(
            select(JudgeVerdict).where(
                JudgeVerdict.workspace_id == ctx.workspace_id, JudgeVerdict.key == key
            )
        )
    if row is None:
        return None
    return Verdict(row.id, row.score, row.preferred, row.reason, row.prompt_version)


def _verdict_of(said: ScoreVerdict | PreferenceVerdict, version: str) -> Verdict:
    return Verdict(
        id=new_id(),
        score=said.score if isinstance(said, ScoreVerdict) else None,
        preferred=said.preferred if isinstance(said, PreferenceVerdict) else None,
        reason=said.reason,
        prompt_version=version,
    )
