"""Comparisons of candidates on the same rows: which differences of scores are beyond chance."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from engine.intervals import (
    ROUNDING,
    Floats,
    bonett_price_interval,
    draw_kept,
    is_two_valued,
    multiply,
    score_interval,
    split_known,
    sum_over_rows,
)

FLIPS = 9_999

Alternative: TypeAlias = Literal["two-sided", "greater"]
Indexes: TypeAlias = NDArray[np.intp]


class Method(StrEnum):
    """How a p-value was computed."""

    MCNEMAR_EXACT = "mcnemar_exact"
    SIGN_FLIP = "sign_flip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One candidate's scores less another's, on the rows that both are scored on.

    Attributes:
        difference: The mean difference; 0 without common rows.
        low: The low end of its interval of confidence; -1 without common rows.
        high: The high end; 1 without common rows.
        p_value: How likely equal candidates are to differ at least as much.
        row_count: Rows that both are scored on.
        method: How the p-value was computed.
    """

    difference: float
    low: float
    high: float
    p_value: float
    row_count: int
    method: Method


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedComparison(Difference):
    """A difference that is one of a family.

    Attributes:
        p_value_adjusted: The p-value for the whole family of pairs.
    """

    p_value_adjusted: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedComparison(Difference):
    """A difference that was alone to be tested, decided upon before its data were seen.

    When it was asked whether a is better, each end of the interval is a bound by itself: with
    `low` above -margin, a is not inferior by that margin.

    Attributes:
        smallest_p_value: What the p-value would be, had all rows that differ done so in the
            direction asked for. When even this is not small enough, the data are too few.
    """

    smallest_p_value: float


@dataclass(frozen=True, slots=True, eq=False)
class Comparisons:
    """Every pair of candidates, compared.

    Attributes:
        pairs: The comparison of i with j, for each i < j.
        told_apart: (candidates, candidates); whether the pair's adjusted p-value is at most
            1 - confidence.
    """

    pairs: Mapping[tuple[int, int], PairedComparison]
    told_apart: NDArray[np.bool_]

    def pair(self, i: int, j: int) -> PairedComparison:
        """Return the comparison of candidate i with candidate j.

        Raises:
            KeyError: They are one candidate, or there is no such candidate.
        """
        if i < j:
            return self.pairs[i, j]
        pair = self.pairs[j, i]
        # Subtracted from 0.0, which has no negative twin, so that 0.0 stays 0.0.
        return replace(
            pair, difference=0.0 - pair.difference, low=0.0 - pair.high, high=0.0 - pair.low
        )


@dataclass(frozen=True, slots=True)
class _Pair:
    """What the rows say that two candidates have in common, before any drawing."""

    row_count: int
    difference: float
    low: float
    high: float
    wins: int
    losses: int
    method: Method


def compare_all(scores: Floats, *, seed: int, confidence: float = 0.95) -> Comparisons:
    """Compare every pair of candidates.

    The p-values are adjusted for all k (k - 1) / 2 pairs, not for neighbours in a ranking
    alone: which candidates are neighbours is itself read off the data, so that any pair might
    have been one. The intervals are of each pair by itself.

    Where both scored only 0 and 1, the test is McNemar's exact one and the interval is
    `bonett_price_interval`. Elsewhere the test flips the signs of differences at random, and
    the interval is `score_interval`.

    Args:
        scores: (rows, candidates), each in [0, 1]; NaN where a candidate has no score.
        seed: A non-negative integer; the same seed gives the same comparisons.
        confidence: Of each interval, and of telling no two equal candidates apart; between 0
            and 1.

    Returns:
        The comparisons. A pair without common rows has a p-value of 1: never told apart.

    Raises:
        ValueError: `confidence` is not between 0 and 1.
    """
    first, second = np.triu_indices(scores.shape[1], 1)
    names = list(zip(first.tolist(), second.tolist(), strict=True))
    pairs = [_observe(scores[:, i], scores[:, j], confidence) for i, j in names]
    p_values = np.array([exact_mcnemar(pair.wins, pair.losses) for pair in pairs])
    graded = [at for at, pair in enumerate(pairs) if pair.method is Method.SIGN_FLIP]
    if graded:
        i, j, found = first[graded], second[graded], [pairs[at] for at in graded]
        p_values[graded] = _flip_signs(scores, i, j, found, seed=seed, alternative="two-sided")
    adjusted = adjust_holm(p_values)
    told_apart = np.zeros((scores.shape[1],) * 2, dtype=np.bool_)
    told_apart[first, second] = told_apart[second, first] = adjusted <= 1 - confidence
    compared = {
        name: PairedComparison(
            difference=pair.difference,
            low=pair.low,
            high=pair.high,
            p_value=p_value,
            p_value_adjusted=p_value_adjusted,
            row_count=pair.row_count,
            method=pair.method,
        )
        for name, pair, p_value, p_value_adjusted in zip(
            names, pairs, p_values.tolist(), adjusted.tolist(), strict=True
        )
    }
    return Comparisons(compared, told_apart)


def compare_one(
    scores_a: Floats,
    scores_b: Floats,
    *,
    seed: int,
    confidence: float = 0.95,
    alternative: Alternative = "greater",
) -> PlannedComparison:
    """Compare two candidates, when this comparison alone was planned.

    Args:
        scores_a: One score a row, each in [0, 1]; NaN where there is none.
        scores_b: The same rows' scores of what a is compared with.
        seed: A non-negative integer; the same seed gives the same comparison.
        confidence: For `greater` of each end by itself, above 0.5; else of the interval.
        alternative: `greater` asks whether a is better, `two-sided` whether they differ.

    Returns:
        The comparison, with the methods of `compare_all`.

    Raises:
        ValueError: `confidence` is out of its range.
    """
    central = confidence if alternative == "two-sided" else 2 * confidence - 1
    pair = _observe(scores_a, scores_b, central)
    p_value = exact_mcnemar(pair.wins, pair.losses, alternative=alternative)
    if pair.method is Method.SIGN_FLIP:
        both, i, j = np.column_stack((scores_a, scores_b)), np.array([0]), np.array([1])
        (p_value,) = _flip_signs(both, i, j, [pair], seed=seed, alternative=alternative).tolist()
    return PlannedComparison(
        difference=pair.difference,
        low=pair.low,
        high=pair.high,
        p_value=p_value,
        smallest_p_value=_smallest_p_value(pair, alternative),
        row_count=pair.row_count,
        method=pair.method,
    )


def exact_mcnemar(wins: int, losses: int, *, alternative: Alternative = "two-sided") -> float:
    """Compute how likely equal candidates are to share the rows that differ at least so unevenly.

    Args:
        wins: Rows that the first candidate alone has right.
        losses: Rows that the second candidate alone has right.
        alternative: `greater` counts only more wins, `two-sided` either.

    Returns:
        The p-value, at most 1; 1 when no row differs.

    Source: Q. McNemar, "Note on the Sampling Error of the Difference Between Correlated
    Proportions or Percentages", Psychometrika 12 (1947); its exact conditional form as in
    M. W. Fagerland, S. Lydersen and P. Laake, "The McNemar Test for Binary Matched-Pairs Data",
    BMC Medical Research Methodology 13:91 (2013).
    """
    if alternative == "two-sided":
        return min(1.0, 2 * _at_most(min(wins, losses), wins + losses))
    if losses < wins:
        return _at_most(losses, wins + losses)
    return 1 - _at_most(wins - 1, wins + losses)


def adjust_holm(p_values: Floats) -> Floats:
    """Adjust a family's p-values so that any is small by chance only as often as one alone.

    Args:
        p_values: One for each hypothesis.

    Returns:
        Adjusted p-values in the same order, at most 1.

    Source: S. Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian
    Journal of Statistics 6 (1979).
    """
    order = np.argsort(p_values)
    stepped = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return adjusted


def rank_bands(order: Sequence[int], told_apart: NDArray[np.bool_]) -> list[int]:
    """Part a ranking into bands: a band ends where one is told apart from the band's first.

    Args:
        order: The candidates, best first.
        told_apart: (candidates, candidates), as in `Comparisons`.

    Returns:
        The band of each candidate in that order, from 1.
    """
    bands: list[int] = []
    band, head = 0, -1
    for candidate in order:
        if band == 0 or told_apart[head, candidate]:
            band, head = band + 1, candidate
        bands.append(band)
    return bands


def pareto_front(scores: Sequence[float], costs: Sequence[float | Decimal | None]) -> list[bool]:
    """Find the candidates that none beats: no other is better for no more, or as good for less.

    A candidate of unknown cost is not on the front, since others may be as good for less, and
    it keeps no other off. When no cost is known, nobody is on it.

    Args:
        scores: One for each candidate.
        costs: One for each candidate; None when unknown.

    Returns:
        Whether each is on the front; equals are on it together.
    """
    known = [(score, cost) for score, cost in zip(scores, costs, strict=True) if cost is not None]
    return [
        cost is not None
        and not any(s >= score and c <= cost and (s > score or c < cost) for s, c in known)
        for score, cost in zip(scores, costs, strict=True)
    ]


def _observe(scores_a: Floats, scores_b: Floats, confidence: float) -> _Pair:
    common = ~(np.isnan(scores_a) | np.isnan(scores_b))
    a, b = scores_a[common], scores_b[common]
    differences, row_count = a - b, len(a)
    wins = int(np.count_nonzero(differences > ROUNDING))
    losses = int(np.count_nonzero(differences < -ROUNDING))
    is_exact = is_two_valued(a, (0, 1)) and is_two_valued(b, (0, 1))
    if is_exact and row_count:
        low, high = bonett_price_interval(wins, losses, row_count, confidence=confidence)
    else:
        low, high = score_interval(differences, confidence=confidence, bounds=(-1, 1))
    return _Pair(
        row_count=row_count,
        difference=float(differences.mean()) if row_count else 0.0,
        low=low,
        high=high,
        wins=wins,
        losses=losses,
        method=Method.MCNEMAR_EXACT if is_exact else Method.SIGN_FLIP,
    )


def _flip_signs(
    scores: Floats,
    i: Indexes,
    j: Indexes,
    pairs: Sequence[_Pair],
    *,
    seed: int,
    alternative: Alternative,
) -> Floats:
    """Compute each pair's p-value by flipping the signs of its differences.

    Between equal candidates either sign is as likely. The rows are drawn that keep their signs;
    all others flip, and the sum becomes kept - (total - kept).

    Source: R. A. Fisher, "The Design of Experiments" (1935), section 21; with the observed signs
    as one of the draws, after B. Phipson and G. K. Smyth, "Permutation P-values Should Never Be
    Zero", Statistical Applications in Genetics and Molecular Biology 9 (2010).
    """

    def measure(rows: slice, kept: Floats) -> Floats:
        sums = _sum_common(kept, *split_known(scores[rows]))
        return (sums[j, :, i] - sums[i, :, j]).T

    def extent(sums: Floats) -> Floats:
        return np.abs(sums) if alternative == "two-sided" else sums

    total = np.array([pair.difference * pair.row_count for pair in pairs])
    as_far = np.ones(len(pairs))
    for kept in sum_over_rows(draw_kept(len(scores), seed=seed, draws=FLIPS), measure):
        as_far += np.count_nonzero(extent(2 * kept - total) >= extent(total) - ROUNDING, axis=0)
    # By luck the draws may go as far less often than all possible flips do.
    smallest = [_smallest_p_value(pair, alternative) for pair in pairs]
    return np.maximum(as_far / (1 + FLIPS), smallest)


def _sum_common(weights: Floats, values: Floats, known: Floats) -> Floats:
    """Sum weighted values over the rows that each candidate is scored on.

    Args:
        weights: (draws, rows).
        values: (rows, columns).
        known: (rows, candidates); 1 where a candidate is scored, else 0.

    Returns:
        Sums of shape (candidates, draws, columns).
    """
    sums = multiply(weights, values)
    shape = known.shape[1], *sums.shape
    if known.all():
        return np.broadcast_to(sums, shape)
    common = np.empty(shape)
    for candidate, scored in enumerate(known.T):
        is_most = 2 * scored.sum() > len(scored)
        rows = np.flatnonzero(scored != is_most)  # the scored or the others: whichever are fewer
        fewer = multiply(weights[:, rows], values[rows])
        common[candidate] = sums - fewer if is_most else fewer
    return common


def _smallest_p_value(pair: _Pair, alternative: Alternative) -> float:
    """Return the p-value if all rows that differ did so in one direction."""
    sides = 2 if alternative == "two-sided" else 1
    drawn = 0.0 if pair.method is Method.MCNEMAR_EXACT else 1 / (1 + FLIPS)
    return min(1.0, max(sides * 0.5 ** (pair.wins + pair.losses), drawn))


def _at_most(heads: int, tosses: int) -> float:
    """Return how likely at most so many heads are; `heads` is at most half of the tosses.

    The likeliest term comes from the gamma function, and each smaller one from the one before.
    """
    if heads < 0:
        return 0.0
    ways = math.lgamma(tosses + 1) - math.lgamma(heads + 1) - math.lgamma(tosses - heads + 1)
    fewer = np.arange(heads, 0, -1)
    terms = 1 + float(np.cumprod(fewer / (tosses - fewer + 1)).sum())
    return math.exp(ways - tosses * math.log(2)) * terms
