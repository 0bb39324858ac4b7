"""What follows when all queued calls of a run are stored: more of them, or its end and ranking."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import case, func, select, update

from db.models import (
    Run,
    RunCandidate,
    RunComparison,
    RunResult,
)
from db.session import ReadSession
from engine.racing import RacingRule, find_beaten
from engine.ranking import CandidateFigures, RankedCandidate, rank_candidates
from resolvers.auth import SYSTEM, requires
from resolvers.context import Context
from resolvers.failures import explain_errors
from resolvers.improvement_proposals import write_proposal
from resolvers.improvements import complete_improvement
from resolvers.loaders.runs import counted_score
from resolvers.review_counts import count_reviews, settle_preferences
from resolvers.run_judging import WORTH
from resolvers.run_lifecycle import (
    RUN_SHARD,
    await_review,
    finish_run,
    lock_leaderboard,
    lock_run,
)
from resolvers.run_preparation import enqueue_shards, read_positions
from resolvers.run_ranking import store_ranking
from resolvers.shards import count_unfinished_shards

AT_WORK = ("running", "awaiting_review")
READ_RESULTS = 5_000
RACING = RacingRule()


@requires(SYSTEM)
async def advance_run(ctx: Context, run_id: UUID) -> None:
    """Let a run whose queued calls are all stored go on, or end it.

    A run that stops early looks at its scores: who can no longer win is asked no more, and while
    more than one are left the next rows are queued. Of any other run, or behind the last row, the
    results are ranked.
    """
    async with ctx.database.read() as session:
        run = await session.get(Run, run_id)
        if run is None or run.status not in AT_WORK or run.snapshot_id is None:
            return
        if await count_unfinished_shards(session, run_id, kind=RUN_SHARD):
            return  # somebody else has let it go on
        scores = await _read_scores(session, run) if run.stops_early else None
    if scores is not None and await _race_on(ctx, run, scores):
        return
    if "human" in run.evaluation and await _leave_to_people(ctx, run_id):
        return
    await _end(ctx, run_id)


async def _leave_to_people(ctx: Context, run_id: UUID) -> bool:
    """Let a run wait for its reviewers; tell whether there are answers left that it needs."""
    async with ctx.database.write() as session:
        run = await lock_run(session, run_id)
        if run is None or run.status not in AT_WORK:
            return True
        if (await count_reviews(session, run)).left:
            if run.status == "running":
                await await_review(ctx, session, run)
            return True
        await settle_preferences(session, run)
    return False


@dataclass(frozen=True, slots=True)
class _Scores:
    """Every score of a run.

    Attributes:
        candidate_ids: One for each column.
        values: Shape (rows in the order in which they are asked, candidates); NaN where there is
            no score.
        positions: The rows' places in the snapshot.
        asked: How many rows have been asked, of somebody at least.
    """

    candidate_ids: Sequence[UUID]
    values: NDArray[np.float64]
    positions: Sequence[int]
    asked: int


async def _read_scores(session: ReadSession, run: Run) -> _Scores:
    ids = select(RunCandidate.candidate_id).where(RunCandidate.run_id == run.id)
    candidate_ids = list(await session.scalars(ids.order_by(RunCandidate.position)))
    columns = {candidate_id: column for column, candidate_id in enumerate(candidate_ids)}
    positions = await read_positions(session, run)
    rows = {position: row for row, position in enumerate(positions)}
    values = np.full((len(positions), len(candidate_ids)), np.nan)
    asked = 0
    statement = select(
        RunResult.candidate_id,
        RunResult.position,
        counted_score(run.evaluation),
    ).where(RunResult.run_id == run.id)
    # Streamed: a long run's results are far larger than their scores.
    results = await session.stream(statement, execution_options={"yield_per": READ_RESULTS})
    async for batch in results.partitions():
        for candidate_id, position, score in batch:
            row = rows[position]
            asked = max(asked, row + 1)
            if score is not None:
                values[row, columns[candidate_id]] = score
    return _Scores(candidate_ids, values, positions, asked)


async def _race_on(ctx: Context, run: Run, scores: _Scores) -> bool:
    """Stop asking who can no longer win, and queue the next rows; tell whether there are any."""
    asked = scores.values[: scores.asked]
    async with ctx.database.write() as session:
        locked = await lock_run(session, run.id)
        if locked is None or locked.status != "running":
            return True
        if await count_unfinished_shards(session, run.id, kind=RUN_SHARD):
            return True
        racing = await _racing(session, run.id)
        columns = [scores.candidate_ids.index(candidate_id) for candidate_id in racing]
        # An answer whose judge failed is taken for wrong here: its candidate may stop too early.
        beaten = find_beaten(
            np.nan_to_num(asked[:, columns]),
            RACING,
            entrants=len(scores.candidate_ids),
            row_count=len(scores.positions),
        )
        out = [each for each, is_out in zip(racing, beaten, strict=True) if is_out]
        has_more = scores.asked < len(scores.positions)
        if has_more and len(racing) - len(out) == 1:
            out, has_more = racing, False  # the one that is left has won: nobody is asked more
        if scores.asked < len(scores.positions):
            await session.execute(
                update(RunCandidate)
                .where(RunCandidate.run_id == run.id, RunCandidate.candidate_id.in_(out))
                .values(asked_row_count=scores.asked)
            )
        if has_more:
            await enqueue_shards(ctx, session, locked, scores.positions, asked=scores.asked)
        return has_more


async def _racing(session: ReadSession, run_id: UUID) -> list[UUID]:
    statement = select(RunCandidate.candidate_id).where(
        RunCandidate.run_id == run_id, RunCandidate.asked_row_count.is_(None)
    )
    return list(await session.scalars(statement.order_by(RunCandidate.position)))


async def _end(ctx: Context, run_id: UUID) -> None:
    """Rank a run, or have it propose; one in which nothing succeeded fails instead.

    A ranking of failures would say nothing of the models, and put one of them
    into production.
    """
    async with ctx.database.read() as session:
        run = await session.get_one(Run, run_id)
        scores = await _read_scores(session, run)
        figures = await _read_figures(session, run_id, scores.candidate_ids)
        failure = None
        if all(each.error_count == each.row_count for each in figures):
            failure = await _explain_failure(session, run_id)
        elif not np.count_nonzero(~np.isnan(scores.values)):
            failure = "no answer has a score that counts"
        elif "judge" in run.evaluation:
            failure = await _find_unjudged(session, run_id)
        wins = await _read_wins(session, run_id, scores.candidate_ids)
    ranking = None
    if failure is None and run.kind == "improve_dataset":
        await write_proposal(ctx, run, scores.positions, _mean_scores(scores))
    elif failure is None and run.kind != "replay":
        # Resampling is work for the processor: not on the event loop.
        ranking = await asyncio.to_thread(_rank, run, scores, figures, wins)
    async with ctx.database.write() as session:
        locked = await lock_run(session, run_id)
        if locked is None or locked.status not in AT_WORK:
            return
        if failure is not None:
            await finish_run(ctx, session, locked, "failed", error=failure)
            return
        if run.kind == "improve_dataset":
            await complete_improvement(ctx, session, locked)
        if ranking is not None:
            board = await lock_leaderboard(session, run.leaderboard_id)
            await store_ranking(ctx, session, locked, board, *ranking)
        await finish_run(ctx, session, locked, "completed")


def _mean_scores(scores: _Scores) -> dict[UUID, float]:
    """Return each candidate's mean score, 0 where it has none."""
    scored = np.maximum(np.sum(~np.isnan(scores.values), axis=0), 1)
    means = np.nansum(scores.values, axis=0) / scored
    return dict(zip(scores.candidate_ids, means.tolist(), strict=True))


def _rank(
    run: Run,
    scores: _Scores,
    figures: Sequence[CandidateFigures],
    wins: NDArray[np.float64] | None,
) -> tuple[list[RankedCandidate], NDArray[np.float64]]:
    """Return the ranking, and the scores with their columns in its order."""
    ranked = rank_candidates(scores.values, figures, seed=run.dataset_size["seed"], wins=wins)
    columns = [scores.candidate_ids.index(each.figures.candidate_id) for each in ranked]
    return ranked, scores.values[:, columns]


async def _read_figures(
    session: ReadSession, run_id: UUID, candidate_ids: Sequence[UUID]
) -> list[CandidateFigures]:
    """Return what each candidate did; a cost that is unknown makes its sum unknown."""
    answered = RunResult.error.is_(None)
    statement = (
        select(
            RunResult.candidate_id,
            func.count(),
            func.count(RunResult.error),
            func.percentile_cont(0.5).within_group(RunResult.latency_ms).filter(answered),
            func.percentile_cont(0.95).within_group(RunResult.latency_ms).filter(answered),
            case((func.count(RunResult.cost_usd) == func.count(), func.sum(RunResult.cost_usd))),
        )
        .where(RunResult.run_id == run_id)
        .group_by(RunResult.candidate_id)
    )
    found = {row[0]: CandidateFigures(*row) for row in await session.execute(statement)}
    nothing = (0, 0, None, None, Decimal(0))
    return [
        found.get(candidate_id, CandidateFigures(candidate_id, *nothing))
        for candidate_id in candidate_ids
    ]


async def _read_wins(
    session: ReadSession, run_id: UUID, candidate_ids: Sequence[UUID]
) -> NDArray[np.float64] | None:
    """Return how often each candidate was preferred to each other, a tie half for both.

    None for a run whose answers were not compared in pairs.
    """
    pair = (RunComparison.first_candidate_id, RunComparison.second_candidate_id)
    statement = (
        select(*pair, RunComparison.outcome, func.count())
        .where(RunComparison.run_id == run_id)
        .group_by(*pair, RunComparison.outcome)
    )
    counts = (await session.execute(statement)).all()
    if not counts:
        return None
    columns = {candidate_id: column for column, candidate_id in enumerate(candidate_ids)}
    wins = np.zeros((len(columns), len(columns)))
    for first_id, second_id, outcome, count in counts:
        first, second = columns[first_id], columns[second_id]
        worth = WORTH[outcome]
        wins[first, second] += worth[0] * count
        wins[second, first] += worth[1] * count
    return wins


async def _find_unjudged(session: ReadSession, run_id: UUID) -> str | None:
    """Say how many answers the judge has not seen; None when it has seen all."""
    pending = select(func.count()).where(RunResult.run_id == run_id, RunResult.is_pending)
    count = await session.scalar(pending)
    return f"{count} answers were not judged" if count else None


async def _explain_failure(session: ReadSession, run_id: UUID) -> str:
    """Say what went wrong most often in a run whose every call failed."""
    errors = await session.scalars(select(RunResult.error).where(RunResult.run_id == run_id))
    return explain_errors(errors) or "there is no result to rank"
