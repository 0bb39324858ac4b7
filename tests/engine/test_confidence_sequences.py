"""Confidence sequences hold the mean at every look, and say nothing where they know nothing."""

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.confidence_sequences import (
    FEWEST_ASYMPTOTIC,
    Interval,
    Sums,
    asymptotic_difference,
    asymptotic_interval,
    asymptotic_ratio,
    unit_difference,
    unit_interval,
)
from engine.rollouts import add_up

ERROR = 0.05
STREAMS = 200
LOOKS = np.unique(np.geomspace(1, 4_000, 40).astype(int))
Draw = Callable[[np.random.Generator], NDArray[np.float64]]
Bound = Callable[[Sums, float], Interval | None]
PairBound = Callable[[Sums, Sums, float], Interval | None]


def sums_until(values: NDArray[np.float64]) -> Callable[[int], Sums]:
    totals, squares = values.cumsum(), (values**2).cumsum()
    return lambda n: Sums(int(n), float(totals[n - 1]), float(squares[n - 1]))


def missed_ever(draw: Draw, mean: float, bound: Bound) -> float:
    """Return the share of streams whose sequence misses the mean at any of many looks."""
    rng = np.random.default_rng(7)
    bound_once = cache(bound)  # streams of hits and misses have many sums in common
    missed = 0
    for _ in range(STREAMS):
        until = sums_until(draw(rng))
        intervals = (bound_once(until(n), ERROR) for n in LOOKS)
        missed += any(each and not each.low <= mean <= each.high for each in intervals)
    return missed / STREAMS


def missed_by_pairs(one: Draw, other: Draw, truth: float, bound: PairBound) -> float:
    """Return the same of two samples, of which the second is twice as large."""
    rng = np.random.default_rng(7)
    bound_once = cache(bound)  # streams of hits and misses have many sums in common
    missed = 0
    for _ in range(STREAMS):
        ours, theirs = sums_until(one(rng)), sums_until(other(rng))
        intervals = (bound_once(ours(n // 2), theirs(n), ERROR) for n in LOOKS if n > 1)
        missed += any(each and not each.low <= truth <= each.high for each in intervals)
    return missed / STREAMS


# Of 200 streams that each miss with a chance of 5 %, a tenth or more do so once in 300 times.
NOT_BY_CHANCE = 0.1


@pytest.mark.parametrize("mean", [0.001, 0.01, 0.3, 0.5, 0.99])
def test_an_exact_sequence_holds_a_proportion_at_every_look(mean: float) -> None:
    missed = missed_ever(
        lambda rng: (rng.random(4_000) < mean).astype(np.float64), mean, unit_interval
    )
    assert missed < NOT_BY_CHANCE


def test_an_exact_sequence_holds_the_mean_of_scores_between_the_bounds() -> None:
    missed = missed_ever(lambda rng: rng.beta(4, 1, 4_000), 0.8, unit_interval)
    assert missed < NOT_BY_CHANCE


@pytest.mark.parametrize("sigma", [0.1, 0.5, 0.8])
def test_an_asymptotic_sequence_holds_a_skewed_mean_at_every_look(sigma: float) -> None:
    missed = missed_ever(
        lambda rng: rng.lognormal(0, sigma, 4_000), math.exp(sigma**2 / 2), asymptotic_interval
    )
    assert missed < NOT_BY_CHANCE


def tosses(mean: float) -> Draw:
    return lambda rng: (rng.random(4_000) < mean).astype(np.float64)


@pytest.mark.parametrize(("one", "other"), [(0.01, 0.01), (0.1, 0.02), (0.0, 0.5), (0.9, 0.95)])
def test_an_exact_sequence_holds_a_difference_at_every_look(one: float, other: float) -> None:
    missed = missed_by_pairs(tosses(one), tosses(other), one - other, unit_difference)
    assert missed < NOT_BY_CHANCE


def test_an_asymptotic_sequence_holds_a_difference_and_a_ratio_at_every_look() -> None:
    def draw(rng: np.random.Generator) -> NDArray[np.float64]:
        return rng.lognormal(0, 0.5, 4_000)

    def draw_double(rng: np.random.Generator) -> NDArray[np.float64]:
        return 2 * rng.lognormal(0, 0.5, 4_000)

    mean = math.exp(0.125)
    assert missed_by_pairs(draw_double, draw, mean, asymptotic_difference) < NOT_BY_CHANCE
    assert missed_by_pairs(draw_double, draw, 2.0, asymptotic_ratio) < NOT_BY_CHANCE


def test_two_samples_together_say_more_than_two_intervals() -> None:
    one, other = Sums(1_000, 100.0, 100.0), Sums(1_000, 20.0, 20.0)
    together = unit_difference(one, other, ERROR)
    ours, theirs = unit_interval(one, ERROR / 2), unit_interval(other, ERROR / 2)
    assert together is not None
    assert ours is not None
    assert theirs is not None
    assert ours.low - theirs.high < together.low < 0.08 < together.high < ours.high - theirs.low


def test_an_ordinary_interval_would_miss_it_sooner_or_later() -> None:
    def ordinary(sums: Sums, _: float) -> Interval | None:
        if sums.count < FEWEST_ASYMPTOTIC or sums.mean is None:
            return None
        half = 1.96 * math.sqrt(sums.variance / sums.count)
        return Interval(sums.mean, sums.mean - half, sums.mean + half)

    assert missed_ever(lambda rng: rng.normal(0, 1, 4_000), 0.0, ordinary) > 0.2


@example(10**9, 1 - 2**-53, 0.05)
@given(st.integers(1, 10**9), st.floats(0, 1), st.floats(1e-6, 0.5))
def test_an_exact_interval_is_around_its_mean_and_within_the_bounds(
    count: int, share: float, error: float
) -> None:
    total = count * share
    found = unit_interval(Sums(count, total, total), error)
    assert found is not None
    assert 0 <= found.low <= found.mean <= found.high <= 1
    narrower = unit_interval(Sums(count, total, total), min(0.9, error * 2))
    assert narrower is not None
    assert found.low <= narrower.low + 1e-12
    assert narrower.high <= found.high + 1e-12


counts = st.integers(1, 10**7)


@given(counts, st.floats(0, 1), counts, st.floats(0, 1), st.floats(1e-6, 0.5))
def test_an_exact_difference_is_around_its_value_and_turns_with_its_samples(
    count: int, share: float, other_count: int, other_share: float, error: float
) -> None:
    one = Sums(count, count * share, 0.0)
    other = Sums(other_count, other_count * other_share, 0.0)
    there, back = unit_difference(one, other, error), unit_difference(other, one, error)
    assert there is not None
    assert back is not None
    assert -1 <= there.low <= there.mean <= there.high <= 1
    assert there.low == pytest.approx(-back.high, abs=1e-7)
    assert there.high == pytest.approx(-back.low, abs=1e-7)


def test_a_ratio_to_what_may_be_nothing_has_no_upper_end() -> None:
    one = add_up([1.0] * 100)
    rare = add_up([5.0] + [0.0] * 99)
    found = asymptotic_ratio(one, rare, ERROR)
    assert found is not None
    assert found.low < 20 == found.mean
    assert found.high == math.inf
    nothing = add_up([0.0] * 100)
    assert asymptotic_ratio(one, nothing, ERROR) == Interval(*[math.inf] * 3)
    assert asymptotic_ratio(nothing, nothing, ERROR) == Interval(1.0, 1.0, 1.0)
    none = asymptotic_ratio(nothing, one, ERROR)
    assert none is not None
    assert (none.mean, none.low) == (0.0, 0.0)


def test_a_comparison_needs_values_of_both() -> None:
    few, many = add_up([0.5] * 49), add_up([0.5] * 50)
    for one, other in ((few, many), (many, few)):
        assert asymptotic_difference(one, other, ERROR) is None
        assert asymptotic_ratio(one, other, ERROR) is None
    assert unit_difference(Sums(), many, ERROR) is None
    assert unit_difference(many, Sums(), ERROR) is None
    assert asymptotic_difference(many, many, ERROR) == Interval(0.0, 0.0, 0.0)


@given(st.lists(st.floats(-1e6, 1e6), min_size=FEWEST_ASYMPTOTIC, max_size=80))
def test_an_asymptotic_interval_is_around_its_mean(values: list[float]) -> None:
    found = asymptotic_interval(add_up(values), ERROR)
    assert found is not None
    assert found.low <= found.mean <= found.high


def test_values_that_are_all_equal_have_no_width_and_none_have_no_interval() -> None:
    equal = asymptotic_interval(add_up([0.25] * FEWEST_ASYMPTOTIC), ERROR)
    assert equal == Interval(0.25, 0.25, 0.25)
    assert asymptotic_interval(add_up([0.25] * (FEWEST_ASYMPTOTIC - 1)), ERROR) is None
    assert unit_interval(Sums(), ERROR) is None


def test_nothing_of_so_many_leaves_room_for_little() -> None:
    found = unit_interval(Sums(1_000, 0.0, 0.0), ERROR)
    assert found is not None
    assert (found.mean, found.low) == (0.0, 0.0)
    # Exactly: Beta's mixture of 1,000 misses, over the error.
    mixture = math.exp(math.lgamma(1_000.5) - math.lgamma(1_001)) / math.sqrt(math.pi)
    assert found.high == pytest.approx(1 - (mixture * ERROR) ** (1 / 1_000))


@pytest.mark.parametrize("error", [0.0, 1.0, -0.1, math.nan])
def test_an_error_that_is_no_chance_is_refused(error: float) -> None:
    for bound in (unit_interval, asymptotic_interval):
        with pytest.raises(ValueError, match="error must be between 0 and 1"):
            bound(Sums(100, 50.0, 50.0), error)
