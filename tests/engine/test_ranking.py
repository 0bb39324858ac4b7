"""The order of candidates, and percentiles."""

import decimal
import math
import statistics
from collections.abc import Sequence
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.ranking import CandidateResults, RankedCandidate, percentile, rank_candidates


def results(
    number: int,
    scores: Sequence[float],
    latencies_ms: Sequence[float] = (),
    cost_usd: str | None = None,
    error_count: int = 0,
) -> CandidateResults:
    cost = None if cost_usd is None else Decimal(cost_usd)
    return CandidateResults(UUID(int=number), scores, latencies_ms, cost, error_count)


def order(*candidates: CandidateResults) -> list[int]:
    return [ranked.candidate_id.int for ranked in rank_candidates(candidates)]


ANY_RESULTS = st.lists(
    st.builds(
        results,
        st.integers(0, 2**128 - 1),
        st.lists(st.sampled_from([0.0, 0.5, 1.0]), max_size=4),
        st.lists(st.integers(0, 3), max_size=4),
        st.sampled_from([None, "0", "0.25", "1"]),
    ),
    unique_by=lambda candidate: candidate.candidate_id,
    max_size=8,
)


def test_a_line_of_a_ranking_says_everything_about_its_candidate() -> None:
    ranked = rank_candidates([results(5, [1.0, 0.0, 1.0], [100, 300], "0.000001", 1)])
    assert ranked == [
        RankedCandidate(
            candidate_id=UUID(int=5),
            rank=1,
            score=2 / 3,
            row_count=3,
            error_count=1,
            latency_ms_p50=200.0,
            latency_ms_p95=290.0,
            cost_usd=Decimal("0.000001"),
            cost_usd_per_1k=Decimal("0.000333333"),
        )
    ]


def test_the_better_mean_score_wins_whatever_it_costs() -> None:
    assert order(results(1, [0.0, 1.0], [1], "0"), results(2, [1.0, 1.0], [9], "9")) == [2, 1]


def test_equal_scores_go_to_the_cheaper_and_an_unknown_price_comes_last() -> None:
    candidates = [
        results(1, [1.0], [1]),
        results(2, [1.0], [1], "0.2"),
        results(3, [1.0], [1], "0.1"),
    ]
    assert order(*candidates) == [3, 2, 1]


def test_a_candidate_that_answered_nothing_is_not_the_cheapest() -> None:
    candidates = [results(1, [0.0], [], "0", error_count=1), results(2, [0.0], [1], "9")]
    assert order(*candidates) == [2, 1]


def test_equal_prices_go_to_the_faster_and_an_unknown_latency_comes_last() -> None:
    candidates = [
        results(1, [1.0], [], "0.1"),
        results(2, [1.0], [20], "0.1"),
        results(3, [1.0], [10], "0.1"),
    ]
    assert order(*candidates) == [3, 2, 1]


def test_complete_ties_go_to_the_smaller_candidate_id() -> None:
    assert order(results(9, [1.0]), results(3, [1.0]), results(6, [1.0])) == [3, 6, 9]


def test_equal_scores_tie_however_many_rows_there_are() -> None:
    assert order(results(1, [0.1], [1], "2"), results(2, [0.1] * 3, [1], "1")) == [2, 1]
    assert order(results(1, [0.7] * 7, [1], "2"), results(2, [0.7], [1], "0.1")) == [2, 1]


def test_a_candidate_without_rows_scores_zero_and_has_no_latency_or_price_per_row() -> None:
    (ranked,) = rank_candidates([results(1, [], [], "0.5")])
    assert (ranked.score, ranked.row_count) == (0.0, 0)
    assert (ranked.latency_ms_p50, ranked.latency_ms_p95) == (None, None)
    assert (ranked.cost_usd, ranked.cost_usd_per_1k) == (Decimal("0.5"), None)


def test_nobody_to_rank_gives_an_empty_ranking() -> None:
    assert rank_candidates([]) == []


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_names_its_candidate(score: float) -> None:
    with pytest.raises(ValueError, match=f"candidate {UUID(int=4)} has a score"):
        rank_candidates([results(4, [1.0, score])])


def test_cost_per_thousand_is_exact_under_any_ambient_precision() -> None:
    with decimal.localcontext(prec=3):
        (ranked,) = rank_candidates([results(1, [1.0] * 7, cost_usd="12345678901.123456789")])
    assert ranked.cost_usd_per_1k == Decimal("1763668414446.208112714")


def test_half_of_the_ninth_place_rounds_to_even() -> None:
    (ranked,) = rank_candidates([results(1, [1.0] * 1000, cost_usd="0.0000000025")])
    assert ranked.cost_usd_per_1k == Decimal("0.000000002")


@given(
    ANY_RESULTS.flatmap(
        lambda candidates: st.tuples(st.just(candidates), st.permutations(candidates))
    )
)
def test_the_order_of_the_arguments_never_shows(
    orders: tuple[list[CandidateResults], list[CandidateResults]],
) -> None:
    assert rank_candidates(orders[1]) == rank_candidates(orders[0])


@given(ANY_RESULTS)
def test_ranks_run_from_one_and_scores_never_rise(candidates: list[CandidateResults]) -> None:
    ranked = rank_candidates(candidates)
    assert [line.rank for line in ranked] == list(range(1, len(candidates) + 1))
    scores = [line.score for line in ranked]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    ("q", "expected"), [(0, 10.0), (25, 17.5), (50, 25.0), (95, 38.5), (100, 40.0)]
)
def test_a_percentile_interpolates_linearly(q: float, expected: float) -> None:
    assert percentile([40, 10, 30, 20], q) == expected


def test_every_percentile_of_one_value_is_that_value() -> None:
    assert [percentile([7.5], q) for q in (0, 50, 95, 100)] == [7.5] * 4


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=50), st.integers(1, 99))
def test_percentiles_agree_with_the_standard_library(values: list[int], q: int) -> None:
    inclusive = statistics.quantiles(values, n=100, method="inclusive")
    assert percentile(values, q) == pytest.approx(inclusive[q - 1], rel=1e-12)


@given(st.lists(st.floats(0, 1e9), min_size=1), st.floats(0, 100))
def test_a_percentile_lies_between_the_smallest_and_the_largest(
    values: list[float], q: float
) -> None:
    assert min(values) <= percentile(values, q) <= max(values)


def test_a_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        percentile([], 50)


@pytest.mark.parametrize("q", [-1, 100.5, math.nan])
def test_a_percentile_outside_the_scale_is_refused(q: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 100"):
        percentile([1.0], q)
