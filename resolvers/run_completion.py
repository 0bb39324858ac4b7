"""The end of a run whose every result is stored: its ranking, or why there is none."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import select

from db.base import new_id
from db.models import Ranking, RankingEntry, Run, RunResult
from db.session import WriteSession
from engine.ranking import CandidateResults, rank_candidates


async def complete_run(session: WriteSession, run: Run) -> None:
    """Rank a run; one in which nothing succeeded fails instead, and ranks nobody.

    A ranking of failures would say nothing of the models, and put one of them
    into production.
    """
    now = datetime.now(UTC)
    run.finished_at = now
    results = await _results(session, run.id)
    if results and all(each.error_count == len(each.scores) for each in results):
        run.status, run.error = "failed", await _explain_failure(session, run.id)
        return
    await _store_ranking(session, run, results, now)
    run.status = "completed"


async def _explain_failure(session: WriteSession, run_id: UUID) -> str:
    """Say what went wrong most often in a run whose every call failed."""
    errors = await session.scalars(select(RunResult.error).where(RunResult.run_id == run_id))
    reasons = Counter(error or "unknown" for error in errors)
    # In a fixed order, so that of two that are as common the same one is named.
    reason, times = min(reasons.items(), key=lambda item: (-item[1], item[0]))
    total = reasons.total()
    share = "" if times == total else f", {times} of them"
    return f"all {total} calls failed{share} with {reason}"


async def _store_ranking(
    session: WriteSession, run: Run, results: Sequence[CandidateResults], now: datetime
) -> None:
    ranking = Ranking(
        id=new_id(),
        workspace_id=run.workspace_id,
        leaderboard_id=run.leaderboard_id,
        run_id=run.id,
        row_count=run.row_count or 0,
        completed_at=now,
    )
    session.add(ranking)
    await session.flush()
    for ranked in rank_candidates(results):
        session.add(
            RankingEntry(
                ranking_id=ranking.id,
                candidate_id=ranked.candidate_id,
                rank=ranked.rank,
                score=ranked.score,
                row_count=ranked.row_count,
                error_count=ranked.error_count,
                latency_ms_p50=ranked.latency_ms_p50,
                latency_ms_p95=ranked.latency_ms_p95,
                cost_usd=ranked.cost_usd,
                cost_usd_per_1k=ranked.cost_usd_per_1k,
            )
        )


async def _results(session: WriteSession, run_id: UUID) -> list[CandidateResults]:
    """Gather a run's results by candidate; a cost that is unknown makes its sum unknown."""
    scores: dict[UUID, list[float]] = defaultdict(list)
    latencies: dict[UUID, list[float]] = defaultdict(list)
    costs: dict[UUID, Decimal | None] = defaultdict(Decimal)
    errors: dict[UUID, int] = defaultdict(int)
    statement = select(
        RunResult.candidate_id,
        RunResult.score,
        RunResult.error,
        RunResult.latency_ms,
        RunResult.cost_usd,
    ).where(RunResult.run_id == run_id)
    for candidate_id, score, error, latency_ms, cost_usd in await session.execute(statement):
        scores[candidate_id].append(score)
        if error is None:
            latencies[candidate_id].append(latency_ms)
        else:
            errors[candidate_id] += 1
        total = costs[candidate_id]
        costs[candidate_id] = None if total is None or cost_usd is None else total + cost_usd
    return [
        CandidateResults(
            candidate_id=candidate_id,
            scores=scores[candidate_id],
            latencies_ms=latencies[candidate_id],
            cost_usd=costs[candidate_id],
            error_count=errors[candidate_id],
        )
        for candidate_id in scores
    ]
