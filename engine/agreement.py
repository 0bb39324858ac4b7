"""How far two raters agree, and what a judge's scores are worth once people checked some.

The corrected mean differs from the papers in two things. The two moments of its weight are
both taken from the reviewed rows, where the paper takes the judge's variance from all rows. That
keeps the weight from following the accidents of a small sample: with 20 reviews and 0 or 1 as
scores, the paper's way gives means that are 0.01 too high.

And its interval is a normal one, except that people's deviations from the weighted judge vary as
if there had been one more review with a squared deviation of 1, the largest when both score 0 or
1. Otherwise a few reviews that happen to agree would claim certainty: with a judge and people who
both say 1 in 19 cases of 20 and differ in 1 of 20, the plain interval from 20 reviews holds the
true mean in about 55 % of cases, not 95 %. It costs width with few reviews of finely graded
scores, and little with many.
"""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

_ROUNDING_VARIANCE = 1e-24  # scores that vary less are the same score, rounded


@dataclass(frozen=True, slots=True)
class CorrectedMean:
    """What people's mean score on all rows would be, by the rows that they reviewed.

    Attributes:
        mean: The estimate, 0 to 1.
        low: Lower end of the confidence interval, 0 to 1.
        high: Upper end, 0 to 1.
        weight: How far the judge was followed on rows without review: 0 not at all, so that
            the estimate is the reviewed rows' mean; 1 fully, but for its average error.
        reviewed_count: Rows that people scored.
    """

    mean: float
    low: float
    high: float
    weight: float
    reviewed_count: int


def exact_agreement(first: Sequence[Hashable], second: Sequence[Hashable]) -> float | None:
    """Compute the share of items that two raters put in the same category.

    Args:
        first: One rater's category of each item.
        second: The other's, of the same items in the same order.

    Returns:
        0 to 1; None without items.

    Raises:
        ValueError: One rated more items than the other.
    """
    equal = _count_equal(first, second)
    return equal / len(first) if first else None


def cohen_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float | None:
    """Compute how far two raters agree beyond what their habits alone would give.

    1 is full agreement, 0 what two raters would reach who choose by chance, each as often as
    before; below 0 they agree less than that. All disagreements weigh the same.

    Args:
        first: One rater's category of each item.
        second: The other's, of the same items in the same order.

    Returns:
        Cohen's kappa, at most 1. None without items, and when both put every item in the
        same one category: chance would agree as fully, so nothing was learned.

    Raises:
        ValueError: One rated more items than the other.

    Source: J. Cohen, "A Coefficient of Agreement for Nominal Scales", Educational and
    Psychological Measurement 20 (1960).
    """
    # Counts instead of shares: integers stay exact, so 0 and 1 are met exactly.
    items = len(first)
    equal = _count_equal(first, second)
    second_counts = Counter(second)
    by_chance = sum(count * second_counts[value] for value, count in Counter(first).items())
    if by_chance == items**2:
        return None
    return (items * equal - by_chance) / (items**2 - by_chance)


def correct_mean(
    judged: NDArray[np.float64],
    judged_on_reviewed: NDArray[np.float64],
    human: NDArray[np.float64],
    *,
    confidence: float = 0.95,
) -> CorrectedMean | None:
    """Estimate the mean that people would give all rows, from a judge and a few reviews.

    The judge's mean on the rows without review, times a weight, plus the mean of what people
    gave above the judge's score times that weight on the reviewed rows. The weight is the
    one that makes the result least uncertain, so a useless judge does little harm and a
    biased one none: its bias is measured on the reviewed rows and taken off.

    The reviewed rows must have been chosen at random. They and the rest are then two
    independent samples, which is the form for which the interval was derived; so the judge's
    mean is taken over the rest, not over all. The interval is for the mean of whatever the
    rows were drawn from; for the mean of these very rows it is a little too wide.

    Args:
        judged: The judge's score of every row, 0 to 1, shape (rows,).
        judged_on_reviewed: Its scores of the reviewed rows, which are in `judged` as well,
            shape (reviewed,).
        human: People's scores of these, in the same order, 0 to 1, shape (reviewed,).
        confidence: How often such intervals should hold the true mean, as a fraction.

    Returns:
        The estimate; None with fewer than two reviewed rows.

    Raises:
        ValueError: The shapes don't fit, a score is outside 0 to 1 or not a number, or
            `confidence` is not between 0 and 1.

    Source: A. N. Angelopoulos, S. Bates, C. Fannjiang, M. I. Jordan and T. Zrnic,
    "Prediction-powered inference", Science 382 (2023); the weight: A. N. Angelopoulos, J. C.
    Duchi and T. Zrnic, "PPI++: Efficient Prediction-Powered Inference", arXiv:2311.01453
    (2023), power tuning for a mean, kept from 0 to 1 as in the authors' implementation; with
    both moments from one sample it is the regression estimator of W. G. Cochran, "Sampling
    Techniques" (1977), chapter 7.
    """
    _check(judged, judged_on_reviewed, human, confidence)
    reviewed_count = len(human)
    if reviewed_count < 2:  # noqa: PLR2004 (one value has no variance)
        return None
    others = (len(judged) - reviewed_count) / len(judged)
    weight = _tune_weight(judged_on_reviewed, human, others)
    mean, variance = _estimate(judged, judged_on_reviewed, human, weight)
    margin = NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(variance)
    mean, low, high = (min(max(value, 0.0), 1.0) for value in (mean, mean - margin, mean + margin))
    return CorrectedMean(mean, low, high, weight, reviewed_count)


def _estimate(
    judged: NDArray[np.float64],
    judged_on_reviewed: NDArray[np.float64],
    human: NDArray[np.float64],
    weight: float,
) -> tuple[float, float]:
    """Return the corrected mean and its variance."""
    reviewed_count, other_count = len(human), len(judged) - len(human)
    residuals = human - weight * judged_on_reviewed
    squares = float(((residuals - residuals.mean()) ** 2).sum()) + 1
    mean, variance = float(residuals.mean()), squares / reviewed_count**2
    if other_count:
        mean += weight * float(judged.sum() - judged_on_reviewed.sum()) / other_count
        variance += weight**2 * float(judged.var(ddof=1)) / other_count
    return mean, variance


def _count_equal(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    return sum(one == other for one, other in zip(first, second, strict=True))


def _check(
    judged: NDArray[np.float64],
    judged_on_reviewed: NDArray[np.float64],
    human: NDArray[np.float64],
    confidence: float,
) -> None:
    if judged_on_reviewed.shape != human.shape or len(human) > len(judged):
        raise ValueError(
            f"{len(human)} reviews don't fit {len(judged_on_reviewed)} judged rows of {len(judged)}"
        )
    for scores in (judged, judged_on_reviewed, human):
        if not ((scores >= 0) & (scores <= 1)).all():
            raise ValueError("a score is outside 0 to 1")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, not {confidence}")


def _tune_weight(
    judged_on_reviewed: NDArray[np.float64], human: NDArray[np.float64], share_not_reviewed: float
) -> float:
    (_, covariance), (_, judge_variance) = np.cov(human, judged_on_reviewed)
    if judge_variance < _ROUNDING_VARIANCE:
        return 0.0
    # With n reviewed of N rows, 1 / (1 + n / (N - n)) of the paper is the share (N - n) / N.
    weight = share_not_reviewed * float(covariance / judge_variance)
    return min(max(weight, 0.0), 1.0)
