"""Racing: which candidates can stop early because they can no longer come out best.

What is guaranteed: take the complete table of scores that all entrants would get on all
`row_count` rows as fixed, and the order of the rows as drawn at random independently of
it. Then a candidate with the highest mean over the whole table is found beaten, at any
look ever, with a chance of at most its rule's `error`. When several share the highest mean this
holds for each of them. Nothing is said of rows outside the table, nor of the order of
those that are not best. It holds because:

- only a pair (somebody, the best) can err, and the best is one fixed candidate: that
  makes `entrants` - 1 pairs, each of which gets an equal part of the error. It doesn't
  matter which of the pairs are looked at, so looking at the leader's alone is enough;
- a confidence sequence holds at all rows at once, so neither looking often, nor looking
  back, nor stopping others on what was seen costs anything.

The mean of a candidate that was stopped is taken when it looked bad, so on average it is
lower than on all rows, and so are its differences from those that raced on. A mean at a
number of rows that was fixed beforehand has no such bias: whoever is asked for all rows
has exactly its mean. Compare two candidates on the rows that both were asked.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LARGEST_BET = 0.5  # any below 1 is valid; 1/2 or 3/4 are what the paper recommends


@dataclass(frozen=True, slots=True)
class RacingRule:
    """How sure to be before a candidate is stopped.

    Attributes:
        error: The largest chance to ever stop the candidate that is best on all rows, as a
            fraction, however often one looks.
        min_rows: Nobody is stopped on fewer rows. The guarantee doesn't need it: it keeps
            the score of whoever is stopped from resting on a handful of rows.

    Raises:
        ValueError: `error` is not between 0 and 1, or `min_rows` is below 1.
    """

    error: float = 0.05
    min_rows: int = 50

    def __post_init__(self) -> None:
        if not 0 < self.error < 1:
            raise ValueError(f"error must be between 0 and 1, not {self.error}")
        if self.min_rows < 1:
            raise ValueError(f"min_rows must be at least 1, not {self.min_rows}")


def find_beaten(
    scores: NDArray[np.float64], rule: RacingRule, *, entrants: int, row_count: int
) -> NDArray[np.bool_]:
    """Find the candidates that are worse than the present leader, as surely as the rule asks.

    The leader is who has the highest mean on these rows. A candidate is beaten when, now or
    at any earlier row, a confidence sequence for how far it trails the leader lay above 0. What
    that guarantees is told at the top of this module.

    Rows must come in the order in which they were drawn, up to the last one that everybody
    still racing has a score for; rows in the order of their answers would favour the quick.

    Args:
        scores: Shape (n, racing), 0 to 1: one row for each row of the dataset so far, one
            column for each candidate that is still racing.
        rule: How sure to be.
        entrants: How many candidates began the race.
        row_count: How many rows the whole race has.

    Returns:
        Shape (racing,): which columns are beaten; never the leader's.

    Raises:
        ValueError: A score is outside 0 to 1 or not a number, or there are more rows than
            `row_count` or more columns than `entrants`.

    Source: for the idea, O. Maron and A. W. Moore, "Hoeffding Races", NIPS 6 (1994).
    """
    seen, racing = scores.shape
    if seen > row_count or racing > entrants:
        raise ValueError(f"{seen} x {racing} scores in a race of {row_count} x {entrants}")
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError("a score is outside 0 to 1")
    if seen < rule.min_rows or racing < 2:  # noqa: PLR2004 (a race takes two)
        return np.zeros(racing, np.bool_)
    leader = int(scores.sum(axis=0).argmax())
    error = rule.error / (entrants - 1)
    evidence = _weigh_leads(scores[:, [leader]] - scores, row_count, error)
    beaten: NDArray[np.bool_] = evidence.max(axis=0) > -math.log(error)
    return beaten


def _weigh_leads(leads: NDArray[np.float64], row_count: int, error: float) -> NDArray[np.float64]:
    """Weigh after each row the evidence that a lead is positive over all rows.

    The evidence is the logarithm of a process that, if the mean lead over all rows is 0 or
    less, starts at 1 and is not expected to grow. So it ever exceeds 1 / `error` with a
    chance of at most `error` (Ville's inequality), which is when the lower end of the
    one-sided confidence sequence for the mean lead exceeds 0.

    Rows are drawn without replacement: if all leads sum to 0, the next one is expected to
    be minus the sum so far, over the rows that are left. That, and not 0, is what a lead is
    held against, so that the bound closes as the rows run out.

    Args:
        leads: Shape (n, pairs), -1 to 1, one row for each row drawn.
        row_count: How many rows there are to draw.
        error: The chance of an error in one pair. It tunes how much is bet.

    Returns:
        Shape (n, pairs): the evidence after each row.

    Source: I. Waudby-Smith and A. Ramdas, "Estimating means of bounded random variables by
    betting", JRSS-B 86 (2024), theorem 2 with the predictable plug-in (PrPl-EB), one-sided;
    without replacement: the same, "Confidence sequences for sampling without replacement",
    NeurIPS 33 (2020), the empirical-Bernstein sequence.
    """
    drawn = np.arange(1, len(leads) + 1)[:, None]
    gains = (leads + 1) / 2  # the theorem is for values from 0 to 1
    sums = gains.cumsum(axis=0)
    means = (sums + 1 / 2) / (drawn + 1)
    variances = (((gains - means) ** 2).cumsum(axis=0) + 1 / 4) / (drawn + 1)
    expected = (row_count / 2 - _delay(sums, 0)) / (row_count - drawn + 1)
    # A bet, and the mean it is judged by, may only depend on earlier rows.
    bets = np.sqrt(-2 * math.log(error) / (_delay(variances, 1 / 4) * drawn * np.log1p(drawn)))
    bets = np.minimum(bets, _LARGEST_BET)
    prices = (-np.log1p(-bets) - bets) * (gains - _delay(means, 1 / 2)) ** 2
    return (bets * (gains - expected) - prices).cumsum(axis=0)


def _delay(values: NDArray[np.float64], first: float) -> NDArray[np.float64]:
    """Give each row the values of the row before it, and the first row `first`."""
    return np.concatenate([np.full_like(values[:1], first), values[:-1]])
