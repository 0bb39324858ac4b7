"""When production changes, and when it rather does not."""

from collections.abc import Sequence
from decimal import Decimal
from uuid import UUID

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.promotion import Decision, PromotionPolicy, Rule, Verdict, decide_promotion
from engine.ranking import CandidateFigures, RankedCandidate, rank_candidates

ROWS = 200
ALWAYS = PromotionPolicy()
CONFIDENT = PromotionPolicy(Rule.CONFIDENT)
RERUNS = 300


def ids(*numbers: int) -> list[UUID]:
    return [UUID(int=number) for number in numbers]


def rank(
    scores: NDArray[np.float64],
    costs: Sequence[str | None] = (),
    latencies: Sequence[float] = (),
) -> tuple[list[RankedCandidate], NDArray[np.float64]]:
    """Rank columns as candidates 1, 2, 3, ...; the scores come back in the ranking's order."""
    count = scores.shape[1]
    named = [None if cost is None else Decimal(cost) for cost in costs] or [Decimal(1)] * count
    paces = list(latencies) or [1.0] * count
    figures = [
        CandidateFigures(UUID(int=column + 1), len(scores), 0, pace, pace, cost)
        for column, (cost, pace) in enumerate(zip(named, paces, strict=True))
    ]
    ranked = rank_candidates(scores, figures, seed=1)
    return ranked, scores[:, [each.figures.candidate_id.int - 1 for each in ranked]]


def right(count: int, rows: int = ROWS) -> NDArray[np.float64]:
    """Return the scores of somebody who is right on the first rows alone."""
    return (np.arange(rows) < count).astype(float)


def decide(
    scores: NDArray[np.float64],
    policy: PromotionPolicy,
    production: int | None,
    *,
    costs: Sequence[str | None] = (),
    latencies: Sequence[float] = (),
    gone: frozenset[UUID] = frozenset(),
) -> Decision:
    ranked, ordered = rank(scores, costs, latencies)
    production_id = None if production is None else UUID(int=production)
    return decide_promotion(ranked, ordered, policy, production_id=production_id, gone=gone, seed=1)


def outcome(decision: Decision) -> tuple[str, int | None]:
    to = decision.candidate_id
    return decision.verdict.value, None if to is None else to.int


SLIGHTLY = np.column_stack((right(100), right(101)))
CLEARLY = np.column_stack((right(100), right(130)))


@pytest.mark.parametrize("policy", [ALWAYS, CONFIDENT])
def test_the_first_ranking_puts_its_best_into_production(policy: PromotionPolicy) -> None:
    assert outcome(decide(SLIGHTLY, policy, None)) == ("PROMOTE", 2)


def test_always_takes_the_best_however_little_better_it_is() -> None:
    assert outcome(decide(SLIGHTLY, ALWAYS, 1)) == ("PROMOTE", 2)


def test_confident_takes_only_what_is_shown_to_be_better() -> None:
    assert outcome(decide(SLIGHTLY, CONFIDENT, 1)) == ("INSUFFICIENT", 1)
    assert outcome(decide(CLEARLY, CONFIDENT, 1)) == ("PROMOTE", 2)


def test_confident_holds_when_the_two_win_about_as_often() -> None:
    rng = np.random.default_rng(3)
    scores = (rng.random((ROWS, 2)) < 0.5).astype(float)
    scores[:3] = [0.0, 1.0]
    production = 1 if scores[:, 1].mean() > scores[:, 0].mean() else 2
    assert outcome(decide(scores, CONFIDENT, production)) == ("HOLD", production)


def test_the_verdict_comes_with_its_numbers() -> None:
    decision = decide(CLEARLY, CONFIDENT, 1)
    (compared,) = decision.numbers["comparisons"]
    assert compared["candidate_id"] == str(UUID(int=2))
    assert compared["against_candidate_id"] == str(UUID(int=1))
    assert compared["difference"] == pytest.approx(0.15)
    assert compared["p_value"] == pytest.approx(2.0**-30)
    assert compared["smallest_p_value"] == pytest.approx(2.0**-30)
    assert compared["alpha"] == pytest.approx(0.05)
    assert (compared["row_count"], compared["method"]) == (ROWS, "mcnemar_exact")
    assert 0 < compared["difference_low"] < 0.15
    assert decision.numbers["rule"] == "confident"
    assert decision.numbers["production_candidate_id"] == str(UUID(int=1))


def test_the_confidence_is_shared_among_all_challengers() -> None:
    few = np.column_stack((right(100), right(105)))
    assert outcome(decide(few, CONFIDENT, 1)) == ("PROMOTE", 2)
    many = np.column_stack((right(100), right(105), right(50), right(40)))
    decision = decide(many, CONFIDENT, 1)
    assert outcome(decision) == ("INSUFFICIENT", 1)
    assert decision.numbers["comparisons"][0]["alpha"] == pytest.approx(0.05 / 3)


@pytest.mark.parametrize("policy", [ALWAYS, CONFIDENT])
def test_the_best_stays_when_it_serves_already(policy: PromotionPolicy) -> None:
    assert outcome(decide(CLEARLY, policy, 2)) == ("HOLD", 2)


def test_confident_can_t_tell_when_the_model_in_production_was_not_asked() -> None:
    assert outcome(decide(CLEARLY, CONFIDENT, 9)) == ("INSUFFICIENT", 9)
    assert outcome(decide(CLEARLY, ALWAYS, 9)) == ("PROMOTE", 2)


@pytest.mark.parametrize(
    ("policy", "refused"),
    [
        (PromotionPolicy(max_cost_per_1k_requests_usd=Decimal(20)), "1,000 requests cost 25 USD"),
        (PromotionPolicy(max_latency_ms_p95=900.0), "latency is 1000 ms, and may be 900 ms"),
        (PromotionPolicy(min_score=0.7), "score 0.65 is below 0.7"),
    ],
)
def test_a_limit_keeps_a_candidate_from_production_and_says_so(
    policy: PromotionPolicy, refused: str
) -> None:
    scores = np.column_stack((right(150), right(130)))
    decision = decide(scores, policy, None, costs=["1", "5"], latencies=[10.0, 1000.0])
    assert outcome(decision) == ("PROMOTE", 1)
    assert refused in decision.numbers["refused"][str(UUID(int=2))]


def test_the_best_within_the_limits_is_promoted_over_a_better_one_outside() -> None:
    policy = PromotionPolicy(max_cost_per_1k_requests_usd=Decimal(6))
    decision = decide(CLEARLY, policy, None, costs=["1", "50"])
    assert outcome(decision) == ("PROMOTE", 1)


def test_an_unknown_price_is_outside_a_limit_of_cost() -> None:
    policy = PromotionPolicy(max_cost_per_1k_requests_usd=Decimal(6))
    decision = decide(CLEARLY, policy, None, costs=["1", None])
    assert outcome(decision) == ("PROMOTE", 1)
    assert "an unknown amount" in decision.numbers["refused"][str(UUID(int=2))]


def test_nobody_is_promoted_when_nobody_is_within_the_limits() -> None:
    assert outcome(decide(CLEARLY, PromotionPolicy(min_score=0.99), None)) == ("HOLD", None)
    assert outcome(decide(CLEARLY, PromotionPolicy(min_score=0.99), 1)) == ("HOLD", 1)


def test_who_has_left_the_leaderboard_is_not_promoted() -> None:
    decision = decide(CLEARLY, ALWAYS, None, gone=frozenset(ids(2)))
    assert outcome(decision) == ("PROMOTE", 1)


WITHIN = PromotionPolicy(Rule.CHEAPEST_WITHIN, epsilon=0.05)


def test_the_cheapest_that_is_not_worse_than_the_best_serves() -> None:
    scores = np.column_stack((right(150), right(149), right(100)))
    decision = decide(scores, WITHIN, None, costs=["9", "3", "1"])
    assert outcome(decision) == ("PROMOTE", 2)
    tested = {each["candidate_id"]: each for each in decision.numbers["comparisons"]}
    assert tested[str(UUID(int=2))]["difference_low"] > -0.05
    assert tested[str(UUID(int=3))]["difference_low"] < -0.05


def test_the_best_serves_when_no_cheaper_one_is_shown_to_be_good_enough() -> None:
    scores = np.column_stack((right(150), right(100)))
    assert outcome(decide(scores, WITHIN, None, costs=["9", "1"])) == ("PROMOTE", 1)
    assert outcome(decide(scores, WITHIN, 2, costs=["9", "1"])) == ("PROMOTE", 1)
    assert outcome(decide(scores, WITHIN, 1, costs=["9", "1"])) == ("HOLD", 1)


def test_too_few_rows_to_show_that_an_equal_is_good_enough_are_no_reason_to_change() -> None:
    rng = np.random.default_rng(5)
    scores = (rng.random((20, 2)) < 0.5).astype(float)
    worse = int(np.argmin(scores.mean(axis=0))) + 1
    costs = ["1", "9"] if worse == 1 else ["9", "1"]
    assert outcome(decide(scores, WITHIN, worse, costs=costs)) == ("INSUFFICIENT", worse)


def test_of_two_equally_good_and_dear_the_one_that_serves_stays() -> None:
    same = np.column_stack((right(150), right(150)))
    assert outcome(decide(same, WITHIN, 1)) == ("HOLD", 1)
    assert outcome(decide(same, WITHIN, 2)) == ("HOLD", 2)


def test_two_equal_models_swap_places_half_the_time_by_always_and_hardly_by_confident() -> None:
    rng = np.random.default_rng(11)
    switched = dict.fromkeys((Rule.ALWAYS, Rule.CONFIDENT), 0)
    for _ in range(RERUNS):
        scores = (rng.random((100, 2)) < 0.7).astype(float)
        ranked, ordered = rank(scores)
        for rule in switched:
            decision = decide_promotion(
                ranked, ordered, PromotionPolicy(rule), production_id=UUID(int=1), seed=1
            )
            switched[rule] += decision.verdict is Verdict.PROMOTE
    # Four standard errors of 300 tries: 0.5 give or take 0.115, and 0.05 plus 0.05.
    assert abs(switched[Rule.ALWAYS] / RERUNS - 0.5) < 0.115
    assert switched[Rule.CONFIDENT] / RERUNS < 0.1
