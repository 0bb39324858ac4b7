"""Which rows of a snapshot are used."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.selection import RowSelection, select_positions

COUNTS = st.integers(0, 300)
SEEDS = st.integers()


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
