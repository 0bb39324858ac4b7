"""The order of candidates, and what a ranking says of its own certainty."""

import decimal
import math
import random
from collections.abc import Sequence
from decimal import Decimal
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.ranking import CandidateFigures, RankedCandidate, rank_candidates

ROWS = 4


def figures(
    number: int,
    *,
    rows: int = ROWS,
    latency_ms: float | None = 1.0,
    cost_usd: str | None = None,
    error_count: int = 0,
) -> CandidateFigures:
    cost = None if cost_usd is None else Decimal(cost_usd)
    return CandidateFigures(UUID(int=number), rows, error_count, latency_ms, latency_ms, cost)


def matrix(*columns: Sequence[float]) -> NDArray[np.float64]:
    return np.array(columns, dtype=np.float64).T


def rank(
    *candidates: tuple[CandidateFigures, Sequence[float]], seed: int = 1
) -> list[RankedCandidate]:
    scores = matrix(*(scores for _, scores in candidates))
    return rank_candidates(scores, [each for each, _ in candidates], seed=seed)


def order(*candidates: tuple[CandidateFigures, Sequence[float]]) -> list[int]:
    return [ranked.figures.candidate_id.int for ranked in rank(*candidates)]


FIELD = st.lists(
    st.tuples(
        st.builds(
            figures,
            st.integers(0, 2**128 - 1),
            latency_ms=st.sampled_from([None, 1.0, 2.0]),
            cost_usd=st.sampled_from([None, "0", "0.25", "1"]),
        ),
        st.lists(st.sampled_from([0.0, 0.5, 1.0, math.nan]), min_size=ROWS, max_size=ROWS),
    ),
    unique_by=lambda candidate: candidate[0].candidate_id,
    min_size=1,
    max_size=6,
)


def test_a_line_of_a_ranking_says_everything_about_its_candidate() -> None:
    one = figures(5, cost_usd="0.000001", error_count=1)
    (ranked,) = rank((one, [1.0, 0.0, 1.0, math.nan]))
    assert (ranked.figures, ranked.rank, ranked.band) == (one, 1, 1)
    assert (ranked.score, ranked.scored_row_count) == (2 / 3, 3)
    assert 0 <= ranked.score_low < 2 / 3 < ranked.score_high <= 1
    assert (ranked.next_comparison, ranked.strength) == (None, None)
    assert one.cost_usd_per_1k == Decimal("0.000250000")


def test_the_best_mean_wins() -> None:
    assert order((figures(1), [0, 0, 0, 1]), (figures(2), [1, 1, 0, 1])) == [2, 1]


def test_equal_scores_go_to_the_cheaper_then_to_the_faster_then_to_the_smaller_id() -> None:
    same = [1.0, 0.0, 1.0, 0.0]
    cheap = (figures(4, cost_usd="0.1", latency_ms=9.0), same)
    fast = (figures(3, cost_usd="0.2", latency_ms=1.0), same)
    slow = (figures(2, cost_usd="0.2", latency_ms=2.0), same)
    slow_too = (figures(1, cost_usd="0.2", latency_ms=2.0), same)
    assert order(slow, slow_too, fast, cheap) == [4, 3, 1, 2]


def test_an_unknown_price_is_last_of_its_equals() -> None:
    unknown, dear = figures(1, cost_usd=None), figures(2, cost_usd="9999")
    assert order((unknown, [1.0] * ROWS), (dear, [1.0] * ROWS)) == [2, 1]


def test_who_answered_nothing_is_last_of_its_equals_though_it_cost_nothing() -> None:
    silent = figures(1, cost_usd="0", latency_ms=None, error_count=ROWS)
    wrong = figures(2, cost_usd="5")
    assert order((silent, [0.0] * ROWS), (wrong, [0.0] * ROWS)) == [2, 1]


@settings(max_examples=30)
@given(FIELD, st.randoms(use_true_random=False))
def test_a_ranking_does_not_depend_on_the_order_of_its_arguments(
    field: list[tuple[CandidateFigures, list[float]]], shuffle: random.Random
) -> None:
    shuffled = list(field)
    shuffle.shuffle(shuffled)
    assert rank(*shuffled) == rank(*field)


@settings(max_examples=30)
@given(FIELD)
def test_ranks_count_up_bands_never_go_down_and_intervals_hold_their_score(
    field: list[tuple[CandidateFigures, list[float]]],
) -> None:
    ranked = rank(*field)
    assert [each.rank for each in ranked] == list(range(1, len(field) + 1))
    bands = [each.band for each in ranked]
    assert bands == sorted(bands)
    assert bands[0] == 1
    scores = [each.score for each in ranked]
    assert scores == sorted(scores, reverse=True)
    for each in ranked:
        assert 0 <= each.score_low <= each.score_high <= 1
        if each.scored_row_count:
            assert each.score_low <= each.score <= each.score_high


def test_nobody_is_ranked_where_nobody_is() -> None:
    assert rank_candidates(np.empty((0, 0)), [], seed=1) == []


def test_candidates_without_a_score_are_ranked_at_0_and_know_nothing() -> None:
    ranked = rank((figures(1), [math.nan] * ROWS), (figures(2), [math.nan] * ROWS))
    assert [(each.score, each.scored_row_count, each.band) for each in ranked] == [(0.0, 0, 1)] * 2
    assert (ranked[0].score_low, ranked[0].score_high) == (0.0, 1.0)


def test_an_infinite_score_is_refused_by_its_candidate_s_id() -> None:
    with pytest.raises(ValueError, match=str(UUID(int=4))):
        rank((figures(4), [1.0, math.inf, 0.0, 0.0]))


def test_clearly_better_is_a_band_of_its_own_and_equals_share_one() -> None:
    rng = np.random.default_rng(7)
    good = (rng.random(400) < 0.9).astype(float)
    fair, fair_too = ((rng.random(400) < 0.5).astype(float) for _ in range(2))
    ranked = rank(
        (figures(1), good.tolist()),
        (figures(2), fair.tolist()),
        (figures(3), fair_too.tolist()),
    )
    assert [each.band for each in ranked] == [1, 2, 2]
    first, second = ranked[0].next_comparison, ranked[1].next_comparison
    assert first is not None
    assert second is not None
    assert first.p_value_adjusted < 1e-6
    assert first.low > 0
    assert second.p_value_adjusted > 0.05
    assert second.low < 0 < second.high


def test_the_pareto_front_is_of_those_nobody_beats_on_both_score_and_price() -> None:
    best = (figures(1, cost_usd="4"), [1.0, 1.0, 1.0, 1.0])
    cheap = (figures(2, cost_usd="1"), [1.0, 1.0, 0.0, 0.0])
    beaten = (figures(3, cost_usd="2"), [1.0, 0.0, 0.0, 0.0])
    unknown = (figures(4, cost_usd=None), [1.0, 1.0, 1.0, 0.0])
    front = {
        each.figures.candidate_id.int: each.is_on_pareto_front
        for each in rank(best, cheap, beaten, unknown)
    }
    assert front == {1: True, 2: True, 3: False, 4: False}


def test_comparisons_in_pairs_give_strengths_in_the_order_of_the_ranking() -> None:
    scores = matrix([0.0] * ROWS, [1.0] * ROWS)
    wins = np.array([[0.0, 1.0], [7.0, 0.0]])
    winner, loser = rank_candidates(scores, [figures(1), figures(2)], seed=1, wins=wins)
    assert winner.figures.candidate_id.int == 2
    assert winner.strength is not None
    assert loser.strength is not None
    assert winner.strength.value == pytest.approx(-loser.strength.value)
    assert winner.strength.low < winner.strength.value < winner.strength.high
    assert winner.strength.value > 0.5


def test_the_price_of_1000_rows_is_exact_whatever_the_caller_s_decimal_context() -> None:
    with decimal.localcontext(decimal.Context(prec=3)):
        one = figures(1, rows=7, cost_usd="12345678901.123456789")
        assert one.cost_usd_per_1k == Decimal("1763668414446.208112714")


def test_the_price_of_1000_rows_is_rounded_half_to_even_and_unknown_without_rows() -> None:
    assert figures(1, rows=1000, cost_usd="0.0000000025").cost_usd_per_1k == Decimal("2E-9")
    assert figures(1, rows=0, cost_usd="0").cost_usd_per_1k is None
    assert figures(1, cost_usd=None).cost_usd_per_1k is None
