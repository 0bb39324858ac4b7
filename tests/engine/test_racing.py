"""Stopping candidates that can no longer win."""

import math
from functools import partial
from itertools import combinations
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bench.racing import (
    CLEAR_WINNER,
    NEAR_EQUAL_LEADERS,
    Race,
    draw_scores,
    draw_tie,
    find_beaten_by_fixed_intervals,
    simulate_race,
)
from engine.racing import RacingRule, find_beaten

Scores = NDArray[np.float64]
EAGER = RacingRule(min_rows=1)


def duel(leads: list[float]) -> Scores:
    """Two candidates, of whom the first scores more than the second by these leads."""
    return np.column_stack([1 + np.array(leads), 1 - np.array(leads)]) / 2


def race_through(tables: list[Scores], look_every: int = 50) -> list[Race]:
    return [
        simulate_race(
            table,
            partial(find_beaten, rule=RacingRule(), entrants=table.shape[1], row_count=len(table)),
            look_every,
        )
        for table in tables
    ]


def first_beaten(leads: list[float], error: float, row_count: int) -> int | None:
    """The published confidence sequence, row by row: the first row where it lies above 0."""
    total = variance_total = top = bottom = 0.0
    mean, variance = 0.5, 0.25
    for row, lead in enumerate(leads, start=1):
        gain = (lead + 1) / 2
        bet = min(math.sqrt(2 * math.log(1 / error) / (variance * row * math.log(1 + row))), 0.5)
        left = row_count - row + 1
        top += bet * (gain + total / left) - (-math.log(1 - bet) - bet) * (gain - mean) ** 2
        bottom += bet * (1 + (row - 1) / left)
        if (top - math.log(1 / error)) / bottom > 0.5:
            return row
        total += gain
        mean = (0.5 + total) / (row + 1)
        variance_total += (gain - mean) ** 2
        variance = (0.25 + variance_total) / (row + 1)
    return None


ANY_SCORES = st.integers(2, 5).flatmap(
    lambda racing: st.lists(
        st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=racing, max_size=racing),
        min_size=1,
        max_size=60,
    ).map(np.array)
)


@pytest.fixture(scope="module")
def clear_tables() -> list[Scores]:
    rng = np.random.default_rng(3)
    return [draw_scores(rng, CLEAR_WINNER, 1000) for _ in range(150)]


@pytest.fixture(scope="module")
def clear_races(clear_tables: list[Scores]) -> list[Race]:
    return race_through(clear_tables)


def test_a_clear_winner_among_eight_saves_at_least_two_calls_of_five(
    clear_races: list[Race],
) -> None:
    assert all(race.rows_asked.mean() <= 600 for race in clear_races)


def test_a_clear_winner_wins_the_race_as_it_wins_when_everybody_is_asked_everything(
    clear_tables: list[Scores], clear_races: list[Race]
) -> None:
    everything = [int(table.mean(axis=0).argmax()) for table in clear_tables]
    assert [race.winner for race in clear_races] == everything


def test_the_mean_of_who_was_stopped_is_too_low_on_average(
    clear_tables: list[Scores], clear_races: list[Race]
) -> None:
    errors = [
        table[:asked, candidate].mean() - table[:, candidate].mean()
        for table, race in zip(clear_tables, clear_races, strict=True)
        for candidate, asked in enumerate(race.rows_asked)
        if asked < len(table)
    ]
    assert -0.01 < np.mean(errors) < -0.002


def test_of_two_near_equal_leaders_the_better_on_all_rows_wins() -> None:
    rng = np.random.default_rng(4)
    tables = [draw_scores(rng, NEAR_EQUAL_LEADERS, 1000) for _ in range(60)]
    races = race_through(tables)
    wrong = [
        table.mean(axis=0)[race.winner] < table.mean(axis=0).max()
        for table, race in zip(tables, races, strict=True)
    ]
    assert np.mean(wrong) <= 0.05
    assert np.mean([race.rows_asked.mean() for race in races]) <= 600


@pytest.mark.parametrize("error", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("leads", [[-1.0, 1.0], [-0.5, 0.5], [-1.0, 0.25]])
def test_over_all_orders_of_the_rows_the_best_is_stopped_no_more_often_than_allowed(
    error: float, leads: list[float]
) -> None:
    low, high = leads
    ups = round(10 * -low / (high - low))  # so that the leads sum to 0: both are best
    rule = RacingRule(error=error, min_rows=1)
    orders = list(combinations(range(10), ups))
    stopped = 0
    for order in orders:
        trail = np.full(10, low)
        trail[list(order)] = high
        assert trail.sum() == pytest.approx(0)
        scores = duel(trail.tolist())
        looks = (find_beaten(scores[:n], rule, entrants=2, row_count=10) for n in range(1, 11))
        stopped += any(beaten[1] for beaten in looks)
    assert stopped / len(orders) <= error


def test_ordinary_intervals_err_far_more_often_when_one_looks_all_the_time() -> None:
    rng = np.random.default_rng(5)
    rule = RacingRule()
    stopped_by_rule, stopped_by_intervals = [], []
    for _ in range(250):
        table = draw_tie(rng, 2, 400)
        by_rule = partial(find_beaten, rule=rule, entrants=2, row_count=400)
        by_intervals = partial(find_beaten_by_fixed_intervals, rule=rule, entrants=2)
        # Both are best, so stopping the first is an error.
        stopped_by_rule.append(simulate_race(table, by_rule, 10).rows_asked[0] < 400)
        stopped_by_intervals.append(simulate_race(table, by_intervals, 10).rows_asked[0] < 400)
    assert np.mean(stopped_by_rule) <= 0.05
    assert np.mean(stopped_by_intervals) >= 0.12


@pytest.mark.parametrize("error", [0.05, 0.5])
@pytest.mark.parametrize("row_count", [160, 200, 10**6])
@pytest.mark.parametrize("entrants", [2, 8])
def test_who_trails_is_beaten_from_the_row_that_the_published_formula_gives(
    error: float, row_count: int, entrants: int
) -> None:
    rng = np.random.default_rng(12)
    rule = RacingRule(error=error, min_rows=1)
    for _ in range(40):
        leads = rng.choice([-1.0, 0.0, 0.5, 1.0], 160, p=[0.25, 0.15, 0.15, 0.45]).tolist()
        expected = first_beaten(leads, error / (entrants - 1), row_count)
        last = expected or len(leads)
        for seen in (last - 1, last):
            scores = duel(leads[:seen])
            (_, beaten) = find_beaten(scores, rule, entrants=entrants, row_count=row_count)
            assert beaten == (seen == expected)


def test_the_least_rows_for_a_verdict_grow_with_the_number_of_entrants() -> None:
    def rows_needed(entrants: int) -> int:
        scores = duel([1.0] * 100)
        return next(
            seen
            for seen in range(1, 101)
            if find_beaten(scores[:seen], EAGER, entrants=entrants, row_count=10**6)[1]
        )

    assert [rows_needed(entrants) for entrants in (2, 8, 100)] == [13, 21, 31]


def test_a_lead_that_could_turn_around_on_many_rows_is_safe_when_few_are_left() -> None:
    scores = duel([1.0, -1.0, 1.0, -1.0, 1.0] * 19)
    assert not find_beaten(scores, EAGER, entrants=2, row_count=10**6)[1]
    assert find_beaten(scores, EAGER, entrants=2, row_count=100)[1]


def test_a_verdict_is_the_same_for_whoever_looks_only_later() -> None:
    scores = duel([1.0] * 40 + [-1.0] * 39)
    for seen in (40, 60, 79):
        assert find_beaten(scores[:seen], EAGER, entrants=2, row_count=10**6)[1]
    # The same rows in another order say nothing.
    assert not find_beaten(duel([1.0] + [-1.0, 1.0] * 39), EAGER, entrants=2, row_count=10**6).any()


@given(ANY_SCORES)
def test_the_leader_is_never_beaten(scores: Scores) -> None:
    beaten = find_beaten(scores, EAGER, entrants=5, row_count=60)
    assert not beaten[scores.sum(axis=0).argmax()]


@given(ANY_SCORES, st.randoms(use_true_random=False))
def test_the_order_of_candidates_never_shows(scores: Scores, random: Random) -> None:
    scores = np.column_stack([scores, np.ones(len(scores))])
    order = random.sample(range(scores.shape[1]), scores.shape[1])
    rule = RacingRule(error=0.5, min_rows=1)
    beaten = find_beaten(scores, rule, entrants=6, row_count=60)
    shuffled = find_beaten(scores[:, order], rule, entrants=6, row_count=60)
    assert shuffled.tolist() == beaten[order].tolist()


def test_who_answers_all_wrong_while_another_answers_all_right_is_beaten_at_once() -> None:
    scores = np.tile([1.0, 0.0, 0.9], (50, 1))
    assert find_beaten(scores, RacingRule(), entrants=3, row_count=1000).tolist() == [
        False,
        True,
        False,
    ]


def test_nobody_is_beaten_before_the_least_number_of_rows() -> None:
    scores = np.tile([1.0, 0.0], (80, 1))
    rule = RacingRule(min_rows=80)
    assert not find_beaten(scores[:79], rule, entrants=2, row_count=1000).any()
    assert find_beaten(scores, rule, entrants=2, row_count=1000).any()


def test_candidates_that_score_the_same_on_every_row_are_never_stopped() -> None:
    rng = np.random.default_rng(6)
    scores = np.tile(rng.random((500, 1)), (1, 4))
    assert not find_beaten(scores, EAGER, entrants=4, row_count=500).any()


@pytest.mark.parametrize("racing", [0, 1])
def test_no_race_is_left_to_be_lost_alone(racing: int) -> None:
    scores = np.ones((100, racing))
    assert find_beaten(scores, EAGER, entrants=max(racing, 1), row_count=100).sum() == 0


@pytest.mark.parametrize("score", [-0.1, 1.1, math.nan, math.inf])
def test_a_score_outside_the_scale_is_refused(score: float) -> None:
    with pytest.raises(ValueError, match="outside 0 to 1"):
        find_beaten(np.array([[0.5, score]]), EAGER, entrants=2, row_count=10)


@pytest.mark.parametrize(("entrants", "row_count"), [(2, 10), (3, 3)])
def test_more_rows_or_candidates_than_the_race_has_are_refused(
    entrants: int, row_count: int
) -> None:
    with pytest.raises(ValueError, match="4 x 3 scores in a race of"):
        find_beaten(np.ones((4, 3)), EAGER, entrants=entrants, row_count=row_count)


@pytest.mark.parametrize("error", [0.0, 1.0, math.nan])
def test_an_error_that_is_no_share_is_refused(error: float) -> None:
    with pytest.raises(ValueError, match="error must be between 0 and 1"):
        RacingRule(error=error)


def test_a_verdict_on_no_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="min_rows must be at least 1"):
        RacingRule(min_rows=0)
