"""Rankings: from every candidate's scores on the same rows to an order, and how sure it is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from engine.bradley_terry import fit_bradley_terry
from engine.comparisons import PairedComparison, compare_all, pareto_front, rank_bands
from engine.intervals import mean_intervals

CONFIDENCE = 0.95
# Our own context, so that no caller's precision or rounding changes what a model costs.
_MONEY = Context(prec=60, rounding=ROUND_HALF_EVEN)
_NINE_PLACES = Decimal("1e-9")


@dataclass(frozen=True, slots=True)
class CandidateFigures:
    """What one candidate did, beside its scores.

    Attributes:
        candidate_id: The candidate.
        row_count: Rows it was asked.
        error_count: Rows that failed.
        latency_ms_p50: Median latency of its answers; None when nothing was answered.
        latency_ms_p95: 95th percentile of that latency.
        cost_usd: What all its calls cost together; None when a part of it is unknown.
    """

    candidate_id: UUID
    row_count: int
    error_count: int
    latency_ms_p50: float | None
    latency_ms_p95: float | None
    cost_usd: Decimal | None

    @property
    def cost_usd_per_1k(self) -> Decimal | None:
        """Cost of 1,000 rows in US dollars, to nine places; None when unknown or without rows."""
        if self.cost_usd is None or self.row_count == 0:
            return None
        cost_usd_per_1k = _MONEY.divide(_MONEY.multiply(self.cost_usd, 1000), self.row_count)
        return cost_usd_per_1k.quantize(_NINE_PLACES, context=_MONEY)


@dataclass(frozen=True, slots=True)
class Strength:
    """A candidate's Bradley-Terry strength and its interval, on the natural log scale."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class RankedCandidate:
    """One line of a ranking.

    Attributes:
        figures: What the candidate did.
        rank: 1 is the best; no two candidates share a rank.
        band: Candidates that can't be told apart share one; 1 is the best.
        score: The mean of its scores, 0.0 without any.
        score_low: Lower end of the mean's interval.
        score_high: Upper end of it.
        scored_row_count: Rows it was scored on.
        is_on_pareto_front: Nobody else is as good and as cheap, and better in one of both.
        next_comparison: With the candidate of the next rank; None for the last.
        strength: From comparisons in pairs; None when there were none.
    """

    figures: CandidateFigures
    rank: int
    band: int
    score: float
    score_low: float
    score_high: float
    scored_row_count: int
    is_on_pareto_front: bool
    next_comparison: PairedComparison | None
    strength: Strength | None


def rank_candidates(
    scores: NDArray[np.float64],
    figures: Sequence[CandidateFigures],
    *,
    seed: int,
    wins: NDArray[np.float64] | None = None,
) -> list[RankedCandidate]:
    """Order candidates by mean score, then price, then speed, and say how sure the order is.

    Equal scores go to the cheaper by `cost_usd_per_1k`, then to the faster by median latency
    (an unknown price or latency comes last), then to the smaller candidate id, so that an
    order never depends on the order of the arguments. A candidate that answered nothing cost
    nothing, and is last of its equals all the same.

    Args:
        scores: Shape (rows, candidates), 0 to 1; NaN where a candidate has no score.
        figures: One for each column of *scores*.
        seed: Of the resampling; the same seed and scores give the same ranking.
        wins: Shape (candidates, candidates): how often a row's candidate was preferred to a
            column's, a tie half for both; None when answers were not compared in pairs.

    Returns:
        The candidates, best first, with ranks 1 to n.

    Raises:
        ValueError: A score is infinite; the message names the candidate.
    """
    if not figures:
        return []
    best_first = sorted(
        range(len(figures)), key=lambda column: _sort_key(scores[:, column], figures[column])
    )
    return _describe(
        scores[:, best_first],
        [figures[column] for column in best_first],
        _strengths(wins, best_first),
        seed=seed,
    )


def _describe(
    scores: NDArray[np.float64],
    figures: Sequence[CandidateFigures],
    strengths: Sequence[Strength | None],
    *,
    seed: int,
) -> list[RankedCandidate]:
    """Return the lines of a ranking whose candidates are in its order already."""
    places = range(len(figures))
    means = [_mean(scores[:, place]) for place in places]
    lows, highs = mean_intervals(scores, seed=seed, confidence=CONFIDENCE)
    comparisons = compare_all(scores, seed=seed, confidence=CONFIDENCE)
    bands = rank_bands(places, comparisons.told_apart)
    front = pareto_front(means, [each.cost_usd_per_1k for each in figures])
    with_next = [comparisons.pair(place, place + 1) for place in places[:-1]]
    return [
        RankedCandidate(
            figures=figures[place],
            rank=place + 1,
            band=bands[place],
            score=means[place],
            score_low=float(lows[place]),
            score_high=float(highs[place]),
            scored_row_count=int(np.count_nonzero(~np.isnan(scores[:, place]))),
            is_on_pareto_front=front[place],
            next_comparison=with_next[place] if place < len(with_next) else None,
            strength=strengths[place],
        )
        for place in places
    ]


def _strengths(
    wins: NDArray[np.float64] | None, columns: Sequence[int]
) -> Sequence[Strength | None]:
    if wins is None or len(columns) < 2:  # noqa: PLR2004 (there is nobody to compare with)
        return [None] * len(columns)
    fitted = fit_bradley_terry(wins[np.ix_(columns, columns)], confidence=CONFIDENCE)
    ends = zip(fitted.strengths, fitted.low, fitted.high, strict=True)
    return [Strength(float(value), float(low), float(high)) for value, low, high in ends]


def _mean(scores: NDArray[np.float64]) -> float:
    """Return the mean of the scores that are there, the same in whatever order they come."""
    present = scores[~np.isnan(scores)]
    return math.fsum(present) / len(present) if len(present) else 0.0


def _sort_key(
    scores: NDArray[np.float64], figures: CandidateFigures
) -> tuple[float, bool, Decimal, float, UUID]:
    mean = _mean(scores)
    if not math.isfinite(mean):
        raise ValueError(f"candidate {figures.candidate_id} has a score that is not finite")
    cost_usd, latency_ms = figures.cost_usd_per_1k, figures.latency_ms_p50
    return (
        -mean,
        latency_ms is None,
        Decimal("Infinity") if cost_usd is None else cost_usd,
        math.inf if latency_ms is None else latency_ms,
        figures.candidate_id,
    )
