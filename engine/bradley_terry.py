"""The Bradley-Terry model: from who was preferred over whom to strengths and their intervals."""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

_MAX_STEPS = 1000
_LAST_STEP = 1e-8  # a step so small leaves an error of about its square


@dataclass(frozen=True, slots=True, eq=False)
class Strengths:
    """Estimated strengths, on the natural logarithmic scale, with mean 0.

    A candidate is preferred over another with the chance 1 / (1 + exp(-difference)) of
    their strengths, and over the average candidate with 1 / (1 + exp(-strength)).

    Attributes:
        strengths: The estimates, shape (k,).
        low: Lower ends of the confidence intervals, shape (k,).
        high: Upper ends, shape (k,).
    """

    strengths: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def fit_bradley_terry(
    wins: NDArray[np.float64], *, confidence: float = 0.95, prior: float = 0.5
) -> Strengths:
    """Estimate how strong candidates are from how often each was preferred over each other.

    The strengths are the most probable ones under a prior that says of each candidate what
    `prior` wins and as many losses against the average candidate would say. By default that
    is one game, tied: the chance to beat the average candidate has Jeffreys' prior, Beta(1/2,
    1/2). So strengths stay finite when somebody won or lost everything, and when no chain of
    comparisons joins two groups of candidates.

    Each interval is for one strength relative to the average of these candidates. It takes
    comparisons to be independent, which several comparisons on one row are not quite; and
    it takes a tie to be as uncertain as a win or a loss, which makes it a little too wide.

    Args:
        wins: Shape (k, k); `wins[i, j]` is how often i was preferred over j, where a tie
            counts half for each. The diagonal is 0.
        confidence: The share of intervals that should hold the true strength, as a fraction.
        prior: Wins, and losses, that the prior adds to each candidate; more than 0.

    Returns:
        Strengths in the order of the rows of `wins`.

    Raises:
        ValueError: `wins` is not a square of finite numbers from 0 up with a diagonal of 0,
            or `confidence` or `prior` is out of range.
        ArithmeticError: No maximum was found to the precision of the numbers, for which the
            counts must be beyond what anybody counts, or the prior next to nothing.

    Source: R. A. Bradley and M. E. Terry, "Rank Analysis of Incomplete Block Designs: I",
    Biometrika 39 (1952); the prior: J. T. Whelan, "Prior Distributions for the Bradley-Terry
    Model of Paired Comparisons", arXiv:1712.05311 (2017), type III generalised logistic with
    eta = `prior`, here around the candidates' own average.
    """
    _check(wins, confidence, prior)
    if not len(wins):
        return Strengths(np.empty(0), np.empty(0), np.empty(0))
    strengths = _maximize(wins, prior)
    _, information = _differentiate(strengths, wins, prior)
    # The part that `_differentiate` adds for the common shift is no information: subtracted.
    variances = np.diag(np.linalg.inv(information)) - 1 / len(wins)
    normal_quantile = NormalDist().inv_cdf((1 + confidence) / 2)
    margins = normal_quantile * np.sqrt(np.maximum(variances, 0))
    return Strengths(strengths, strengths - margins, strengths + margins)


def _check(wins: NDArray[np.float64], confidence: float, prior: float) -> None:
    if wins.ndim != 2 or wins.shape[0] != wins.shape[1]:  # noqa: PLR2004 (rows and columns)
        raise ValueError(f"wins must be a square matrix, not of shape {wins.shape}")
    if not (np.isfinite(wins).all() and (wins >= 0).all() and not np.diag(wins).any()):
        raise ValueError("wins must be finite, not negative, and 0 on the diagonal")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, not {confidence}")
    if not 0 < prior < np.inf:
        raise ValueError(f"prior must be more than 0, not {prior}")


def _maximize(wins: NDArray[np.float64], prior: float) -> NDArray[np.float64]:
    """Find the most probable strengths by Newton's method with shortened steps.

    A full step can overshoot where the likelihood is flat. Shortened to log(1 + s), where s
    is how far it would move two candidates apart, it always makes the strengths more
    probable, and near the maximum it is as good as the full step.

    Source: minimises the upper bound of F. Bach, "Self-concordant analysis for logistic
    regression", Electronic Journal of Statistics 4 (2010), proposition 1, along the step.
    """
    strengths = np.zeros(len(wins))
    for _ in range(_MAX_STEPS):
        gradient, information = _differentiate(strengths, wins, prior)
        step = np.linalg.solve(information, gradient)
        spread = float(np.ptp(step))
        if spread < _LAST_STEP:
            return strengths + step
        strengths += step * (np.log1p(spread) / spread)
    raise ArithmeticError(f"no maximum was found in {_MAX_STEPS} steps")


def _differentiate(
    strengths: NDArray[np.float64], wins: NDArray[np.float64], prior: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the gradient of the log posterior, and the information, among sums of 0.

    Returns:
        The gradient, shape (k,), and the negative second derivatives, shape (k, k), both
        projected on strengths that sum to 0. To the second is added 1 / k everywhere, so
        that it can be inverted although shifting all strengths together changes nothing.
    """
    games = wins + wins.T
    chances = _logistic(strengths[:, None] - strengths)
    against_average = _logistic(strengths)
    gradient = (wins - games * chances).sum(axis=1) + prior * (1 - 2 * against_average)
    weights = games * chances * (1 - chances)
    own_weights = weights.sum(axis=1) + 2 * prior * against_average * (1 - against_average)
    share = 1 / len(wins)
    centre = np.eye(len(wins)) - share
    return centre @ gradient, centre @ (np.diag(own_weights) - weights) @ centre + share


def _logistic(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 + 0.5 * np.tanh(0.5 * values)  # 1 / (1 + exp(-values)), which would overflow
