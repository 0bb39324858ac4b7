"""What a run costs: what it is expected to, and what it can at most."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, true

from db.models import Candidate, DatasetSnapshot, JudgeVerdict, Run, RunCandidate, RunResult
from db.session import ReadSession
from engine.prompts import render_prompt
from providers.base import ChatTarget
from resolvers.call_totals import SHOWN_PLACES, ZERO, CallTotal, Expectation
from resolvers.context import Context
from resolvers.errors import InvalidInputError
from resolvers.snapshot_storage import read_inputs

READ_ROWS = 500
# A candidate's latest answers, from which its next ones are expected.
SEEN_RESULTS = 500


@dataclass(frozen=True, slots=True)
class CandidateEstimate(Expectation):
    """What a run's calls of one candidate may cost."""

    candidate_id: UUID


@dataclass(frozen=True, slots=True)
class RunEstimate:
    """What a run may cost, in US dollars, if no candidate stops early.

    Attributes:
        call_count: Calls of candidates.
        judge_usd: What the judge's verdicts are expected to cost; 0 without a judge, None when
            nothing is known of it.
    """

    row_count: int
    call_count: int
    candidates: Sequence[CandidateEstimate]
    judge_usd: Decimal | None = ZERO
    is_judged: bool = False

    @property
    def expected_usd(self) -> Decimal | None:
        """What it is expected to cost; None when a part of it is not known."""
        return sum_usd([*(each.expected_usd for each in self.candidates), self.judge_usd])

    @property
    def is_measured(self) -> bool:
        """Whether all of the expectation rests on earlier calls."""
        return all(each.basis == "measured" for each in self.candidates)

    @property
    def most_usd(self) -> Decimal | None:
        """The most that it can cost; None when a part of it is not known, as a judge's is.

        What a judge is sent depends on what is answered.
        """
        if self.is_judged:
            return None
        return sum_usd([each.most_usd for each in self.candidates])


def sum_usd(parts: Sequence[Decimal | None]) -> Decimal | None:
    """Return the sum of amounts; None when a part of it is not known."""
    known = [part for part in parts if part is not None]
    return sum(known, ZERO) if len(known) == len(parts) else None


async def estimate_calls(
    ctx: Context, run: Run, snapshot: DatasetSnapshot, positions: Sequence[int]
) -> RunEstimate:
    """Work out what the calls of a run's rows may cost.

    What is expected of a candidate is what its latest calls on this leaderboard cost on average;
    before there are any, its prices times a guess of the tokens.
    """
    async with ctx.database.read() as session:
        entrants = (
            await session.scalars(
                select(RunCandidate)
                .where(RunCandidate.run_id == run.id)
                .order_by(RunCandidate.position)
            )
        ).all()
    return await estimate_entrants(
        ctx, entrants, run.system_prompt, run.evaluation, snapshot, positions
    )


async def estimate_entrants(
    ctx: Context,
    entrants: Sequence[RunCandidate],
    system_prompt: str,
    evaluation: Mapping[str, Any],
    snapshot: DatasetSnapshot,
    positions: Sequence[int],
) -> RunEstimate:
    """Work out what calling *entrants* on rows of a snapshot may cost; see `estimate_calls`."""
    most = ctx.services.limits.default_max_tokens
    totals = [CallTotal(_target_of(entrant), default_max_tokens=most) for entrant in entrants]
    for start in range(0, len(positions), READ_ROWS):
        inputs = await read_inputs(ctx, snapshot, positions[start : start + READ_ROWS])
        await asyncio.to_thread(_add_rows, totals, system_prompt, inputs)
    async with ctx.database.read() as session:
        seen = await _mean_costs(session, [each.candidate_id for each in entrants])
        judge_usd = await _judge_cost(
            session, ctx.workspace_id, evaluation, len(positions), len(entrants)
        )
    return RunEstimate(
        row_count=len(positions),
        call_count=len(positions) * len(entrants),
        candidates=[
            _of_candidate(total, seen[entrant.candidate_id], len(positions), entrant.candidate_id)
            for entrant, total in zip(entrants, totals, strict=True)
        ],
        judge_usd=judge_usd,
        is_judged="judge" in evaluation,
    )


async def _mean_costs(
    session: ReadSession, candidate_ids: Sequence[UUID]
) -> dict[UUID, Decimal | None]:
    """Return the mean cost of each candidate's latest answers; None when none of them tells."""
    latest = (
        select(RunResult.cost_usd)
        .where(RunResult.candidate_id == Candidate.id, RunResult.error.is_(None))
        .order_by(RunResult.id.desc())
        .limit(SEEN_RESULTS)
        .lateral()
    )
    statement = (
        select(Candidate.id, func.avg(latest.c.cost_usd))
        .outerjoin(latest, true())
        .where(Candidate.id.in_(candidate_ids))
        .group_by(Candidate.id)
    )
    return {row[0]: row[1] for row in await session.execute(statement)}


async def _judge_cost(
    session: ReadSession,
    workspace_id: UUID,
    evaluation: Mapping[str, Any],
    rows: int,
    entrants: int,
) -> Decimal | None:
    """Return what a judge's verdicts cost if each does what its latest ones did on average."""
    judge = evaluation.get("judge")
    if judge is None:
        return ZERO
    latest = (
        select(JudgeVerdict.cost_usd)
        .where(
            JudgeVerdict.workspace_id == workspace_id, JudgeVerdict.judge_model == judge["model"]
        )
        .order_by(JudgeVerdict.id.desc())
        .limit(SEEN_RESULTS)
        .subquery()
    )
    mean_usd = await session.scalar(select(func.avg(latest.c.cost_usd)))
    verdicts = rows * entrants * evaluation.get("judge_votes", 1)
    if evaluation.get("judge_mode") == "pairwise":
        verdicts = rows * entrants * (entrants - 1)
    return None if mean_usd is None else round(mean_usd * verdicts, SHOWN_PLACES)


def _of_candidate(
    total: CallTotal, mean_usd: Decimal | None, count: int, candidate_id: UUID
) -> CandidateEstimate:
    found = total.expect(mean_usd, count)
    return CandidateEstimate(found.expected_usd, found.most_usd, found.basis, candidate_id)


def _target_of(entrant: RunCandidate) -> ChatTarget:
    """Return an entrant as its calls are priced; it can't be called."""
    return ChatTarget(
        provider=entrant.provider,
        model_id=entrant.model_id,
        url=entrant.endpoint_url,
        headers={},
        params=entrant.params,
        timeout_seconds=entrant.timeout_seconds,
        input_price_per_million_usd=entrant.input_price_per_million_usd,
        output_price_per_million_usd=entrant.output_price_per_million_usd,
    )


def _add_rows(totals: Sequence[CallTotal], system_prompt: str, inputs: Sequence[str]) -> None:
    for text in inputs:
        messages = [{"role": "user", "content": render_prompt(system_prompt, text)}]
        for total in totals:
            total.add(messages)


def require_prices(
    entrants: Sequence[RunCandidate], judge: Mapping[str, str | None] | None
) -> None:
    """Refuse a ceiling over a candidate, or a judge, whose calls it can't hold.

    Raises:
        InvalidInputError: Somebody's prices are not known; the message names it.
    """
    if judge is not None and None in judge.values():
        raise InvalidInputError(
            f"max_cost_usd: what the judge {judge['model']} costs is not known, so a ceiling can't "
            "hold it",
            details={"field": "max_cost_usd"},
        )
    for entrant in entrants:
        if None in (entrant.input_price_per_million_usd, entrant.output_price_per_million_usd):
            raise InvalidInputError(
                f"max_cost_usd: what model {entrant.candidate_id} costs is not known, so a ceiling "
                "can't hold it: add it with input_price_per_million_usd and "
                "output_price_per_million_usd (0 if it is free)",
                details={
                    "field": "max_cost_usd",
                    "leaderboard_model_id": str(entrant.candidate_id),
                },
            )
