"""Confidence sequences from sums: intervals for a mean that hold at all looks at once.

Whoever looks at an ordinary interval again and again sees it miss the mean sooner or later. These
hold the mean at every look, with the stated chance of ever missing it, so one may look at any time
and stop on what is seen. They need nothing but sums, which many writers can add to.

They are for values that are drawn independently of each other from one distribution.
"""

import math
from dataclasses import dataclass

# Beta's parameters in the mixture, by Krichevsky and Trofimov: what it costs not to know the mean
# grows as half the logarithm of n, which is the least that is possible.
_PRIOR = 0.5
# Each step halves what is not known yet of an end: 60 leave less than rounding does.
_HALVINGS = 60
# The asymptotic sequence is at its narrowest, for its error, after about so many values.
_NARROWEST_AT = 500
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


def unit_interval(sums: Sums, error: float) -> Interval | None:
    """Bound the mean of values from 0 to 1, exactly, from the first value on.

    For any q and the true mean p, (q/p)^x ((1-q)/(1-p))^(1-x) is convex in x, so that its mean is
    at most what it would be if every x were 0 or 1, which is 1. So the product over all values is
    not expected to grow, nor is its mixture over q by Beta(1/2, 1/2), which is known in closed
    form. That it ever exceeds 1 / *error* has a chance of at most *error* (Ville's inequality),
    and the interval is of those p at which it does not.

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
    hits = min(max(sums.total, 0.0), float(sums.count))
    misses = sums.count - hits
    mean = hits / sums.count
    mixture = _log_beta(hits + _PRIOR, misses + _PRIOR) - _log_beta(_PRIOR, _PRIOR)
    # At an end, hits log p + misses log(1 - p) is this much.
    least = mixture + math.log(error)
    low = 0.0 if hits == 0 else _find_end(hits, misses, least, mean, 0.0)
    high = 1.0 if misses == 0 else _find_end(hits, misses, least, mean, 1.0)
    return Interval(mean, low, high)


def _find_end(hits: float, misses: float, least: float, inside: float, outside: float) -> float:
    """Return where the log-likelihood falls to *least*, between a point inside and one outside."""
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        if middle in {0.0, 1.0}:
            break
        likelihood = hits * math.log(middle) + misses * math.log1p(-middle)
        if likelihood >= least:
            inside = middle
        else:
            outside = middle
    return outside  # the wider of the two


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


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
    spread = -2 * math.log(error) + math.log(-2 * math.log(error) + 1)
    scaled = sums.count * spread / _NARROWEST_AT  # n rho²
    half = math.sqrt(
        sums.variance
        * 2
        * (scaled + 1)
        / (sums.count * scaled)
        * (math.log(scaled + 1) / 2 - math.log(error))
    )
    return Interval(sums.mean, sums.mean - half, sums.mean + half)


def _check(error: float) -> None:
    if not 0 < error < 1:
        raise ValueError(f"error must be between 0 and 1, not {error}")
