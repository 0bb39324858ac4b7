"""Intervals of confidence for means and differences of scores, and the draws of rows for them."""

import functools
import math
import operator
from collections.abc import Callable, Iterable, Iterator
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2_000
# Scores closer than this differ by rounding alone.
ROUNDING = 1e-9

Floats: TypeAlias = NDArray[np.float64]
Indexes: TypeAlias = NDArray[np.intp]
# Some draws, and for each span of rows how often each row counts in them: (draws, rows). The
# weights are drawn as they are taken, so that a block is to be taken whole before the next.
WeightBlock: TypeAlias = tuple[slice, Iterable[tuple[slice, Floats]]]

# Weights are made for so many draws and rows at once: 2 MB of them, which a cache holds.
_DRAWS_AT_ONCE = 256
_ROWS_AT_ONCE = 1_024

_NORMAL = NormalDist()
_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(40)


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
        summed: Floats = weights @ np.hstack(split_known(scores[rows]))
        return summed

    centers = np.array([_mean_known(column) for column in scores.T])
    return _resampled_means(measure, centers, len(scores), seed=seed, resamples=resamples)


def bootstrap_differences(
    scores: Floats, resampled: Floats, i: Indexes, j: Indexes, *, seed: int
) -> Floats:
    """Compute the mean differences of pairs of candidates in resamples of the rows.

    Candidates that are scored on the same rows differ as their means do. For any other pair
    the rows are drawn again, and only those count that both are scored on.

    Args:
        scores: (rows, candidates); NaN where a candidate has no score.
        resampled: What `bootstrap_means` gave for these scores.
        i: The first candidate of each pair.
        j: The second.
        seed: A non-negative integer; the same seed gives the same differences.

    Returns:
        Differences of shape (resamples, pairs); NaN for a pair without common rows.
    """
    differences = resampled[:, i] - resampled[:, j]
    scored = ~np.isnan(scores).T
    gaps = [
        at for at, (a, b) in enumerate(zip(i, j, strict=True)) if np.any(scored[a] != scored[b])
    ]
    if gaps:
        i, j = i[gaps], j[gaps]

        def measure(rows: slice, weights: Floats) -> Floats:
            values, known = split_known(scores[rows])
            sums = sum_common(weights, np.hstack((values, known)), known)
            return np.vstack((sums[j, :, i] - sums[i, :, j], sums[j, :, i + len(scored)])).T

        pairs = zip(i, j, strict=True)
        centers = np.array([_mean_known(scores[:, a] - scores[:, b]) for a, b in pairs])
        differences[:, gaps] = _resampled_means(
            measure, centers, len(scores), seed=seed, resamples=len(resampled)
        )
    return differences


def mean_intervals(
    scores: Floats, resampled: Floats, *, confidence: float = 0.95
) -> tuple[Floats, Floats]:
    """Compute an interval of confidence for each candidate's mean score.

    A candidate that scored only 0 and 1 gets Wilson's interval: the bootstrap's is too short
    where few rows are right, or few are wrong. Any other gets `resampled_interval`.

    Args:
        scores: (rows, candidates), each in [0, 1]; NaN where a candidate has no score.
        resampled: What `bootstrap_means` gave for these scores.
        confidence: How often such intervals hold the true mean, between 0 and 1.

    Returns:
        The low and the high ends, one for each candidate, within [0, 1] and around its mean;
        0 and 1 for a candidate without any score.

    Raises:
        ValueError: `confidence` is not between 0 and 1.
    """
    ends = [
        _mean_interval(column[~np.isnan(column)], means, confidence)
        for column, means in zip(scores.T, resampled.T, strict=True)
    ]
    low, high = np.array(ends, dtype=np.float64).reshape(-1, 2).T
    return low, high


def wilson_interval(successes: int, row_count: int, *, confidence: float) -> tuple[float, float]:
    """Compute the score interval of a proportion.

    Args:
        successes: Rows that scored 1.
        row_count: Rows that scored 1 or 0; at least one.
        confidence: Between 0 and 1.

    Returns:
        The low and the high end, around the proportion.

    Raises:
        ValueError: `confidence` is not between 0 and 1.

    Source: E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical
    Inference", Journal of the American Statistical Association 22 (1927); recommended by
    L. D. Brown, T. T. Cai and A. DasGupta, "Interval Estimation for a Binomial Proportion",
    Statistical Science 16 (2001).
    """
    z = two_sided_z(confidence)
    mean = successes / row_count
    half = z * math.sqrt(row_count * mean * (1 - mean) + z * z / 4)
    low, high = ((successes + z * z / 2 + end) / (row_count + z * z) for end in (-half, half))
    return hold_mean(low, high, mean=mean, bounds=(0, 1))


def bonett_price_interval(
    wins: int, losses: int, row_count: int, *, confidence: float
) -> tuple[float, float]:
    """Compute an interval for the difference of two proportions on the same rows.

    One more win and one more loss than there are keep it from claiming certainty when few
    rows differ, or none.

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
    return hold_mean(center - half, center + half, mean=difference, bounds=(-1, 1))


def resampled_interval(
    resampled: Floats,
    *,
    mean: float,
    row_count: int,
    confidence: float,
    bounds: tuple[float, float],
) -> tuple[float, float]:
    """Compute an interval of confidence for a mean from its values in resamples.

    It is the expanded percentile interval: percentiles of the resampled means, at levels that
    are further apart by Student's t and by sqrt(n / (n - 1)), since the plain ones are too
    close for few rows. Rows that are all equal show no spread, and their resamples would claim
    certainty: there each end is the mean of the rows and z² more at that bound, which is
    Wilson's interval when the rows are all 0 or all 1.

    Args:
        resampled: The mean in each resample.
        mean: The mean of the rows.
        row_count: Rows, at least one.
        confidence: Between 0 and 1.
        bounds: The smallest and the largest value that a row could have.

    Returns:
        The low and the high end, within the bounds and around the mean.

    Raises:
        ValueError: `confidence` is not between 0 and 1.

    Source: T. C. Hesterberg, "What Teachers Should Know About the Bootstrap: Resampling in the
    Undergraduate Statistics Curriculum", The American Statistician 69 (2015), and
    https://arxiv.org/abs/1411.5279.
    """
    z = two_sided_z(confidence)
    if np.ptp(resampled) <= ROUNDING:
        low, high = ((row_count * mean + z * z * end) / (row_count + z * z) for end in bounds)
    else:
        quantile = student_quantile((1 + confidence) / 2, row_count - 1)
        tail = _NORMAL.cdf(-quantile * math.sqrt(row_count / (row_count - 1)))
        low, high = (float(end) for end in np.quantile(resampled, [tail, 1 - tail]))
    return hold_mean(low, high, mean=mean, bounds=bounds)


def hold_mean(
    low: float, high: float, *, mean: float, bounds: tuple[float, float]
) -> tuple[float, float]:
    """Bring an interval's ends within the bounds and around the mean."""
    return max(bounds[0], min(low, mean)), min(bounds[1], max(high, mean))


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


def is_binary(known: Floats) -> bool:
    """Tell whether all values are 0 or 1."""
    return bool(np.all((known == 0) | (known == 1)))


def split_known(scores: Floats) -> tuple[Floats, Floats]:
    """Part scores into the scores with 0 for NaN, and 1 for a score with 0 for NaN."""
    known = ~np.isnan(scores)
    return np.where(known, scores, 0.0), known.astype(np.float64)


def sum_common(weights: Floats, values: Floats, known: Floats) -> Floats:
    """Sum weighted values over the rows that each candidate is scored on.

    Args:
        weights: (draws, rows).
        values: (rows, columns).
        known: (rows, candidates); 1 where a candidate is scored, else 0.

    Returns:
        Sums of shape (candidates, draws, columns).
    """
    sums = weights @ values
    shape = known.shape[1], *sums.shape
    if known.all():
        return np.broadcast_to(sums, shape)
    common = np.empty(shape)
    for candidate, scored in enumerate(known.T):
        is_most = 2 * scored.sum() > len(scored)
        rows = np.flatnonzero(scored != is_most)  # the scored or the others: whichever are fewer
        fewer = weights[:, rows] @ values[rows]
        common[candidate] = sums - fewer if is_most else fewer
    return common


def sum_over_rows(
    blocks: Iterable[WeightBlock], measure: Callable[[slice, Floats], Floats]
) -> Iterator[tuple[slice, Floats]]:
    """Add up, for each block of draws, what is measured on its spans of rows with weights."""
    for draws, parts in blocks:
        yield draws, functools.reduce(operator.add, (measure(*part) for part in parts))


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
        yield block, ((rows, _draw_bits(rng, count, rows.stop - rows.start)) for rows in spans)


def _mean_known(column: Floats) -> float:
    known = column[~np.isnan(column)]
    return float(known.mean()) if len(known) else math.nan


def _resampled_means(
    measure: Callable[[slice, Floats], Floats],
    centers: Floats,
    row_count: int,
    *,
    seed: int,
    resamples: int,
) -> Floats:
    """Compute means in resamples from their weighted sums, with counts beside, that are measured.

    Where a resample holds none of a column's rows, its center stands in.
    """
    means = np.tile(centers, (resamples, 1))
    if row_count:
        blocks = _draw_resamples(row_count, seed=seed, resamples=resamples)
        for draws, summed in sum_over_rows(blocks, measure):
            sums, counts = np.hsplit(summed, 2)
            np.divide(sums, counts, out=means[draws], where=counts > 0)
    return means


def _mean_interval(known: Floats, resampled: Floats, confidence: float) -> tuple[float, float]:
    row_count = len(known)
    if row_count == 0:
        return 0.0, 1.0
    if is_binary(known):
        return wilson_interval(int(known.sum()), row_count, confidence=confidence)
    mean = float(known.mean())
    return resampled_interval(
        resampled, mean=mean, row_count=row_count, confidence=confidence, bounds=(0, 1)
    )


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
        yield block, ((rows, _draw_counts(rng, rows, each)) for rows, each in parts)


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
