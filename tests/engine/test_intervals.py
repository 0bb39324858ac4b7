"""Intervals of confidence for mean scores, and resamples of rows."""

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

from engine.intervals import (
    bonett_price_interval,
    bootstrap_means,
    mean_intervals,
    score_interval,
    student_quantile,
)

Floats = NDArray[np.float64]
Z2 = float(stats.norm.ppf(0.975)) ** 2

THOUSANDTHS = st.integers(0, 1_000).map(lambda number: number / 1_000)
SCORES = st.lists(st.one_of(st.sampled_from([0.0, 1.0]), THOUSANDTHS), max_size=30)


def column(*scores: float) -> Floats:
    return np.array(scores, dtype=np.float64)[:, np.newaxis]


def zeros_and_ones(ones: int, row_count: int) -> Floats:
    return np.repeat([1.0, 0.0], [ones, row_count - ones])


def interval(values: Floats, confidence: float = 0.95) -> tuple[float, float]:
    return score_interval(values, confidence=confidence, bounds=(0, 1))


def within_error(share: float, *, of: float, trials: int) -> bool:
    """Tell whether a share of trials is within four standard errors of what is expected."""
    return abs(share - of) < 4 * math.sqrt(of * (1 - of) / trials)


@pytest.mark.parametrize("level", [0.5, 0.6, 0.9, 0.975, 0.995, 0.9999])
@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 30, 399, 99_999])
def test_students_quantile_is_that_of_scipy(level: float, degrees: int) -> None:
    expected = float(stats.t.ppf(level, degrees))
    assert student_quantile(level, degrees) == pytest.approx(expected, rel=1e-7, abs=1e-12)


# R. G. Newcombe, "Two-Sided Confidence Intervals for the Single Proportion: Comparison of Seven
# Methods", Statistics in Medicine 17 (1998), table I, method 3.
@pytest.mark.parametrize(
    ("ones", "row_count", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_interval_of_a_proportion_is_as_published(
    ones: int, row_count: int, low: float, high: float
) -> None:
    assert interval(zeros_and_ones(ones, row_count)) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("row_count", [1, 2, 10, 137])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.999])
def test_the_interval_of_zeros_and_ones_is_wilsons(row_count: int, confidence: float) -> None:
    for ones in range(row_count + 1):
        test = stats.binomtest(ones, row_count)
        expected = test.proportion_ci(confidence_level=confidence, method="wilson")
        found = interval(zeros_and_ones(ones, row_count), confidence)
        assert found == pytest.approx((expected.low, expected.high), abs=1e-12)


@given(st.lists(THOUSANDTHS, min_size=2, max_size=30), st.floats(0.1, 0.99))
def test_the_ends_of_an_interval_are_students_t_standard_errors_away(
    scores: list[float], confidence: float
) -> None:
    values = np.array(scores)
    mean, between = values.mean(), (values > 0) & (values < 1)
    assume(between.any() and np.ptp(values) > 0)
    expected = stats.t.ppf((1 + confidence) / 2, len(values) - 1)
    for end in interval(values, confidence):
        # The variance at an end is to that at the mean as a proportion's is.
        there = values.var(ddof=1) * end * (1 - end) / (mean * (1 - mean))
        assert abs(end - mean) / math.sqrt(there / len(values)) == pytest.approx(expected, rel=1e-4)


def test_the_interval_of_many_alike_scores_is_students() -> None:
    values = np.random.default_rng(5).normal(0.5, 0.01, size=400)
    expected = stats.ttest_1samp(values, 0.5).confidence_interval(0.95)
    assert interval(values) == pytest.approx((expected.low, expected.high), abs=1e-5)


@pytest.mark.parametrize("score", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("row_count", [1, 50])
def test_equal_scores_do_not_claim_certainty(score: float, row_count: int) -> None:
    low, high = mean_intervals(column(*[score] * row_count), seed=1)
    assert low[0] == pytest.approx(score * row_count / (row_count + Z2), abs=1e-12)
    assert high[0] == pytest.approx((score * row_count + Z2) / (row_count + Z2), abs=1e-12)


def test_rounding_changes_no_interval() -> None:
    equal = interval(np.array([0.3, 0.1 + 0.2, 0.3]))
    assert equal == pytest.approx(interval(np.array([0.3, 0.3, 0.3])))
    binary = interval(np.array([0.0, 1 - 2e-16, 1e-16]))
    assert binary == pytest.approx(interval(np.array([0.0, 1.0, 0.0])))


def test_of_a_candidate_without_scores_nothing_is_known() -> None:
    low, high = mean_intervals(np.array([[math.nan, 1.0], [math.nan, 0.0]]), seed=1)
    assert (low[0], high[0]) == (0.0, 1.0)
    assert 0 <= low[1] < 0.5 < high[1] <= 1


def test_nobody_to_rank_has_no_intervals() -> None:
    low, high = mean_intervals(np.empty((5, 0)), seed=1)
    assert (low.shape, high.shape) == ((0,), (0,))


@given(st.lists(st.floats(0, 1), max_size=30), st.floats(0.01, 0.999))
def test_an_interval_is_around_the_mean_and_within_the_scale(
    scores: list[float], confidence: float
) -> None:
    low, high = interval(np.array(scores), confidence)
    mean = float(np.mean(scores)) if scores else 0.5
    assert 0 <= low <= mean <= high <= 1


@given(SCORES)
def test_an_interval_does_not_depend_on_which_way_the_scale_runs(scores: list[float]) -> None:
    values = np.array(scores)
    low, high = interval(values)
    assert interval(1 - values) == pytest.approx((1 - high, 1 - low), abs=1e-7)


@given(SCORES)
def test_an_interval_scales_with_its_bounds(scores: list[float]) -> None:
    values = np.array(scores)
    low, high = interval(values)
    scaled = score_interval(2 * values - 1, confidence=0.95, bounds=(-1, 1))
    assert scaled == pytest.approx((2 * low - 1, 2 * high - 1), abs=1e-7)


@pytest.mark.parametrize("confidence", [-1, 0, 1, 95, math.nan])
def test_a_confidence_that_is_none_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1, not"):
        mean_intervals(column(0.0, 1.0), seed=1, confidence=confidence)


def leaderboard(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Make four candidates' scores, every other one's 0 or 1, with their true means."""
    means = rng.uniform(0.05, 0.95, size=4)
    scores = rng.beta(2 * means, 2 * (1 - means), size=(rng.integers(50, 401), 4))
    scores[:, ::2] = rng.random(scores[:, ::2].shape) < means[::2]
    return scores, means


def test_19_in_20_intervals_hold_the_true_mean() -> None:
    rng = np.random.default_rng(11)
    held = np.zeros(4)
    for _ in range(200):
        scores, means = leaderboard(rng)
        low, high = mean_intervals(scores, seed=1)
        held += (low <= means) & (means <= high)
    # The candidates are independent: two columns are 400 trials, and an error is 1.1 %.
    assert within_error(held[::2].sum() / 400, of=0.95, trials=400)
    assert within_error(held[1::2].sum() / 400, of=0.95, trials=400)


def test_intervals_hold_the_true_mean_even_where_few_rows_are_right() -> None:
    rng = np.random.default_rng(12)
    ones = rng.random((50, 2_000)) < 0.065  # here the bootstrap's percentiles hold it in 90 %
    low, high = mean_intervals(ones.astype(np.float64), seed=1)
    held = float(np.mean((low <= 0.065) & (high >= 0.065)))
    # Wilson's interval holds it in 95.8 %: the wider of the two can't hold it less often.
    assert held > 0.95


def test_an_interval_is_the_bootstrap_s_where_that_sees_enough() -> None:
    scores = np.random.default_rng(13).beta(2, 2, size=(200, 3))
    low, high = mean_intervals(scores, seed=5)
    for candidate, column_scores in enumerate(scores.T):
        expected = stats.bootstrap(
            (column_scores,), np.mean, n_resamples=9_999, method="percentile",
            rng=np.random.default_rng(1),
        ).confidence_interval  # fmt: skip
        width = expected.high - expected.low
        assert low[candidate] == pytest.approx(expected.low, abs=0.06 * width)
        assert high[candidate] == pytest.approx(expected.high, abs=0.06 * width)


def test_the_same_seed_gives_the_same_intervals_and_another_one_others() -> None:
    scores = np.random.default_rng(14).beta(2, 2, size=(60, 2))
    same = [mean_intervals(scores, seed=seed) for seed in (1, 1, 2)]
    assert np.array_equal(same[0], same[1])
    assert not np.array_equal(same[0], same[2])


# The worked example of se.prop.ps in R's vcmeta, by D. G. Bonett: 64 and 5 of 100 differ, and
# the estimate and its error are 0.5784314 and 0.05953213.
def test_the_interval_of_paired_proportions_is_as_published() -> None:
    low, high = bonett_price_interval(64, 5, 100, confidence=0.95)
    assert (low + high) / 2 == pytest.approx(0.5784314, abs=5e-8)
    assert (high - low) / 2 / math.sqrt(Z2) == pytest.approx(0.05953213, abs=5e-9)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), st.floats(0.01, 0.999))
def test_the_interval_of_paired_proportions_is_around_their_difference(
    wins: int, losses: int, ties: int, confidence: float
) -> None:
    rows = max(1, wins + losses + ties)
    low, high = bonett_price_interval(wins, losses, rows, confidence=confidence)
    assert -1 <= low <= (wins - losses) / rows <= high <= 1
    swapped = bonett_price_interval(losses, wins, rows, confidence=confidence)
    assert swapped == pytest.approx((-high, -low))


def test_19_in_20_intervals_hold_the_true_difference_however_few_rows_differ() -> None:
    rng = np.random.default_rng(13)
    for rate_won, rate_lost in [(0.02, 0.01), (0.1, 0.05), (0.45, 0.2)]:
        won, lost, _ = rng.multinomial(
            100, [rate_won, rate_lost, 1 - rate_won - rate_lost], 2_000
        ).T
        ends = [
            bonett_price_interval(int(win), int(lose), 100, confidence=0.95)
            for win, lose in zip(won, lost, strict=True)
        ]
        held = np.mean([low <= rate_won - rate_lost <= high for low, high in ends])
        # With three rows that differ, no discrete interval can hit 95 %: it may only hold more.
        assert held > 0.95 - 4 * math.sqrt(0.95 * 0.05 / 2_000)


def bootstrap_by_scipy(values: Floats) -> Any:
    return stats.bootstrap(
        (values,), np.mean, n_resamples=5_000, method="percentile", rng=np.random.default_rng(1)
    )


@pytest.mark.parametrize("row_count", [30, 1_500])
def test_resampled_means_spread_as_scipys_do(row_count: int) -> None:
    values = np.random.default_rng(7).beta(2, 3, size=row_count)
    means = bootstrap_means(values[:, np.newaxis], seed=3, resamples=5_000)[:, 0]
    expected = bootstrap_by_scipy(values)
    error = expected.standard_error
    # Of 5,000 draws the mean is off by 0.014 deviations, the deviation by 1 % and a quantile of
    # 2.5 % by 0.038 deviations; between two such by 1.4 times as much; four times that is rare.
    assert means.mean() == pytest.approx(values.mean(), abs=0.06 * error)
    assert means.std() == pytest.approx(error, rel=0.06)
    ends = tuple(np.quantile(means, [0.025, 0.975]))
    assert ends == pytest.approx(expected.confidence_interval, abs=0.21 * error)


def test_every_resample_draws_as_many_rows_as_there_are_from_all_of_them() -> None:
    row_count = 1_100  # more than are drawn at once
    counts = bootstrap_means(np.eye(row_count), seed=1, resamples=300) * row_count
    assert np.array_equal(np.rint(counts).sum(axis=1), np.full(300, row_count))
    assert counts.mean(axis=0).std() == pytest.approx(1 / math.sqrt(300), rel=0.15)
    # Draws are multinomial: a row's count has variance 1 - 1/n, and that of the last 100 rows
    # 100 (1 - 100/n), of which 300 draws tell within 8 %.
    assert np.var(counts) == pytest.approx(1, rel=0.02)
    assert np.var(counts[:, -100:].sum(axis=1)) == pytest.approx(100 * (1 - 1 / 11), rel=0.32)


def test_resamples_are_the_same_for_every_candidate() -> None:
    scores = np.random.default_rng(2).random((1_500, 3))
    scores[:, 2] = scores[:, 0]
    means = bootstrap_means(scores, seed=9, resamples=50)
    assert means[:, 2] == pytest.approx(means[:, 0], rel=1e-12)
    assert bootstrap_means(scores[:, ::-1], seed=9, resamples=50)[:, 1] == pytest.approx(
        means[:, 1], rel=1e-12
    )


def test_the_same_seed_gives_the_same_means_and_another_does_not() -> None:
    scores = np.random.default_rng(2).random((40, 3))
    first = bootstrap_means(scores, seed=9)
    assert first.shape == (2_000, 3)
    assert bootstrap_means(scores, seed=9).tobytes() == first.tobytes()
    assert bootstrap_means(scores, seed=10).tobytes() != first.tobytes()


def test_a_candidates_mean_is_over_its_own_rows() -> None:
    scores = np.random.default_rng(2).random((60, 2))
    scores[:, 1] = scores[:, 0]
    scores[20:, 1] = math.nan
    whole, part = bootstrap_means(scores, seed=4, resamples=20_000).T
    assert part.mean() == pytest.approx(scores[:20, 0].mean(), abs=0.003)
    # So many of its rows as a resample happens to hold: 20 on the average.
    assert part.std() == pytest.approx(scores[:20, 0].std() / math.sqrt(20), rel=0.06)
    assert whole.std() == pytest.approx(scores[:, 0].std() / math.sqrt(60), rel=0.03)


def test_a_resample_without_any_of_a_candidates_rows_gives_its_mean() -> None:
    scores = np.full((40, 2), 0.5)
    scores[2:, 1] = math.nan
    scores[:2, 1] = 0.2, 0.6
    means = bootstrap_means(scores, seed=4)[:, 1]
    # Neither row is drawn in 0.1285 of the resamples, and both as often in 0.1753.
    drawn = np.arange(0, 41, 2)
    balanced = stats.binom.pmf(drawn, 40, 2 / 40) * stats.binom.pmf(drawn // 2, drawn, 0.5)
    assert within_error(float(np.isclose(means, 0.4).mean()), of=balanced.sum(), trials=2_000)
    assert np.isfinite(means).all()


@pytest.mark.parametrize("row_count", [0, 5])
def test_a_candidate_without_scores_has_no_resampled_mean(row_count: int) -> None:
    means = bootstrap_means(np.full((row_count, 2), math.nan), seed=1, resamples=4)
    assert means.shape == (4, 2)
    assert np.isnan(means).all()


def test_memory_does_not_grow_with_the_rows() -> None:
    peaks = []
    for row_count in (4_096, 32_768):
        scores = np.zeros((row_count, 20))
        tracemalloc.start()
        bootstrap_means(scores, seed=1, resamples=256)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] < 20e6
