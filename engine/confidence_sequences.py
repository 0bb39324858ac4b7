"""Confidence sequences from sums: intervals for means that hold at all looks at once.

Whoever looks at an ordinary interval again and again sees it miss the mean sooner or later. These
hold the mean at every look, with the stated chance of ever missing it, so one may look at any time
and stop on what is seen. They need nothing but sums, which many writers can add to.

They are for values that are drawn independently of each other, each sample from one distribution.
Two samples are compared by the evidence of both together. Unless one is far larger than the other,
that is sharper than to subtract the ends of two intervals, which has both means at their worst at
once.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

# Beta's parameters in the mixture, by Krichevsky and Trofimov: what it costs not to know the mean
# grows as half the logarithm of n, which is the least that is possible.
_PRIOR = 0.5
# Each halves what is not known yet of a slope's exponent: 45 leave less than a millionth of a
# millionth of it.
_HALVINGS = 45
# From here on, powers of 2, the slope is looked for at which two likelihoods give an end.
_SLOPES = (-60.0, 60.0)
# The asymptotic sequence is at its narrowest, for its error, after about so many values.
_NARROWEST_AT = 500
_SMALLEST = sys.float_info.min
# Less than this is rounded to 0 when it is subtracted from 1.
_ROUNDED = 2.0**-54
FEWEST_ASYMPTOTIC = 50
"""Below so many values the asymptotic sequence says nothing: it needs a variance to trust."""


@dataclass(frozen=True, slots=True)
class Sums:
    """What is kept of some values.

    Attributes:
        count: How many there are.
        total: Their sum.
        square_total: The sum of their squares.
    """

    count: int = 0
    total: float = 0.0
    square_total: float = 0.0

    @property
    def mean(self) -> float | None:
        """Their mean; None when there are none."""
        return self.total / self.count if self.count else None

    @property
    def variance(self) -> float:
        """Their variance, divided by their number; 0 when there are none."""
        if not self.count:
            return 0.0
        # Of values that are all equal, rounding can leave less than nothing.
        return max(0.0, self.square_total / self.count - (self.total / self.count) ** 2)


NOTHING = Sums()


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean, and the ends of its interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class _Proportion:
    """The evidence of values from 0 to 1 against each mean that they might have.

    For any q and the true mean p, (q/p)^x ((1-q)/(1-p))^(1-x) is convex in x, so that its mean is
    at most what it would be if every x were 0 or 1, which is 1. So the product over all values is
    not expected to grow, nor is its mixture over q by Beta(1/2, 1/2), which is known in closed
    form. That it ever exceeds 1 / error has a chance of at most the error (Ville's inequality).

    Attributes:
        mixture: The logarithm of what q's mixture gives the values, whatever p is.
    """

    count: int
    hits: float
    misses: float
    mixture: float

    @classmethod
    def of(cls, sums: Sums) -> "_Proportion":
        hits = min(max(sums.total, 0.0), float(sums.count))
        misses = sums.count - hits
        mixture = _log_beta(hits + _PRIOR, misses + _PRIOR) - _LOG_BETA_OF_PRIOR
        return cls(sums.count, hits, misses, mixture)

    def weigh(self, mean: float) -> float:
        """Return the logarithm of the evidence against *mean*, which is convex in it."""
        evidence = self.mixture
        # A mean that is 0 or 1 beside hits or misses has been rounded to that.
        if self.hits:
            evidence -= self.hits * math.log(max(mean, _SMALLEST))
        if self.misses:
            evidence -= self.misses * math.log(max(1 - mean, _ROUNDED))
        return evidence

    def find_mean(self, slope: float) -> float:
        """Return the mean at which the evidence has a slope: the root of a quadratic."""
        left = self.count - slope
        # Of forms that are equal, those that subtract nothing from what is nearly as large.
        if slope > 0:
            root = math.sqrt(left**2 + 4 * slope * self.hits)
        else:
            root = math.sqrt((self.count + slope) ** 2 - 4 * slope * self.misses)
        found = 2 * self.hits / (left + root) if left > 0 else (root - left) / (2 * slope)
        return min(1.0, found)


def unit_interval(sums: Sums, error: float) -> Interval | None:
    """Bound the mean of values from 0 to 1, exactly, from the first value on.

    Args:
        sums: Of values from 0 to 1; their squares are not looked at.
        error: The chance that any look ever misses the mean.

    Returns:
        None when there are no values.

    Source: H. Robbins, "Statistical Methods Related to the Law of the Iterated Logarithm", Annals
    of Mathematical Statistics 41 (1970); S. R. Howard, A. Ramdas, J. McAuliffe and J. Sekhon,
    "Time-uniform Chernoff bounds via nonnegative supermartingales", Probability Surveys 17
    (2020), for bounded values, which are sub-Bernoulli.
    """
    _check(error)
    if not sums.count:
        return None
    seen = _Proportion.of(sums)
    ends = [seen.find_mean(_find_slope([(seen, side)], error)) for side in (-1, 1)]
    return _hold_mean(seen.hits / seen.count, *ends)


def unit_difference(one: Sums, other: Sums, error: float) -> Interval | None:
    """Bound the difference of the means of two samples of values from 0 to 1, exactly.

    The evidence against a pair of means is the product of that of both samples. The ends are the
    least and the greatest difference of any pair against which it does not exceed 1 / *error*.
    At an end both have the same slope, with opposite signs.

    Args:
        one: Of values from 0 to 1; their squares are not looked at.
        other: Of those that are subtracted.
        error: The chance that any look ever misses the difference.

    Returns:
        None when either has no values.
    """
    _check(error)
    if not one.count or not other.count:
        return None
    ours, theirs = _Proportion.of(one), _Proportion.of(other)
    ends = []
    for side in (-1, 1):
        slope = _find_slope([(ours, side), (theirs, -side)], error)
        ends.append(ours.find_mean(slope) - theirs.find_mean(-slope))
    return _hold_mean(ours.hits / ours.count - theirs.hits / theirs.count, *ends)


def _hold_mean(mean: float, low: float, high: float) -> Interval:
    """Bring the ends around the mean, which rounding may have put a little outside."""
    return Interval(mean, min(low, mean), max(high, mean))


def _find_slope(samples: Sequence[tuple[_Proportion, int]], error: float) -> float:
    """Return the slope of the first sample at which the evidence of all reaches 1 / *error*.

    Args:
        samples: Each with the side of its mean, -1 or 1, that is looked at.
        error: What it is reached for.
    """
    low, high = _SLOPES
    enough = -math.log(error)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        slope = 2.0**middle
        if sum([each.weigh(each.find_mean(side * slope)) for each, side in samples]) <= enough:
            low = middle
        else:
            high = middle
    return float(samples[0][1] * 2.0**high)  # the wider of the two


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


_LOG_BETA_OF_PRIOR = _log_beta(_PRIOR, _PRIOR)


def asymptotic_interval(sums: Sums, error: float) -> Interval | None:
    """Bound the mean of values that have a variance, whatever their range.

    It is to a confidence sequence what the interval of the central limit theorem is to an exact
    one: its chance of ever missing the mean tends to *error* as the number of values at the first
    look grows. So there is none below `FEWEST_ASYMPTOTIC`.

    Args:
        sums: Of the values.
        error: The chance that any look ever misses the mean, nearly.

    Returns:
        None when there are too few values.

    Source: I. Waudby-Smith, D. Arbour, R. Sinha, E. H. Kennedy and A. Ramdas, "Time-uniform
    central limit theory and asymptotic confidence sequences", Annals of Statistics 52 (2024),
    theorem 2.2, with its appendix on the choice of the mixture's width.
    """
    _check(error)
    if sums.mean is None or sums.count < FEWEST_ASYMPTOTIC:
        return None
    reach, (spread,) = _weigh_normals([sums], error)
    half = math.sqrt(reach * spread)
    return Interval(sums.mean, sums.mean - half, sums.mean + half)


def asymptotic_difference(one: Sums, other: Sums, error: float) -> Interval | None:
    """Bound the difference of two means by the evidence of both samples together.

    Args:
        one: Of the values.
        other: Of those that are subtracted.
        error: The chance that any look ever misses the difference, nearly.

    Returns:
        None when there are too few values; see `asymptotic_interval`.
    """
    _check(error)
    if one.mean is None or other.mean is None or min(one.count, other.count) < FEWEST_ASYMPTOTIC:
        return None
    reach, spreads = _weigh_normals([one, other], error)
    difference, half = one.mean - other.mean, math.sqrt(reach * sum(spreads))
    return Interval(difference, difference - half, difference + half)


def asymptotic_ratio(one: Sums, other: Sums, error: float) -> Interval | None:
    """Bound the ratio of two means of values that are not negative.

    Those ratios r are in it for which the difference of the first mean and r times the second can
    be 0. Where the second mean may itself be 0 there is no upper end.

    Args:
        one: Of the values.
        other: Of those that are divided by.
        error: The chance that any look ever misses the ratio, nearly.

    Returns:
        None when there are too few values; see `asymptotic_interval`. Two that are 0 are equal, and
        anything else is infinitely more than 0.

    Source: E. C. Fieller, "Some Problems in Interval Estimation", JRSS-B 16 (1954).
    """
    _check(error)
    if one.mean is None or other.mean is None or min(one.count, other.count) < FEWEST_ASYMPTOTIC:
        return None
    if other.mean <= 0:
        return Interval(*[1.0 if one.mean <= 0 else math.inf] * 3)
    reach, (ours, theirs) = _weigh_normals([one, other], error)
    square = other.mean**2 - reach * theirs
    constant = one.mean**2 - reach * ours
    product = one.mean * other.mean
    root = product + math.sqrt(max(0.0, product**2 - square * constant))
    low = constant / root if constant > 0 else 0.0
    high = root / square if square > 0 else math.inf
    return Interval(one.mean / other.mean, low, high)


def _weigh_normals(samples: Sequence[Sums], error: float) -> tuple[float, list[float]]:
    """Return how far means may be from what was seen, until their evidence reaches 1 / *error*.

    Of each sample the evidence is a mixture, over normal distances, of normal likelihoods.

    Returns:
        A reach R, and a spread S of each sample: the sum of all squared distances, each divided by
        its S, is R where the evidence is reached.
    """
    width = -2 * math.log(error) + math.log(-2 * math.log(error) + 1)
    scaled = [each.count * width / _NARROWEST_AT for each in samples]  # n rho²
    reach = -2 * math.log(error) + sum(math.log(each + 1) for each in scaled)
    spreads = [
        each.variance * (share + 1) / (each.count * share)
        for each, share in zip(samples, scaled, strict=True)
    ]
    return reach, spreads


def _check(error: float) -> None:
    if not 0 < error < 1:
        raise ValueError(f"error must be between 0 and 1, not {error}")
