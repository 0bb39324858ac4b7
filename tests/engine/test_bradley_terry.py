"""Strengths from preferences."""

from itertools import combinations

import evalica
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import optimize, special, stats  # type: ignore[import-untyped]

from engine.bradley_terry import fit_bradley_terry

Matrix = NDArray[np.float64]

# A. Agresti, "Categorical Data Analysis" (2nd edition, 2002), table 10.10: games that the row's
# team won against the column's in 1987. Row for row: Milwaukee, Detroit, Toronto, New York,
# Boston, Cleveland, Baltimore.
BASEBALL = np.array(
    [
        [0, 7, 9, 7, 7, 9, 11],
        [6, 0, 7, 5, 11, 9, 9],
        [4, 6, 0, 7, 7, 8, 12],
        [6, 8, 6, 0, 6, 7, 10],
        [6, 2, 6, 7, 0, 7, 12],
        [4, 4, 5, 6, 6, 0, 6],
        [2, 4, 1, 3, 1, 7, 0],
    ],
    dtype=np.float64,
)
NEGLIGIBLE = 1e-9


@st.composite
def preferences(draw: st.DrawFn, min_candidates: int = 1) -> Matrix:
    size = draw(st.integers(min_candidates, 6))
    counts = draw(st.lists(st.integers(0, 40), min_size=size**2, max_size=size**2))
    wins = np.array(counts, np.float64).reshape(size, size) / 2
    np.fill_diagonal(wins, 0)
    return wins


def penalized_loss(free: Matrix, wins: Matrix, prior: float) -> float:
    """The negative logarithm of the posterior, written down anew."""
    strengths = np.append(free, -free.sum())
    likelihood = (wins * special.log_expit(strengths[:, None] - strengths)).sum()
    prior_density = special.log_expit(strengths) + special.log_expit(-strengths)
    return float(-likelihood - prior * prior_density.sum())


def test_the_baseball_season_of_1987_gives_the_published_strengths() -> None:
    fit = fit_bradley_terry(BASEBALL, prior=NEGLIGIBLE)
    above_the_last = fit.strengths - fit.strengths[-1]
    assert above_the_last.round(2).tolist() == [1.58, 1.44, 1.29, 1.25, 1.11, 0.68, 0.0]


def test_intervals_come_from_the_inverse_of_the_fisher_information() -> None:
    fit = fit_bradley_terry(BASEBALL, confidence=0.9, prior=NEGLIGIBLE)
    chances = special.expit(fit.strengths[:, None] - fit.strengths)
    weights = (BASEBALL + BASEBALL.T) * chances * (1 - chances)
    laplacian = np.diag(weights.sum(axis=1)) - weights
    errors = np.sqrt(np.diag(np.linalg.pinv(laplacian)))
    quantile = stats.norm.ppf(0.95)
    assert fit.high - fit.strengths == pytest.approx(quantile * errors, rel=1e-6)
    assert fit.strengths - fit.low == pytest.approx(quantile * errors, rel=1e-6)


def test_the_evalica_package_finds_the_same_strengths_with_ties_as_halves() -> None:
    rng = np.random.default_rng(7)
    skills = np.array([0.9, 0.4, 0.0, -0.3, -1.0])
    wins = np.zeros((5, 5))
    first, second, winners = [], [], []
    for one, other in combinations(range(5), 2):
        for _ in range(60):
            outcome = rng.choice(
                [evalica.Winner.X, evalica.Winner.Y, evalica.Winner.Draw],
                p=[0.8 * (p := special.expit(skills[one] - skills[other])), 0.8 * (1 - p), 0.2],
            )
            half_points = {evalica.Winner.X: 2, evalica.Winner.Y: 0, evalica.Winner.Draw: 1}
            wins[one, other] += half_points[outcome] / 2
            wins[other, one] += 1 - half_points[outcome] / 2
            first.append(one)
            second.append(other)
            winners.append(evalica.Winner(outcome))
    theirs = evalica.bradley_terry(
        first, second, winners, tie_weight=0.5, tolerance=1e-12, limit=100_000
    ).scores.sort_index()
    ours = fit_bradley_terry(wins, prior=NEGLIGIBLE).strengths
    assert ours == pytest.approx(np.log(theirs.to_numpy()), abs=1e-7)


@given(preferences(min_candidates=2), st.sampled_from([0.1, 0.5, 2.0]))
def test_a_general_optimizer_finds_the_same_maximum(wins: Matrix, prior: float) -> None:
    found = optimize.minimize(penalized_loss, np.zeros(len(wins) - 1), (wins, prior), method="BFGS")
    fit = fit_bradley_terry(wins, prior=prior)
    assert fit.strengths[:-1] == pytest.approx(found.x, abs=2e-3)
    assert penalized_loss(fit.strengths[:-1], wins, prior) <= found.fun + 1e-12


def test_one_tied_game_with_the_average_is_what_the_prior_adds() -> None:
    # Of two candidates, each is half their gap from the average. The posterior is at its
    # maximum where the 12 wins pull them apart as much as the two tied games pull them together.
    gap = float(np.ptp(fit_bradley_terry(np.array([[0.0, 12.0], [0.0, 0.0]])).strengths))
    assert 12 * (1 - special.expit(gap)) == pytest.approx(0.5 * (2 * special.expit(gap / 2) - 1))


@given(preferences())
def test_strengths_and_intervals_are_finite_and_centred_whatever_was_compared(wins: Matrix) -> None:
    fit = fit_bradley_terry(wins)
    assert np.isfinite([fit.low, fit.strengths, fit.high]).all()
    assert fit.strengths.sum() == pytest.approx(0, abs=1e-9)
    assert (fit.low <= fit.strengths).all()
    assert (fit.strengths <= fit.high).all()


@pytest.mark.parametrize("games", [1.0, 1e3, 1e8])
def test_who_lost_everything_is_last_by_a_finite_distance(games: float) -> None:
    wins = np.triu(np.full((20, 20), games), 1)
    fit = fit_bradley_terry(wins)
    assert (np.diff(fit.strengths) < 0).all()
    assert np.isfinite(fit.low).all()


def test_lopsided_counts_at_which_full_newton_steps_fly_apart_still_give_the_maximum() -> None:
    wins = np.array(
        [[0.0, 1, 0, 0], [10_000, 0, 0, 0], [1_000, 0, 0, 10_000], [0, 1, 0, 0]], np.float64
    )
    strengths = fit_bradley_terry(wins).strengths
    chances = special.expit(strengths[:, None] - strengths)
    surplus = (wins - (wins + wins.T) * chances).sum(axis=1)
    slopes = surplus + 0.5 * (1 - 2 * special.expit(strengths))
    assert slopes == pytest.approx(np.full(4, slopes.mean()), abs=1e-6)


def test_groups_that_never_met_are_placed_around_the_same_average() -> None:
    wins = np.zeros((4, 4))
    wins[0, 1] = wins[2, 3] = 30.0
    wins[1, 0] = wins[3, 2] = 10.0
    fit = fit_bradley_terry(wins)
    assert fit.strengths[:2] == pytest.approx(fit.strengths[2:])
    assert fit.strengths[0] - fit.strengths[1] == pytest.approx(np.log(3), abs=0.05)


@given(
    preferences().flatmap(lambda wins: st.tuples(st.just(wins), st.permutations(range(len(wins)))))
)
def test_the_order_of_candidates_never_shows(case: tuple[Matrix, list[int]]) -> None:
    wins, order = case
    fit, shuffled = fit_bradley_terry(wins), fit_bradley_terry(wins[np.ix_(order, order)])
    assert shuffled.strengths == pytest.approx(fit.strengths[order], abs=1e-9)
    assert shuffled.low == pytest.approx(fit.low[order], abs=1e-9)
    assert shuffled.high == pytest.approx(fit.high[order], abs=1e-9)


@given(preferences())
def test_swapping_wins_and_losses_turns_the_scale_around(wins: Matrix) -> None:
    fit, reversed_fit = fit_bradley_terry(wins), fit_bradley_terry(wins.T)
    assert reversed_fit.strengths == pytest.approx(-fit.strengths, abs=1e-9)
    assert reversed_fit.high == pytest.approx(-fit.low, abs=1e-9)


def test_intervals_hold_the_true_strengths_as_often_as_they_say() -> None:
    rng = np.random.default_rng(11)
    skills = np.array([1.2, 0.5, 0.0, -0.4, -1.3])
    chances = np.triu(special.expit(skills[:, None] - skills), 1)
    held = []
    for _ in range(600):
        wins = rng.binomial(20, chances).astype(np.float64)
        wins += np.tril(20 - wins.T, -1)
        fit = fit_bradley_terry(wins, confidence=0.9)
        held.append((fit.low <= skills) & (skills <= fit.high))
    # 3,000 intervals: four standard errors are 0.022.
    assert np.mean(held) == pytest.approx(0.9, abs=0.022)


def test_more_comparisons_narrow_the_intervals_by_the_square_root() -> None:
    few = fit_bradley_terry(BASEBALL, prior=NEGLIGIBLE)
    many = fit_bradley_terry(BASEBALL * 100, prior=NEGLIGIBLE)
    assert many.high - many.low == pytest.approx((few.high - few.low) / 10, rel=1e-6)


def test_one_candidate_is_its_own_average() -> None:
    fit = fit_bradley_terry(np.zeros((1, 1)))
    assert (fit.low.tolist(), fit.strengths.tolist(), fit.high.tolist()) == ([0.0], [0.0], [0.0])


def test_nobody_to_compare_gives_no_strengths() -> None:
    fit = fit_bradley_terry(np.zeros((0, 0)))
    assert (len(fit.low), len(fit.strengths), len(fit.high)) == (0, 0, 0)


@pytest.mark.parametrize(
    "wins",
    [
        np.zeros((2, 3)),
        np.zeros(4),
        np.array([[0.0, -1.0], [1.0, 0.0]]),
        np.array([[0.0, np.nan], [1.0, 0.0]]),
        np.array([[0.0, np.inf], [1.0, 0.0]]),
        np.array([[1.0, 1.0], [1.0, 0.0]]),
    ],
)
def test_what_cannot_be_a_table_of_preferences_is_refused(wins: Matrix) -> None:
    with pytest.raises(ValueError, match="wins must be"):
        fit_bradley_terry(wins)


@pytest.mark.parametrize("confidence", [0.0, 1.0, np.nan])
def test_a_confidence_that_is_no_share_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence must be between 0 and 1"):
        fit_bradley_terry(BASEBALL, confidence=confidence)


@pytest.mark.parametrize("prior", [0.0, -1.0, np.inf, np.nan])
def test_a_prior_that_bounds_nothing_is_refused(prior: float) -> None:
    with pytest.raises(ValueError, match="prior must be more than 0"):
        fit_bradley_terry(BASEBALL, prior=prior)


def test_a_maximum_beyond_the_numbers_precision_is_an_error_and_no_guess() -> None:
    with pytest.raises(ArithmeticError, match="no maximum was found"):
        fit_bradley_terry(np.array([[0.0, 1e12], [0.0, 0.0]]))
