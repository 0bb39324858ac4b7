"""Ranking statistics: from every candidate's results on the same rows to an order."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_EVEN, Context, Decimal
from uuid import UUID

# Our own context, so that no caller's precision or rounding changes what a model costs.
_MONEY = Context(prec=60, rounding=ROUND_HALF_EVEN)
_NINE_PLACES = Decimal("1e-9")


@dataclass(frozen=True, slots=True)
class CandidateResults:
    """What one candidate did.

    Attributes:
        candidate_id: The candidate.
        scores: One score a row; a row that failed is in it as 0.0.
        latencies_ms: One latency for each row that was answered.
        cost_usd: What all its calls cost together; None when unknown.
        error_count: Rows that failed.
    """

    candidate_id: UUID
    scores: Sequence[float]
    latencies_ms: Sequence[float]
    cost_usd: Decimal | None
    error_count: int


@dataclass(frozen=True, slots=True)
class RankedCandidate:
    """One line of a ranking.

    Attributes:
        candidate_id: The candidate.
        rank: 1 is the best; no two candidates share a rank.
        score: The mean of its scores, 0.0 without rows.
        row_count: Rows it was scored on.
        error_count: Rows that failed.
        latency_ms_p50: Median latency; None when nothing was answered.
        latency_ms_p95: 95th percentile of latency; None when nothing was answered.
        cost_usd: What all its calls cost together; None when unknown.
        cost_usd_per_1k: Cost of 1,000 rows, to nine places; None when unknown or without rows.
    """

    candidate_id: UUID
    rank: int
    score: float
    row_count: int
    error_count: int
    latency_ms_p50: float | None
    latency_ms_p95: float | None
    cost_usd: Decimal | None
    cost_usd_per_1k: Decimal | None


def rank_candidates(results: Sequence[CandidateResults]) -> list[RankedCandidate]:
    """Order candidates by mean score, then price, then speed.

    Equal scores go to the cheaper by `cost_usd_per_1k`, then to the faster by median latency
    (an unknown price or latency comes last), then to the smaller candidate id, so that an
    order never depends on the order of the arguments. A candidate that answered nothing cost
    nothing, and is last of its equals all the same.

    Args:
        results: One for each candidate, on the same rows.

    Returns:
        The candidates, best first, with ranks 1 to n.

    Raises:
        ValueError: A score is NaN or infinite; the message names the candidate.
    """
    best_first = sorted((_summarize(result) for result in results), key=_sort_key)
    return [replace(candidate, rank=rank) for rank, candidate in enumerate(best_first, start=1)]


def percentile(values: Sequence[float], q: float) -> float:
    """Compute a percentile by linear interpolation between the two nearest values.

    Args:
        values: At least one value, in any order.
        q: Which percentile, 0 to 100: 50 is the median.

    Returns:
        The percentile, in the values' unit.

    Raises:
        ValueError: There are no values, or `q` is outside 0 to 100.

    Source: R. J. Hyndman and Y. Fan, "Sample Quantiles in Statistical Packages", The American
    Statistician 50 (1996), definition 7; the default of R, NumPy and spreadsheets.
    """
    if not values:
        raise ValueError("a percentile needs at least one value")
    if not 0 <= q <= 100:  # noqa: PLR2004 (a percentage's ends)
        raise ValueError(f"q must be between 0 and 100, not {q}")
    ordered = sorted(values)
    position = (len(ordered) - 1) * q / 100
    index = math.floor(position)
    lower = ordered[index]
    upper = ordered[min(index + 1, len(ordered) - 1)]
    return min(lower + (upper - lower) * (position - index), upper)


def _summarize(result: CandidateResults) -> RankedCandidate:
    # statistics.mean sums exactly, so equal scores stay equal however many rows there are.
    score = float(statistics.mean(result.scores)) if result.scores else 0.0
    if not math.isfinite(score):
        raise ValueError(f"candidate {result.candidate_id} has a score that is not a number")
    latencies_ms = result.latencies_ms
    return RankedCandidate(
        candidate_id=result.candidate_id,
        rank=0,
        score=score,
        row_count=len(result.scores),
        error_count=result.error_count,
        latency_ms_p50=percentile(latencies_ms, 50) if latencies_ms else None,
        latency_ms_p95=percentile(latencies_ms, 95) if latencies_ms else None,
        cost_usd=result.cost_usd,
        cost_usd_per_1k=_cost_usd_per_1k(result.cost_usd, len(result.scores)),
    )


def _cost_usd_per_1k(cost_usd: Decimal | None, row_count: int) -> Decimal | None:
    if cost_usd is None or row_count == 0:
        return None
    cost_usd_per_1k = _MONEY.divide(_MONEY.multiply(cost_usd, 1000), row_count)
    return cost_usd_per_1k.quantize(_NINE_PLACES, context=_MONEY)


def _sort_key(candidate: RankedCandidate) -> tuple[float, bool, Decimal, float, UUID]:
    cost_usd, latency_ms = candidate.cost_usd_per_1k, candidate.latency_ms_p50
    return (
        -candidate.score,
        latency_ms is None,
        Decimal("Infinity") if cost_usd is None else cost_usd,
        math.inf if latency_ms is None else latency_ms,
        candidate.candidate_id,
    )
