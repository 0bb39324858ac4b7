"""Intervals of confidence for mean scores, and the random draws of rows behind statistics."""

import functools
import math
import operator
from collections.abc import Callable, Iterable, Iterator
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2_000
# Resamples of fewer rows than this say more of the resampling than of the rows.
FEWEST_RESAMPLED = 30
# Scores closer than this differ by rounding alone.
ROUNDING = 1e-9

Floats: TypeAlias = NDArray[np.float64]
# For each span of rows, how often each row counts in each draw of a block: (draws, rows). They
# are drawn as they are taken: take a block whole before the next.
WeightBlock: TypeAlias = Iterable[tuple[slice, Floats]]

# Weights are made for so many draws and rows at once: 2 MB of them, which a cache holds.
_DRAWS_AT_ONCE = 256
_ROWS_AT_ONCE = 1_024
# OpenBLAS multiplies as much as this in one thread: 65,536 times GEMM_MULTITHREAD_THRESHOLD.
# Source: https://github.com/OpenMathLib/OpenBLAS, interface/gemm.c and the default in cmake.
_MOST_UNTHREADED = 262_144

_NORMAL = NormalDist()
_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(40)


def mean_intervals(scores: Floats, *, seed: int, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Compute an interval of confidence for each candidate's mean score.

    From 30 rows on it is the bootstrap's over rows: the percentiles of resampled means, expanded by
    Student's t since they are too narrow where there are few rows. Where the bootstrap sees too
    little, as in rows of which nearly all score the same, `score_interval` is wider, and each end
    is the one of the two that is farther out. Of fewer rows it is `score_interval` alone.

    Args:
        scores: (rows, candidates), each in [0, 1]; NaN where a candidate has no score.
        seed: A non-negative integer; the same seed gives the same intervals.
        confidence: How often such intervals hold the true mean, between 0 and 1.

    Returns:
        The low and the high ends, one for each candidate; 0 and 1 for one without any score.

    Raises:
        ValueError: `confidence` is not between 0 and 1.

    Source: T. C. Hesterberg, "What Teachers Should Know About the Bootstrap", The American
    Statistician 69 (2015), for the expanded percentiles.
    """
    resampled = bootstrap_means(scores, seed=seed)
    ends = [
        _mean_interval(column[~np.isnan(column)], means, confidence=confidence)
        for column, means in zip(scores.T, resampled.T, strict=True)
    ]
    low, high = np.array(ends, dtype=np.float64).reshape(-1, 2).T
    return low, high


def _mean_interval(values: Floats, resampled: Floats, *, confidence: float) -> tuple[float, float]:
    low, high = score_interval(values, confidence=confidence, bounds=(0, 1))
    rows = len(values)
    if rows < FEWEST_RESAMPLED:
        return low, high
    quantile = math.sqrt(rows / (rows - 1)) * student_quantile((1 + confidence) / 2, rows - 1)
    tail = _NORMAL.cdf(-quantile)
    outer = np.quantile(resampled, (tail, 1 - tail))
    return min(low, float(outer[0])), max(high, float(outer[1]))


def score_interval(
    values: Floats, *, confidence: float, bounds: tuple[float, float]
) -> tuple[float, float]:
    """Compute an interval of confidence for the mean of values that are bounded.

    It is Wilson's interval for a proportion. Values between the bounds tell more than as many
    at the bounds would: they count for so many more as their variance is smaller than that of a
    proportion with their mean, and Student's t makes up for the variance's being an estimate.
    Of values that are all equal the variance is no guide: the ends are then where z² more
    values at either bound would draw the mean, as in Wilson's interval of 0 out of n.

    The bootstrap's percentiles, even expanded by Student's t, hold the true mean as often where
    there are many values, and less often where few are, or few differ (`bench.statistics`).

    Args:
        values: Without NaN.
        confidence: Between 0 and 1.
        bounds: The smallest and the largest value that is possible.

    Returns:
        The low and the high end, within the bounds and around the mean; the bounds when there
        are no values.

    Raises:
        ValueError: `confidence` is not between 0 and 1.

    Source: E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical
    Inference", Journal of the American Statistical Association 22 (1927). With an effective
    number of rows: C. Franco, R. J. A. Little, T. A. Louis and E. V. Slud, "Comparative Study of
    Confidence Intervals for Proportions in Complex Sample Surveys", Journal of Survey
    Statistics and Methodology 7 (2019).
    """
    quantile = two_sided_z(confidence)
    rows: float = len(values)
    if rows == 0:
        return bounds
    (low, high), mean = bounds, float(values.mean())
    share, spread = (mean - low) / (high - low), 0.0
    if np.ptp(values) > ROUNDING:
        is_proportion = is_two_valued(values, bounds)
        if not is_proportion:
            quantile = student_quantile((1 + confidence) / 2, len(values) - 1)
        variance = float(values.var(ddof=0 if is_proportion else 1)) / (high - low) ** 2
        rows *= share * (1 - share) / variance
        spread = rows * share * (1 - share)
    half = quantile * math.sqrt(spread + quantile**2 / 4)
    center, total = rows * share + quantile**2 / 2, rows + quantile**2
    ends = (low + (high - low) * (center + side) / total for side in (-half, half))
    return _hold_mean(*ends, mean=mean, bounds=bounds)


def bonett_price_interval(
    wins: int, losses: int, row_count: int, *, confidence: float
) -> tuple[float, float]:
    """Compute an interval of confidence for the difference of two proportions of the same rows.

    One win and one loss more than there are keep it from certainty where few rows differ.

    Args:
        wins: Rows that the first candidate alone has right.
        losses: Rows that the second candidate alone has right.
        row_count: All rows; at least one.
        confidence: Between 0 and 1.

    Returns:
        The low and the high end, within [-1, 1] and around the difference.

    Raises:
        ValueError: `confidence` is not between 0 and 1.

    Source: D. G. Bonett and R. M. Price, "Adjusted Wald Confidence Interval for a Difference of
    Binomial Proportions Based on Paired Data", Journal of Educational and Behavioral Statistics
    37 (2012).
    """
    rows = row_count + 2
    center = (wins - losses) / rows
    half = two_sided_z(confidence) * math.sqrt(((wins + losses + 2) / rows - center**2) / rows)
    difference = (wins - losses) / row_count
    return _hold_mean(center - half, center + half, mean=difference, bounds=(-1, 1))


def bootstrap_means(scores: Floats, *, seed: int, resamples: int = RESAMPLES) -> Floats:
    """Compute every candidate's mean in the same resamples of the rows.

    A resample draws as many rows as there are, with replacement, and is one for all
    candidates, so that differences of columns are paired. A candidate's mean is over those
    rows of the resample that it is scored on. Where a resample holds none of them, the mean
    over all its scored rows stands in, which is the centre of the others.

    Args:
        scores: (rows, candidates); NaN where a candidate has no score.
        seed: A non-negative integer; the same seed gives the same means.
        resamples: How many resamples.

    Returns:
        Means of shape (resamples, candidates); NaN for a candidate without any score.

    Source: B. Efron, "Bootstrap Methods: Another Look at the Jackknife", The Annals of
    Statistics 7 (1979).
    """

    def measure(rows: slice, weights: Floats) -> Floats:
        return multiply(weights, np.hstack(split_known(scores[rows])))

    known = (column[~np.isnan(column)] for column in scores.T)
    centers = np.array([column.mean() if len(column) else math.nan for column in known])
    means = np.tile(centers, (resamples, 1))
    if len(scores):
        blocks = _draw_resamples(len(scores), seed=seed, resamples=resamples)
        sums, counts = np.hsplit(np.vstack(list(sum_over_rows(blocks, measure))), 2)
        np.divide(sums, counts, out=means, where=counts > 0)
    return means


def two_sided_z(confidence: float) -> float:
    """Compute how many standard deviations around the mean hold this part of a normal spread.

    Raises:
        ValueError: `confidence` is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, not {confidence}")
    return _NORMAL.inv_cdf((1 + confidence) / 2)


@functools.lru_cache(maxsize=1_024)
def student_quantile(level: float, degrees: int) -> float:
    """Compute a quantile of Student's t distribution.

    With t = sqrt(degrees) tan(angle), the density of the angle is as cos(angle) to the power
    degrees - 1: smooth enough for Gauss's quadrature, and falling, so that Newton's steps from
    the normal quantile rise to the answer and do not pass it.

    Args:
        level: Which quantile, from 0.5 to below 1.
        degrees: Degrees of freedom, at least 1.

    Returns:
        The quantile, to 7 digits or more for levels up to 0.9999.

    Source: M. Abramowitz and I. A. Stegun, "Handbook of Mathematical Functions" (1964), 26.7.1.
    """
    scale = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2))
    scale /= math.sqrt(math.pi)
    angle = math.atan(_NORMAL.inv_cdf(level) / math.sqrt(degrees))
    step = math.inf
    while step > angle * 1e-14:
        heights = np.cos(angle / 2 * (1 + _NODES)) ** (degrees - 1)
        area = scale * angle / 2 * float(_NODE_WEIGHTS @ heights)
        step = (level - 0.5 - area) / (scale * math.cos(angle) ** (degrees - 1))
        angle += step
    return math.sqrt(degrees) * math.tan(angle)


def is_two_valued(values: Floats, bounds: tuple[float, float]) -> bool:
    """Tell whether every value is one of the two bounds."""
    apart = np.minimum(np.abs(values - bounds[0]), np.abs(values - bounds[1]))
    return bool(np.all(apart <= ROUNDING))


def split_known(scores: Floats) -> tuple[Floats, Floats]:
    """Part scores into the scores with 0 for NaN, and 1 for a score with 0 for NaN."""
    known = ~np.isnan(scores)
    return np.where(known, scores, 0.0), known.astype(np.float64)


def multiply(weights: Floats, values: Floats) -> Floats:
    """Multiply matrices in one thread, by strips of the first that are small enough for it.

    Several threads would gain little on products of this size, and when the processors are busy
    each product would wait for the last of its threads to be given one.
    """
    height = max(1, _MOST_UNTHREADED // max(1, values.size))
    strips = [weights[start : start + height] for start in range(0, len(weights), height)]
    return np.vstack([strip @ values for strip in strips])


def sum_over_rows(
    blocks: Iterable[WeightBlock], measure: Callable[[slice, Floats], Floats]
) -> Iterator[Floats]:
    """Add up, for each block of draws, what is measured on its spans of rows with weights."""
    for block in blocks:
        yield functools.reduce(operator.add, (measure(*part) for part in block))


def draw_kept(row_count: int, *, seed: int, draws: int) -> Iterator[WeightBlock]:
    """Draw rows by a fair coin, each row for itself.

    Args:
        row_count: Rows in all.
        seed: A non-negative integer.
        draws: How often to draw.

    Yields:
        Weights of 1 for the rows that were drawn and of 0 for the others.
    """
    rng = np.random.default_rng(seed)
    spans = _cut_range(row_count, _ROWS_AT_ONCE)
    for block in _cut_range(draws, _DRAWS_AT_ONCE):
        count = block.stop - block.start
        yield ((rows, _draw_bits(rng, count, rows.stop - rows.start)) for rows in spans)


def _hold_mean(
    low: float, high: float, *, mean: float, bounds: tuple[float, float]
) -> tuple[float, float]:
    """Bring an interval's ends within the bounds and around the mean."""
    return max(bounds[0], min(low, mean)), min(bounds[1], max(high, mean))


def _draw_resamples(row_count: int, *, seed: int, resamples: int) -> Iterator[WeightBlock]:
    """Draw rows with replacement, with how often each was drawn for its weight.

    How many of a resample's draws fall in each span of rows is multinomial, and within a span
    every row is as likely: so the spans can be drawn one after another, in little memory.
    """
    rng = np.random.default_rng(seed)
    spans = _cut_range(row_count, _ROWS_AT_ONCE)
    shares = [(rows.stop - rows.start) / row_count for rows in spans]
    for block in _cut_range(resamples, _DRAWS_AT_ONCE):
        drawn = rng.multinomial(row_count, shares, size=block.stop - block.start).T
        parts = zip(spans, drawn, strict=True)
        yield ((rows, _draw_counts(rng, rows, each)) for rows, each in parts)


def _draw_counts(rng: np.random.Generator, rows: slice, drawn: NDArray[np.int64]) -> Floats:
    """Draw so many of a span's rows for each resample, and count how often each row comes."""
    shape = len(drawn), rows.stop - rows.start
    starts = np.arange(shape[0]) * shape[1]
    counts = np.bincount(
        np.repeat(starts, drawn) + rng.integers(shape[1], size=drawn.sum()),
        minlength=shape[0] * shape[1],
    )
    return counts.reshape(shape).astype(np.float64)


def _draw_bits(rng: np.random.Generator, draws: int, row_count: int) -> Floats:
    packed = rng.integers(256, size=(draws, math.ceil(row_count / 8)), dtype=np.uint8)
    return np.unpackbits(packed, axis=1, count=row_count).astype(np.float64)


def _cut_range(total: int, length: int) -> list[slice]:
    """Cut 0 to `total` into slices of a length; the last may be shorter."""
    return [slice(start, min(start + length, total)) for start in range(0, total, length)]
