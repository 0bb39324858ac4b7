"""Agreement of raters, and means corrected by reviews."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.agreement import CorrectedMean, cohen_kappa, correct_mean, exact_agreement

Scores = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], tuple[Scores, Scores]]

RATINGS = st.lists(st.tuples(*[st.sampled_from(["good", "bad", None, 3])] * 2), max_size=40)


def rate(table: list[list[int]]) -> tuple[list[int], list[int]]:
    """Ratings of two raters of whom the first's categories are rows, the second's columns."""
    cells = [(row, column) for row, counts in enumerate(table) for column in range(len(counts))]
    pairs = [pair for pair in cells for _ in range(table[pair[0]][pair[1]])]
    return [one for one, _ in pairs], [other for _, other in pairs]


def alike(rng: np.random.Generator, rows: int, *, right: float = 0.7) -> tuple[Scores, Scores]:
    """A judge and people who say 0 or 1, and differ on one row of twenty."""
    human = (rng.random(rows) < right).astype(np.float64)
    return np.where(rng.random(rows) < 0.05, 1 - human, human), human


def lenient(rng: np.random.Generator, rows: int) -> tuple[Scores, Scores]:
    """A judge that gives 0.2 more than people would, in scores of people up to 0.8."""
    human = rng.random(rows) * 0.8
    return human + 0.2, human


def clueless(rng: np.random.Generator, rows: int) -> tuple[Scores, Scores]:
    """A judge whose scores have nothing to do with people's."""
    return rng.random(rows), (rng.random(rows) < 0.6).astype(np.float64)


def repeat(draw: Draw, *, reviewed: int, times: int = 500, rows: int = 400) -> list[CorrectedMean]:
    rng = np.random.default_rng(8)
    results = []
    for _ in range(times):
        judged, human = draw(rng, rows)
        result = correct_mean(judged, judged[:reviewed], human[:reviewed])
        assert result is not None
        results.append(result)
    return results


def coverage(results: list[CorrectedMean], truth: float) -> float:
    return float(np.mean([result.low <= truth <= result.high for result in results]))


def width(results: list[CorrectedMean]) -> float:
    return float(np.mean([result.high - result.low for result in results]))


@pytest.mark.parametrize(
    ("table", "agreement", "kappa"),
    [
        # R. Artstein and M. Poesio, "Inter-Coder Agreement for Computational Linguistics",
        # Computational Linguistics 34 (2008), table 1.
        ([[20, 20], [10, 50]], 0.7, 0.348),
        ([[20, 5], [10, 15]], 0.7, 0.4),
        # Agreement by chance 0.6 * 0.65 + 0.3 * 0.25 + 0.1 * 0.1 = 0.475.
        ([[106, 10, 4], [22, 28, 10], [2, 12, 6]], 0.7, 0.429),
        ([[0, 10], [10, 0]], 0.0, -1.0),
        ([[9, 3], [3, 1]], 0.625, 0.0),
        ([[5, 0], [0, 5]], 1.0, 1.0),
    ],
)
def test_worked_examples_give_their_known_values(
    table: list[list[int]], agreement: float, kappa: float
) -> None:
    first, second = rate(table)
    assert exact_agreement(first, second) == agreement
    assert cohen_kappa(first, second) == pytest.approx(kappa, abs=5e-4)


@given(RATINGS)
def test_kappa_is_agreement_above_chance_as_a_share_of_what_chance_leaves(
    pairs: list[tuple[object, object]],
) -> None:
    first, second = [one for one, _ in pairs], [other for _, other in pairs]
    kappa, agreement = cohen_kappa(first, second), exact_agreement(first, second)
    if kappa is None or agreement is None:
        assert len({*first, *second}) <= 1
        return
    shares = [
        first.count(value) / len(first) * second.count(value) / len(second) for value in {*first}
    ]
    assert kappa == pytest.approx((agreement - sum(shares)) / (1 - sum(shares)), abs=1e-9)


@given(RATINGS)
def test_neither_measure_depends_on_which_rater_comes_first(
    pairs: list[tuple[object, object]],
) -> None:
    first, second = [one for one, _ in pairs], [other for _, other in pairs]
    assert cohen_kappa(first, second) == cohen_kappa(second, first)
    assert exact_agreement(first, second) == exact_agreement(second, first)


def test_kappa_is_undefined_when_both_only_ever_said_the_same_one_thing() -> None:
    assert cohen_kappa([1, 1, 1], [1, 1, 1]) is None
    assert exact_agreement([1, 1, 1], [1, 1, 1]) == 1.0


def test_kappa_is_zero_when_one_rater_always_says_the_same() -> None:
    assert cohen_kappa([1, 1, 1, 1], [1, 0, 1, 0]) == 0.0


def test_without_items_there_is_no_agreement_to_speak_of() -> None:
    assert cohen_kappa([], []) is None
    assert exact_agreement([], []) is None


@pytest.mark.parametrize("pair", [([1], []), ([], [1]), ([1, 2], [1])])
def test_raters_of_different_items_are_refused(pair: tuple[list[int], list[int]]) -> None:
    with pytest.raises(ValueError, match="argument 2"):
        cohen_kappa(*pair)
    with pytest.raises(ValueError, match="argument 2"):
        exact_agreement(*pair)


def test_a_corrected_mean_worked_by_hand() -> None:
    # The judge: 1, 0, 1, 0 reviewed, with variance 1 / 3, and 1, 1, 0, 1 not; of all 15 / 56.
    # People: 1, 0, 0, 0, with covariance (1 - 2 * 1 / 4) / 3 = 1 / 6.
    # Weight: (1 / 6) / (1 / 3) * 4 / 8 = 1 / 4. Mean: 1 / 4 * (3 / 4 - 1 / 2) + 1 / 4 = 5 / 16.
    # People above 1 / 4 of the judge: 3 / 4, 0, -1 / 4, 0, squares around 1 / 8 sum to 9 / 16.
    judged = np.array([1.0, 0, 1, 0, 1, 1, 0, 1])
    result = correct_mean(judged, judged[:4], np.array([1.0, 0, 0, 0]))
    variance = (9 / 16 + 1) / 4 / 4 + (1 / 4) ** 2 * (15 / 56) / 4
    assert result is not None
    assert (result.weight, result.mean) == (0.25, 0.3125)
    assert result.high == pytest.approx(0.3125 + 1.959964 * math.sqrt(variance))
    assert (result.low, result.reviewed_count) == (0.0, 4)


def test_the_weight_makes_the_published_variance_as_small_as_any_weight_does() -> None:
    rng = np.random.default_rng(9)
    human = rng.random(2000)
    judged = np.clip(human + rng.normal(0, 0.3, 2000), 0, 1)
    result = correct_mean(judged, judged[:500], human[:500])

    def published_variance(weight: float) -> float:
        residuals = human[:500] - weight * judged[:500]
        return float(residuals.var(ddof=1) / 500 + weight**2 * judged.var(ddof=1) / 1500)

    assert result is not None
    others = [published_variance(weight) for weight in np.linspace(0, 1, 101)]
    assert published_variance(result.weight) == pytest.approx(min(others), rel=1e-3)
    half_width = (result.high - result.low) / 2
    assert half_width == pytest.approx(1.96 * math.sqrt(min(others)), rel=0.03)


def test_a_judge_that_always_gives_too_much_biases_nothing() -> None:
    results = repeat(lenient, reviewed=30)
    # People's mean is 0.4; four standard errors of 500 means are at most 0.006.
    assert np.mean([result.mean for result in results]) == pytest.approx(0.4, abs=0.006)
    assert np.mean([result.weight for result in results]) > 0.85


def test_few_reviews_of_a_judge_that_says_yes_or_no_bias_hardly_anything() -> None:
    means = [result.mean for result in repeat(alike, reviewed=20, times=1500)]
    # Four standard errors are at most 0.0057.
    assert np.mean(means) == pytest.approx(0.7, abs=0.006)


@pytest.mark.parametrize("reviewed", [10, 20, 30, 100])
@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        (alike, 0.7),
        (lambda rng, rows: alike(rng, rows, right=0.95), 0.95),
        (lenient, 0.4),
        (clueless, 0.6),
    ],
)
def test_intervals_hold_the_true_mean_about_as_often_as_they_say(
    draw: Draw, truth: float, reviewed: int
) -> None:
    assert coverage(repeat(draw, reviewed=reviewed), truth) >= 0.92


@pytest.mark.parametrize(("draw", "most"), [(alike, 0.7), (lenient, 0.85), (clueless, 1.02)])
def test_a_good_judge_narrows_the_interval_and_a_useless_one_hardly_widens_it(
    draw: Draw, most: float
) -> None:
    def without_a_judge(rng: np.random.Generator, rows: int) -> tuple[Scores, Scores]:
        return np.full(rows, 0.5), draw(rng, rows)[1]

    judged, alone = repeat(draw, reviewed=30), repeat(without_a_judge, reviewed=30)
    assert width(judged) < most * width(alone)


def test_a_judge_that_always_says_the_same_leaves_the_reviewers_mean() -> None:
    result = correct_mean(np.full(50, 0.1), np.full(4, 0.1), np.array([1.0, 0, 1, 0.5]))
    assert result is not None
    assert (result.mean, result.weight) == (0.625, 0.0)


def test_a_judge_that_says_the_opposite_is_not_followed() -> None:
    human = np.array([1.0, 0.0, 1.0, 1.0])
    judged = np.concatenate([1 - human, np.ones(10)])
    result = correct_mean(judged, 1 - human, human)
    assert result is not None
    assert (result.mean, result.weight) == (0.75, 0.0)


def test_when_every_row_was_reviewed_the_judge_has_no_say() -> None:
    human = np.array([1.0, 0.0, 1.0, 1.0])
    result = correct_mean(np.array([1.0, 0, 0, 1]), np.array([1.0, 0, 0, 1]), human)
    assert result is not None
    assert (result.mean, result.weight, result.reviewed_count) == (0.75, 0.0, 4)


def test_a_perfect_judge_of_many_rows_leaves_the_doubt_that_few_reviews_leave() -> None:
    judged = np.tile([1.0, 0.0], 5000)
    result = correct_mean(judged, judged[:20], judged[:20])
    assert result is not None
    assert result.mean == pytest.approx(0.5)
    # One review more that differed fully: 1.96 * sqrt(1 / 20 / 20), and little for the rest.
    assert result.high - result.mean == pytest.approx(1.96 / 20, rel=0.03)


def test_a_higher_confidence_gives_a_wider_interval_around_the_same_mean() -> None:
    judged, human = lenient(np.random.default_rng(10), 200)
    usual = correct_mean(judged, judged[:40], human[:40])
    surer = correct_mean(judged, judged[:40], human[:40], confidence=0.99)
    assert usual is not None
    assert surer is not None
    assert surer.mean == usual.mean
    ratio = (surer.high - surer.low) / (usual.high - usual.low)
    assert ratio == pytest.approx(2.5758 / 1.96, abs=1e-4)


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=30).flatmap(
        lambda judged: st.tuples(
            st.just(np.array(judged)),
            st.lists(st.floats(0, 1), min_size=2, max_size=len(judged)).map(np.array),
        )
    )
)
def test_the_mean_and_its_interval_stay_on_the_scale(case: tuple[Scores, Scores]) -> None:
    judged, human = case
    result = correct_mean(judged, judged[: len(human)], human)
    assert result is not None
    assert 0 <= result.low <= result.mean <= result.high <= 1
    assert 0 <= result.weight <= 1


@pytest.mark.parametrize("reviewed", [0, 1])
def test_fewer_than_two_reviews_correct_nothing(reviewed: int) -> None:
    judged = np.array([0.2, 0.4, 0.9])
    assert correct_mean(judged, judged[:reviewed], judged[:reviewed]) is None


@pytest.mark.parametrize(("judged", "on_reviewed", "human"), [(9, 3, 2), (9, 2, 3), (2, 3, 3)])
def test_reviews_that_do_not_fit_the_rows_are_refused(
    judged: int, on_reviewed: int, human: int
) -> None:
    with pytest.raises(ValueError, match=f"{human} reviews don't fit {on_reviewed} judged rows"):
        correct_mean(np.ones(judged), np.ones(on_reviewed), np.ones(human))


@pytest.mark.parametrize("score", [-0.1, 1.1, math.nan])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_score_outside_the_scale_is_refused(score: float, place: int) -> None:
    arrays = [np.full(4, 0.5), np.full(2, 0.5), np.full(2, 0.5)]
    arrays[place][0] = score
    with pytest.raises(ValueError, match="outside 0 to 1"):
        correct_mean(*arrays)


@pytest.mark.parametrize("confidence", [0.0, 1.0, math.nan])
def test_a_confidence_that_is_no_share_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence must be between 0 and 1"):
        correct_mean(np.ones(4), np.ones(2), np.ones(2), confidence=confidence)
