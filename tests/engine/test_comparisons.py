"""Comparisons of candidates, bands of a ranking, and the Pareto front."""

import json
import math
from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

from engine.comparisons import (
    FLIPS,
    Alternative,
    Method,
    PairedComparison,
    adjust_holm,
    compare_all,
    compare_one,
    exact_mcnemar,
    pareto_front,
    rank_bands,
)
from engine.intervals import bonett_price_interval, draw_kept, mean_intervals, score_interval
from engine.matching import MatchMode, score_answer
from tests.conftest import REPLAY_DATA

Floats = NDArray[np.float64]
NAN = math.nan


def binary_pair(wins: int, losses: int, ties: int = 0) -> Floats:
    """Make two candidates' scores of which so many rows differ."""
    return np.array([[1.0, 0.0]] * wins + [[0.0, 1.0]] * losses + [[1.0, 1.0]] * ties)


def graded_scores(row_count: int, candidates: int, *, seed: int) -> Floats:
    return np.random.default_rng(seed).integers(0, 11, size=(row_count, candidates)) / 10


def flip_p_value(differences: Floats, *, seed: int) -> float:
    """Compute a two-sided sign-flip p-value with the same draws, one difference at a time."""
    total, as_far = differences.sum(), 1.0
    for block in draw_kept(len(differences), seed=seed, draws=FLIPS):
        kept = np.hstack([weights for _, weights in block])
        flipped = ((2 * kept - 1) * differences).sum(axis=1)
        as_far += float(np.sum(np.abs(flipped) >= abs(total) - 1e-9))
    return as_far / (1 + FLIPS)


def scipy_flip_p_value(differences: Floats, alternative: str) -> float:
    """Go through every possible choice of signs."""
    test = stats.permutation_test(
        (differences,), np.sum, permutation_type="samples", n_resamples=np.inf,
        alternative=alternative,
    )  # fmt: skip
    return float(test.pvalue)


@pytest.mark.parametrize("wins", range(0, 26, 5))
@pytest.mark.parametrize("losses", [*range(12), 25])
def test_mcnemars_p_values_are_those_of_a_binomial_test(wins: int, losses: int) -> None:
    if wins + losses == 0:
        assert exact_mcnemar(0, 0) == exact_mcnemar(0, 0, alternative="greater") == 1
        return
    for alternative in ("two-sided", "greater"):
        expected = stats.binomtest(wins, wins + losses, alternative=alternative).pvalue
        found = exact_mcnemar(wins, losses, alternative=alternative)
        assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("wins", "losses"),
    [(5_000, 5_200), (5_200, 5_000), (60_000, 60_500), (30_000, 20), (12_000, 12_000)],
)
def test_mcnemars_p_values_stay_exact_for_very_many_rows(wins: int, losses: int) -> None:
    for alternative in ("two-sided", "greater"):
        expected = stats.binomtest(wins, wins + losses, alternative=alternative).pvalue
        found = exact_mcnemar(wins, losses, alternative=alternative)
        assert found == pytest.approx(expected, rel=1e-8, abs=1e-300)


# M. W. Fagerland, S. Lydersen and P. Laake, "The McNemar Test for Binary Matched-Pairs Data",
# BMC Medical Research Methodology 13:91 (2013), table 1: the airways of 21 children.
def test_mcnemars_p_value_is_as_published() -> None:
    assert exact_mcnemar(1, 7) == pytest.approx(0.0703125, rel=1e-14)


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemars_p_values_fit_together(wins: int, losses: int) -> None:
    two_sided = exact_mcnemar(wins, losses)
    better = exact_mcnemar(wins, losses, alternative="greater")
    worse = exact_mcnemar(losses, wins, alternative="greater")
    assert two_sided == exact_mcnemar(losses, wins) == pytest.approx(min(1, 2 * min(better, worse)))
    assert 0 < two_sided <= 1
    assert exact_mcnemar(wins + 1, losses, alternative="greater") <= better


# https://www.stat.ethz.ch/Teaching/Videos/ams/multTesting.R (of which Holm rejects two at 5 %)
# and https://stdlib.io/docs/api/latest/@stdlib/stats/padjust.
@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ((0.011, 0.02, 0.005, 0.13, 0.04), (0.044, 0.06, 0.025, 0.13, 0.08)),
        ((0.319, 0.201, 0.4, 0.374, 0.113), (0.957, 0.804, 0.957, 0.957, 0.565)),
    ],
)
def test_holms_p_values_are_as_published(
    p_values: Sequence[float], adjusted: Sequence[float]
) -> None:
    assert adjust_holm(np.array(p_values)) == pytest.approx(adjusted)


@given(st.lists(st.floats(0, 1), max_size=20))
def test_holm_lowers_no_p_value_and_keeps_their_order(p_values: list[float]) -> None:
    adjusted = adjust_holm(np.array(p_values))
    assert all(p <= after <= 1 for p, after in zip(p_values, adjusted, strict=True))
    order = np.argsort(p_values)
    assert (np.diff(adjusted[order]) >= 0).all()
    if p_values:
        assert adjusted.min() == min(1, min(p_values) * len(p_values))


@pytest.mark.parametrize("alternative", ["two-sided", "greater"])
@pytest.mark.parametrize("row_count", [4, 9, 12])
def test_drawn_flips_come_near_to_all_flips(alternative: Alternative, row_count: int) -> None:
    for seed in range(6):
        a, b = graded_scores(row_count, 2, seed=seed).T
        expected = scipy_flip_p_value(a - b, alternative)
        found = compare_one(a, b, seed=seed, alternative=alternative)
        assert found.method is Method.SIGN_FLIP
        error = math.sqrt(expected * (1 - expected) / FLIPS)
        assert found.p_value == pytest.approx(expected, abs=4 * error + 2 / FLIPS)


def test_a_flip_that_ties_with_the_data_counts_whatever_its_rounding() -> None:
    a, b = np.array([[0.1, 0.0], [0.2, 0.0], [0.3, 0.0], [0.0, 0.6]]).T
    # The sum is 0, or 1e-17, and every choice of signs goes as far.
    assert compare_one(a, b, seed=1, alternative="two-sided").p_value == 1


def test_every_pair_of_complete_candidates_is_tested_as_if_alone() -> None:
    scores = graded_scores(1_100, 4, seed=1)  # more rows than are drawn at once
    scores[:, 3] = np.clip(scores[:, 2] + (scores[:, 0] > 0.8) * 0.1, 0, 1)
    for (i, j), pair in compare_all(scores, seed=5).pairs.items():
        assert pair.p_value == flip_p_value(scores[:, i] - scores[:, j], seed=5)


def test_every_pair_of_incomplete_candidates_is_tested_on_the_rows_it_shares() -> None:
    scores = graded_scores(1_100, 4, seed=1)
    scores[np.random.default_rng(1).random(scores.shape) < 0.02] = NAN  # errors left out
    scores[300:, 1] = NAN  # stopped early
    scores[:1_050, 2] = NAN  # added late
    compared = compare_all(scores, seed=5)
    for (i, j), pair in compared.pairs.items():
        gaps = scores[:, i] - scores[:, j]
        known = gaps[~np.isnan(gaps)]
        assert pair.row_count == len(known)
        if len(known) == 0:
            continue
        assert pair.p_value == flip_p_value(np.nan_to_num(gaps), seed=5)
        assert pair.difference == pytest.approx(known.mean())
        expected = score_interval(known, confidence=0.95, bounds=(-1, 1))
        assert (pair.low, pair.high) == pytest.approx(expected)
    assert compared.pair(1, 2).row_count == 0


def test_a_pair_without_common_rows_is_not_told_apart() -> None:
    scores = np.array([[1.0, NAN, 0.5], [1.0, NAN, 0.5], [NAN, 0.0, NAN]])
    compared = compare_all(scores, seed=1)
    expected = PairedComparison(
        difference=0.0, low=-1.0, high=1.0, p_value=1.0, p_value_adjusted=1.0, row_count=0,
        method=Method.MCNEMAR_EXACT,
    )  # fmt: skip
    assert compared.pair(0, 1) == compared.pair(1, 0) == compared.pair(1, 2) == expected
    assert not compared.told_apart.any()


def test_a_pair_of_zeros_and_ones_gets_the_exact_test_beside_a_graded_third() -> None:
    scores = np.column_stack((binary_pair(9, 1, 20), graded_scores(30, 1, seed=1)))
    pair = compare_all(scores, seed=1).pair(0, 1)
    assert (pair.method, pair.row_count) == (Method.MCNEMAR_EXACT, 30)
    assert pair.difference == pytest.approx(8 / 30)
    assert (pair.low, pair.high) == bonett_price_interval(9, 1, 30, confidence=0.95)
    assert pair.p_value == exact_mcnemar(9, 1)
    assert compare_all(scores, seed=1).pair(0, 2).method is Method.SIGN_FLIP


def test_only_the_common_rows_decide_on_the_method() -> None:
    scores = np.array([[1.0, 0.0, 1.0], [1.0, 0.0, 1.0], [0.5, NAN, 1.0]])
    compared = compare_all(scores, seed=1)
    assert compared.pair(0, 1).method is compared.pair(1, 2).method is Method.MCNEMAR_EXACT
    assert compared.pair(0, 2).method is Method.SIGN_FLIP


def test_p_values_are_adjusted_for_every_pair() -> None:
    scores = np.hstack([binary_pair(wins, 3, 50 - wins - 3) for wins in (9, 11)])
    compared = compare_all(scores, seed=1)
    p_values = np.array([pair.p_value for pair in compared.pairs.values()])
    assert len(p_values) == 6
    adjusted = [pair.p_value_adjusted for pair in compared.pairs.values()]
    assert adjusted == adjust_holm(p_values).tolist()
    for (i, j), pair in compared.pairs.items():
        assert compared.told_apart[i, j] == compared.told_apart[j, i]
        assert compared.told_apart[i, j] == (pair.p_value_adjusted <= 0.05)


def test_the_reverse_of_a_comparison_is_its_mirror_image() -> None:
    scores = np.column_stack((binary_pair(9, 1, 20), graded_scores(30, 2, seed=1)))
    compared = compare_all(scores, seed=1)
    for i, j in compared.pairs:
        one, other = compared.pair(i, j), compared.pair(j, i)
        assert (other.difference, other.low, other.high) == (-one.difference, -one.high, -one.low)
        assert other.p_value == one.p_value
        assert other.p_value_adjusted == one.p_value_adjusted
    equal = compare_all(np.ones((3, 2)), seed=1)
    assert math.copysign(1, equal.pair(1, 0).difference) == 1


def test_nobody_is_compared_with_itself() -> None:
    with pytest.raises(KeyError):
        compare_all(binary_pair(1, 1), seed=1).pair(1, 1)


@pytest.mark.parametrize("candidates", [0, 1])
def test_fewer_than_two_candidates_make_no_comparison(candidates: int) -> None:
    compared = compare_all(np.ones((4, candidates)), seed=1)
    assert compared.pairs == {}
    assert compared.told_apart.shape == (candidates, candidates)


def test_a_pairs_comparison_does_not_depend_on_the_order_of_the_candidates() -> None:
    scores = graded_scores(1_100, 4, seed=3)
    scores[::7, 2] = NAN
    order = [2, 0, 3, 1]
    before, after = compare_all(scores, seed=2), compare_all(scores[:, order], seed=2)
    for i in range(4):
        for j in range(i):
            one, other = before.pair(order[i], order[j]), after.pair(i, j)
            assert other.p_value == one.p_value
            assert (other.low, other.high) == pytest.approx((one.low, one.high), rel=1e-12)


def test_the_same_seed_gives_the_same_comparisons_and_another_does_not() -> None:
    scores = graded_scores(80, 3, seed=3)
    first, again, other = (compare_all(scores, seed=seed).pairs for seed in (2, 2, 3))
    assert first == again
    assert first != other


def false_positive_rate(boards: Sequence[Floats]) -> float:
    return float(np.mean([compare_all(board, seed=7).told_apart.any() for board in boards]))


def test_equal_candidates_are_told_apart_in_no_more_than_1_of_20_leaderboards() -> None:
    rng = np.random.default_rng(21)
    binary = [(rng.random((100, 5)) < 0.6).astype(np.float64) for _ in range(1_000)]
    graded = [rng.integers(0, 5, size=(40, 5)) / 4 for _ in range(120)]
    # Three standard errors above 5 %; without the adjustment it would be some 25 %.
    assert false_positive_rate(binary) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1_000)
    assert false_positive_rate(graded) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 120)


def test_a_candidate_that_is_clearly_better_is_told_apart() -> None:
    scores = graded_scores(200, 3, seed=1)
    scores[:, 0] = np.clip(scores[:, 0] + 0.3, 0, 1)
    told_apart = compare_all(scores, seed=1).told_apart
    assert told_apart.tolist() == [[False, True, True], [True, False, False], [True, False, False]]


def test_a_planned_comparison_asks_whether_a_is_better() -> None:
    a, b = binary_pair(9, 2, 19).T
    planned = compare_one(a, b, seed=1)
    assert planned.p_value == exact_mcnemar(9, 2, alternative="greater")
    # Each end is a bound by itself: together they leave out twice as much.
    expected = bonett_price_interval(9, 2, 30, confidence=0.9)
    assert (planned.low, planned.high) == pytest.approx(expected)
    two_sided = compare_one(a, b, seed=1, alternative="two-sided")
    assert two_sided.p_value == exact_mcnemar(9, 2)
    assert (two_sided.low, two_sided.high) == bonett_price_interval(9, 2, 30, confidence=0.95)


def test_a_planned_comparison_of_graded_scores_is_that_of_the_pair() -> None:
    scores = graded_scores(90, 2, seed=4)
    scores[::9, 1] = NAN
    planned = compare_one(scores[:, 0], scores[:, 1], seed=6, alternative="two-sided")
    pair = compare_all(scores, seed=6).pair(0, 1)
    for name in ("difference", "low", "high", "p_value", "row_count", "method"):
        assert getattr(planned, name) == getattr(pair, name)


def test_the_smallest_p_value_tells_too_few_data_from_no_difference() -> None:
    few = compare_one(*binary_pair(3, 1, 50).T, seed=1)
    assert few.smallest_p_value == 0.5**4  # four rows that differ can never give 0.05
    assert compare_one(*binary_pair(3, 2).T, seed=1).smallest_p_value == 0.5**5
    two_sided = compare_one(*binary_pair(3, 2).T, seed=1, alternative="two-sided")
    assert two_sided.smallest_p_value == 0.5**4
    assert compare_one(*binary_pair(0, 0, 9).T, seed=1).smallest_p_value == 1
    graded = np.array([[0.5, 0.0]] * 3 + [[0.5, 0.5]])
    assert compare_one(*graded.T, seed=1).smallest_p_value == 0.5**3
    assert compare_one(*graded_scores(99, 2, seed=1).T, seed=1).smallest_p_value == 1 / 10_000
    assert compare_one(np.array([1.0, NAN]), np.array([NAN, 1.0]), seed=1).smallest_p_value == 1


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=6))
def test_no_p_value_is_below_the_smallest(rows: list[tuple[int, int]]) -> None:
    a, b = np.array(rows, dtype=np.float64).T / 3
    for alternative in ("two-sided", "greater"):
        planned = compare_one(a, b, seed=3, alternative=alternative)
        assert planned.smallest_p_value <= planned.p_value <= 1


@pytest.mark.parametrize("confidence", [0.5, 1, NAN])
def test_a_bound_needs_a_confidence_above_one_half(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence must be between"):
        compare_one(*binary_pair(1, 1).T, seed=1, confidence=confidence)


def apart(size: int, *pairs: tuple[int, int]) -> NDArray[np.bool_]:
    told_apart = np.zeros((size, size), dtype=np.bool_)
    for i, j in pairs:
        told_apart[i, j] = told_apart[j, i] = True
    return told_apart


def test_a_rank_band_ends_where_a_candidate_is_told_apart_from_the_bands_first() -> None:
    # 2 is told apart from 0 and not from 1, which is in the band above; 3 not from 2.
    assert rank_bands([0, 1, 2, 3], apart(4, (0, 2), (0, 3), (1, 3))) == [1, 1, 2, 2]
    assert rank_bands([3, 1, 0], apart(4, (3, 1), (1, 0))) == [1, 2, 3]
    assert rank_bands([], apart(0)) == []


@given(
    st.integers(0, 8).flatmap(
        lambda n: st.tuples(
            st.permutations(range(n)), st.lists(st.booleans(), min_size=n * n, max_size=n * n)
        )
    )
)
def test_bands_rise_one_at_a_time_and_each_first_is_apart_from_the_first_above(
    drawn: tuple[list[int], list[bool]],
) -> None:
    order, flags = drawn
    told_apart = np.array(flags, dtype=np.bool_).reshape(len(order), len(order))
    bands = rank_bands(order, told_apart)
    assert len(bands) == len(order)
    assert sorted(set(bands)) == list(range(1, len(set(bands)) + 1))
    assert bands == sorted(bands)
    first = {band: order[bands.index(band)] for band in bands}
    for candidate, band in zip(order, bands, strict=True):
        assert candidate == first[band] or not told_apart[first[band], candidate]
        assert band == 1 or candidate != first[band] or told_apart[first[band - 1], candidate]


def test_the_pareto_front_holds_whom_nobody_beats() -> None:
    scores = [0.9, 0.8, 0.8, 0.7, 0.9]
    costs = [Decimal(cost) for cost in (2, 1, 1, 1, 3)]
    assert pareto_front(scores, costs) == [True, True, True, False, False]


def test_an_unknown_cost_is_not_on_the_pareto_front_and_keeps_nobody_off() -> None:
    assert pareto_front([0.9, 0.5, 0.4], [None, 2, 0.5]) == [False, True, True]
    assert pareto_front([0.9, 0.5], [None, None]) == [False, False]
    assert pareto_front([], []) == []


@given(st.lists(st.tuples(st.integers(0, 4), st.none() | st.integers(0, 4)), max_size=9))
def test_whoever_is_off_the_pareto_front_is_beaten_by_one_on_it(
    candidates: list[tuple[int, int | None]],
) -> None:
    front = pareto_front([score for score, _ in candidates], [cost for _, cost in candidates])
    best = [each for each, is_best in zip(candidates, front, strict=True) if is_best]
    for (score, cost), is_best in zip(candidates, front, strict=True):
        beaten = [
            (s, c) for s, c in best
            if cost is not None and c is not None and s >= score and c <= cost
            and (s, c) != (score, cost)
        ]  # fmt: skip
        assert is_best == (cost is not None and not beaten)


GSM8K_MODELS = ("175b_verification", "6b_verification", "175b_finetuning", "6b_finetuning")


@pytest.fixture(scope="module")
def gsm8k() -> Floats:
    if not REPLAY_DATA.exists():
        pytest.skip("the recorded GSM8K answers are not beside the checkout")
    rows = [json.loads(line) for line in REPLAY_DATA.read_text().splitlines()]
    return np.array([
        [score_answer(row["solutions"][name], row["answer"], match=MatchMode.NUMBER)
         for name in GSM8K_MODELS]
        for row in rows
    ])  # fmt: skip


def test_real_answers_of_two_models_that_are_about_as_good_are_not_told_apart(
    gsm8k: Floats,
) -> None:
    assert gsm8k.mean(axis=0).tolist() == [0.56, 0.39, 0.365, 0.2225]
    compared = compare_all(gsm8k, seed=0)
    assert rank_bands([0, 1, 2, 3], compared.told_apart) == [1, 2, 2, 3]
    pair = compared.pair(1, 2)
    wins, losses = (int((gsm8k[:, i] > gsm8k[:, j]).sum()) for i, j in ((1, 2), (2, 1)))
    assert (wins, losses) == (54, 44)
    assert pair.p_value == pytest.approx(stats.binomtest(54, 98).pvalue)
    assert pair.difference == pytest.approx(0.025)
    assert pair.low < 0 < pair.high


def test_real_answers_have_intervals_as_the_bootstrap_gives_them(gsm8k: Floats) -> None:
    low, high = mean_intervals(gsm8k, seed=1)
    rng = np.random.default_rng(1)
    for candidate, scores in enumerate(gsm8k.T):
        expected = stats.bootstrap(
            (scores,), np.mean, n_resamples=2_000, method="percentile", rng=rng
        )
        ends = (expected.confidence_interval.low, expected.confidence_interval.high)
        assert (low[candidate], high[candidate]) == pytest.approx(ends, abs=0.006)
