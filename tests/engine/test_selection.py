"""Which rows of a snapshot are used."""

import hashlib
import math
from itertools import pairwise
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.selection import RowSelection, select_positions

Algorithm = Literal["ALL", "LAST_N", "RANDOM_SHUFFLE", "WEIGHTED_SHUFFLE"]

COUNTS = st.integers(0, 300)
SEEDS = st.integers()
WEIGHTS = st.lists(st.just(0.0) | st.floats(1e-200, 1e200), max_size=50)
EVERY_ALGORITHM = pytest.mark.parametrize(
    "algorithm", ["ALL", "LAST_N", "RANDOM_SHUFFLE", "WEIGHTED_SHUFFLE"]
)


def draw(weights: list[float], seed: int, rows: int | None = None) -> list[int]:
    selection = RowSelection("WEIGHTED_SHUFFLE", rows, seed)
    return select_positions(len(weights), selection, weights=np.array(weights, np.float64))


def published_key(seed: int, position: int, weight: float) -> float:
    """The paper's key, as a logarithm, from the digest that orders a plain shuffle."""
    digest = hashlib.blake2b(f"{seed}:{position}".encode(), digest_size=16).digest()
    return math.log1p(-(int.from_bytes(digest[:8], "big") // 4096 + 0.5) / 2**52) / weight


def test_all_takes_every_row_in_order_whatever_the_limit() -> None:
    assert select_positions(4, RowSelection("ALL", rows=2, seed=9)) == [0, 1, 2, 3]


def test_last_n_takes_the_newest_in_order() -> None:
    assert select_positions(5, RowSelection("LAST_N", rows=2, seed=9)) == [3, 4]


def test_last_n_of_fewer_rows_takes_them_all() -> None:
    assert select_positions(2, RowSelection("LAST_N", rows=5, seed=0)) == [0, 1]


def test_no_limit_means_every_row() -> None:
    assert select_positions(3, RowSelection("LAST_N", rows=None, seed=0)) == [0, 1, 2]
    assert sorted(select_positions(3, RowSelection("RANDOM_SHUFFLE", None, 0))) == [0, 1, 2]


def test_a_shuffle_is_this_one_for_ever() -> None:
    by_seven = select_positions(10, RowSelection("RANDOM_SHUFFLE", rows=10, seed=7))
    by_eight = select_positions(10, RowSelection("RANDOM_SHUFFLE", rows=10, seed=8))
    assert by_seven == [9, 6, 0, 2, 7, 1, 8, 5, 3, 4]
    assert by_eight == [7, 3, 9, 4, 8, 5, 6, 1, 2, 0]


@given(row_count=COUNTS, rows=COUNTS, seed=SEEDS)
def test_a_shuffle_draws_distinct_rows_of_the_snapshot(
    row_count: int, rows: int, seed: int
) -> None:
    drawn = select_positions(row_count, RowSelection("RANDOM_SHUFFLE", rows, seed))
    assert len(drawn) == min(rows, row_count)
    assert len(set(drawn)) == len(drawn)
    assert set(drawn) <= set(range(row_count))


@given(row_count=COUNTS, rows=COUNTS, seed=SEEDS)
def test_drawing_fewer_rows_gives_the_beginning_of_drawing_all(
    row_count: int, rows: int, seed: int
) -> None:
    everything = select_positions(row_count, RowSelection("RANDOM_SHUFFLE", None, seed))
    assert (
        select_positions(row_count, RowSelection("RANDOM_SHUFFLE", rows, seed))
        == (everything[:rows])
    )


def test_every_row_is_drawn_first_by_some_seed() -> None:
    first = {select_positions(8, RowSelection("RANDOM_SHUFFLE", 1, seed))[0] for seed in range(200)}
    assert first == set(range(8))


def test_a_negative_number_of_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="rows must not be negative, not -1"):
        RowSelection("LAST_N", rows=-1, seed=0)


def test_a_weighted_shuffle_is_this_one_for_ever() -> None:
    weights = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 0.0]
    assert draw(weights, seed=7) == [6, 7, 2, 0, 8, 5, 4, 3, 1]
    assert draw(weights, seed=8) == [7, 3, 8, 4, 6, 5, 2, 1, 0]


@given(weights=WEIGHTS, seed=SEEDS)
def test_a_weighted_shuffle_takes_the_largest_published_keys_first(
    weights: list[float], seed: int
) -> None:
    keys = [published_key(seed, position, weights[position]) for position in draw(weights, seed)]
    assert all(first >= second * (1 + 1e-9) for first, second in pairwise(keys))


@given(weights=WEIGHTS, seed=SEEDS, rows=COUNTS)
def test_fewer_rows_drawn_by_weight_are_the_beginning_of_more(
    weights: list[float], seed: int, rows: int
) -> None:
    assert draw(weights, seed, rows) == draw(weights, seed)[:rows]


@given(weights=WEIGHTS, seed=SEEDS)
def test_a_row_is_drawn_once_if_it_has_a_weight_and_never_if_it_has_none(
    weights: list[float], seed: int
) -> None:
    assert sorted(draw(weights, seed)) == [i for i, weight in enumerate(weights) if weight]


@given(count=COUNTS, seed=SEEDS)
def test_equal_weights_draw_as_a_plain_shuffle_does(count: int, seed: int) -> None:
    plain = select_positions(count, RowSelection("RANDOM_SHUFFLE", None, seed))
    assert draw([2.5] * count, seed) == plain


def test_each_row_is_drawn_first_in_proportion_to_its_weight() -> None:
    weights = [1.0, 2.0, 3.0, 4.0]
    draws = 10_000
    firsts = np.bincount([draw(weights, seed, rows=1)[0] for seed in range(draws)])
    assert firsts / draws == pytest.approx(np.array(weights) / 10, abs=0.015)


def test_the_second_row_is_drawn_by_the_weights_that_are_left() -> None:
    weights = [1.0, 2.0, 3.0, 4.0]
    draws = 10_000
    included = np.bincount(np.ravel([draw(weights, seed, rows=2) for seed in range(draws)]))
    shares = [weight / 10 for weight in weights]
    expected = [
        share + sum(other * share / (1 - other) for other in shares if other != share)
        for share in shares
    ]
    assert included / draws == pytest.approx(np.array(expected), abs=0.015)


def test_the_smallest_weights_there_are_still_weigh() -> None:
    tiny = 5e-324
    firsts = [draw([tiny, 3 * tiny], seed, rows=1)[0] for seed in range(2000)]
    assert sum(firsts) / 2000 == pytest.approx(3 / 4, abs=0.03)


def test_a_weighted_shuffle_without_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="WEIGHTED_SHUFFLE needs weights"):
        select_positions(3, RowSelection("WEIGHTED_SHUFFLE"))


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
def test_a_weight_that_is_none_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="weights must be finite and not negative"):
        draw([1.0, weight], seed=0)


def test_weights_for_other_rows_are_refused() -> None:
    with pytest.raises(ValueError, match=r"3 rows need as many weights, not shape \(2,\)"):
        select_positions(3, RowSelection("WEIGHTED_SHUFFLE"), weights=np.ones(2))


def test_last_n_takes_those_that_arrived_last_in_order_of_arrival() -> None:
    arrivals = np.array([40, 10, 50, 20, 30])
    selection = RowSelection("LAST_N", rows=3)
    assert select_positions(5, selection, newest=arrivals) == [4, 0, 2]


def test_rows_that_arrived_together_are_in_order_of_position() -> None:
    together = np.array([7, 9, 7, 7])
    assert select_positions(4, RowSelection("LAST_N", rows=3), newest=together) == [2, 3, 1]


@given(row_count=COUNTS, rows=COUNTS)
def test_rows_that_arrived_by_position_are_taken_as_without_arrivals(
    row_count: int, rows: int
) -> None:
    selection = RowSelection("LAST_N", rows)
    in_order = np.arange(row_count) * 3
    assert select_positions(row_count, selection, newest=in_order) == (
        select_positions(row_count, selection)
    )


def test_arrivals_of_other_rows_are_refused() -> None:
    with pytest.raises(ValueError, match=r"3 rows need as many arrivals, not shape \(4,\)"):
        select_positions(3, RowSelection("LAST_N"), newest=np.arange(4))


def test_each_algorithm_chooses_among_the_eligible() -> None:
    eligible = np.array([1, 3, 4, 8])
    arrivals = np.array([0, 90, 0, 70, 80, 0, 0, 0, 60, 0])

    def choose(
        algorithm: Literal["ALL", "LAST_N"], newest: NDArray[np.int64] | None = None
    ) -> list[int]:
        selection = RowSelection(algorithm, rows=2)
        return select_positions(10, selection, newest=newest, eligible=eligible)

    assert choose("ALL") == [1, 3, 4, 8]
    assert choose("LAST_N") == [4, 8]
    assert choose("LAST_N", arrivals) == [4, 1]


@EVERY_ALGORITHM
@given(data=st.data(), row_count=COUNTS, seed=SEEDS)
def test_the_eligible_come_in_the_order_in_which_they_come_among_all(
    algorithm: Algorithm, data: st.DataObject, row_count: int, seed: int
) -> None:
    positions = st.sets(st.integers(0, row_count - 1)) if row_count else st.just(set[int]())
    eligible = sorted(data.draw(positions))
    selection = RowSelection(algorithm, None, seed)
    weights = np.arange(row_count, dtype=np.float64)
    chosen = select_positions(
        row_count, selection, weights=weights, eligible=np.array(eligible, np.int64)
    )
    among_all = select_positions(row_count, selection, weights=weights)
    assert chosen == [position for position in among_all if position in set(eligible)]


@EVERY_ALGORITHM
def test_nothing_is_chosen_of_nothing(algorithm: Algorithm) -> None:
    nobody = np.array([], np.int64)
    selection = RowSelection(algorithm)
    assert select_positions(0, selection, weights=np.ones(0), newest=nobody) == []
    assert select_positions(2, selection, weights=np.ones(2), eligible=nobody) == []


@pytest.mark.parametrize("eligible", [[2, 1], [1, 1], [[1, 2]]])
def test_eligible_positions_out_of_order_are_refused(eligible: list[int]) -> None:
    with pytest.raises(ValueError, match="must be distinct and in ascending order"):
        select_positions(3, RowSelection("ALL"), eligible=np.array(eligible))


@pytest.mark.parametrize("eligible", [[-1, 2], [1, 3]])
def test_eligible_positions_outside_the_snapshot_are_refused(eligible: list[int]) -> None:
    with pytest.raises(ValueError, match="must be from 0 to below 3"):
        select_positions(3, RowSelection("ALL"), eligible=np.array(eligible))
