"""Confidence sequences hold the mean at every look, and say nothing where they know nothing."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.confidence_sequences import (
    FEWEST_ASYMPTOTIC,
    Interval,
    Sums,
    asymptotic_interval,
    unit_interval,
)
from engine.rollouts import add_up

ERROR = 0.05
STREAMS = 300
LOOKS = np.unique(np.geomspace(1, 4_000, 60).astype(int))
Draw = Callable[[np.random.Generator], NDArray[np.float64]]
Bound = Callable[[Sums, float], Interval | None]


def missed_ever(draw: Draw, mean: float, bound: Bound) -> float:
    """Return the share of streams whose sequence misses the mean at any of many looks."""
    rng = np.random.default_rng(7)
    missed = 0
    for _ in range(STREAMS):
        values = draw(rng)
        totals, squares = values.cumsum(), (values**2).cumsum()
        intervals = (
            bound(Sums(int(n), float(totals[n - 1]), float(squares[n - 1])), ERROR) for n in LOOKS
        )
        missed += any(each and not each.low <= mean <= each.high for each in intervals)
    return missed / STREAMS


# Of 300 streams that each miss with a chance of 5 %, more than 9 % do so once in a thousand times.
NOT_BY_CHANCE = 0.09


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


def test_an_ordinary_interval_would_miss_it_sooner_or_later() -> None:
    def ordinary(sums: Sums, _: float) -> Interval | None:
        if sums.count < FEWEST_ASYMPTOTIC or sums.mean is None:
            return None
        half = 1.96 * math.sqrt(sums.variance / sums.count)
        return Interval(sums.mean, sums.mean - half, sums.mean + half)

    assert missed_ever(lambda rng: rng.normal(0, 1, 4_000), 0.0, ordinary) > 0.2


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
    assert found.low <= narrower.low
    assert narrower.high <= found.high


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
