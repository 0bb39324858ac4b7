"""Who takes part in a rollout, what is kept of it, and when it goes on or back."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.rollouts import CANARIES, Model, is_taken_back, simulate
from engine.confidence_sequences import Sums
from engine.guardrails import Action, Decision, Guardrail, Standing, decide, error_of_each
from engine.rollouts import (
    Arm,
    ArmSums,
    Guardrails,
    Observation,
    RolloutSettings,
    add_up,
    increments_of,
    is_judged,
    is_sampled,
    observe_leaver,
    score_increment,
    takes_part,
)

ROLLOUT = UUID(int=1)
OTHER = UUID(int=2)
USERS = [f"user-{number}" for number in range(20_000)]
SETTINGS = RolloutSettings(
    steps=(0.05, 0.25, 1.0),
    sticky_by="user",
    min_requests_per_step=100,
    min_minutes_per_step=0,
    guardrails=Guardrails(0.02, 1.5, 2.0, -0.05, 0.05),
    confidence=0.95,
)


@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_who_takes_part_at_a_share_takes_part_at_a_larger_one(
    key: str, one: float, other: float
) -> None:
    less, more = sorted((one, other))
    assert takes_part(key, ROLLOUT, less) <= takes_part(key, ROLLOUT, more)
    assert takes_part(key, ROLLOUT, 1.0)
    assert not takes_part(key, ROLLOUT, 0.0)


# Whoever changes this list moves users between models in the middle of their rollouts.
PINNED = ["user-153", "user-165", "user-182"]


def test_who_takes_part_is_the_same_for_ever() -> None:
    assert [name for name in USERS[:200] if takes_part(name, ROLLOUT, 0.05)] == PINNED


@pytest.mark.parametrize("share", [0.01, 0.05, 0.25, 0.5])
def test_the_share_is_what_it_says(share: float) -> None:
    taking_part = sum(takes_part(name, ROLLOUT, share) for name in USERS)
    spread = math.sqrt(share * (1 - share) * len(USERS))
    assert abs(taking_part - share * len(USERS)) < 4 * spread


def test_rollouts_and_purposes_choose_independently() -> None:
    ids = [UUID(int=number) for number in range(20_000)]
    canary = [takes_part(str(each), ROLLOUT, 0.5) for each in ids]
    others = [
        [takes_part(str(each), OTHER, 0.5) for each in ids],
        [is_judged(each, ROLLOUT, 0.5) for each in ids],
        [is_sampled(str(each), ROLLOUT, 0.5) for each in ids],
    ]
    for other in others:
        both = sum(map(lambda a, b: a and b, canary, other))
        assert abs(both - 5_000) < 4 * math.sqrt(20_000 * 3 / 16)


def observed(step: int, arm: Arm, *, is_error: bool = False, ms: float = 100.0) -> Observation:
    return Observation(ROLLOUT, step, arm, is_error, ms, None if is_error else Decimal("0.5"))


def test_increments_are_one_for_each_arm_of_each_step_in_one_order() -> None:
    observations = [
        observed(1, Arm.CONTROL),
        observed(0, Arm.CANARY, is_error=True),
        observed(0, Arm.CANARY, ms=math.e),
        observed(1, Arm.CONTROL, ms=0.0),
    ]
    canary, control = increments_of(observations)
    assert (canary.step, canary.arm, control.step, control.arm) == (0, Arm.CANARY, 1, Arm.CONTROL)
    assert canary.sums == ArmSums(2, 1, Sums(1, 1.0, 1.0), Sums(1, 0.5, 0.25))
    assert control.sums.log_latency.total == pytest.approx(math.log(100.0))  # and 0 of the other
    for order in itertools.permutations(observations):
        assert [(each.step, each.arm) for each in increments_of(order)] == [
            (0, Arm.CANARY), (1, Arm.CONTROL),
        ]  # fmt: skip
    assert increments_of([]) == []
    assert score_increment(ROLLOUT, 2, Arm.CANARY, 0.5).sums == ArmSums(score=Sums(1, 0.5, 0.25))


def made(
    requests: int,
    errors: int = 0,
    *,
    ms: Sequence[float] = (90.0, 110.0),
    cost: float = 0.001,
    scores: Sequence[float] = (),
) -> ArmSums:
    answered = requests - errors
    return ArmSums(
        requests,
        errors,
        add_up(math.log(each) for each in itertools.islice(itertools.cycle(ms), answered)),
        add_up(cost * (1 + 0.1 * (-1) ** n) for n in range(requests)),
        add_up(scores),
    )


def look(control: ArmSums, canary: ArmSums, *, step: int = 0, minutes: float = 0.0) -> Decision:
    return decide(SETTINGS, step, control, canary, minutes=minutes)


def standing(decision: Decision, guardrail: Guardrail) -> Standing:
    return next(c.standing for c in decision.comparisons if c.guardrail is guardrail)


@pytest.mark.parametrize(
    ("waited_ms", "has_begun", "is_failure"),
    [(0, False, None), (999, False, None), (1_000, False, True), (60_000, False, True),
     (10, True, False), (60_000, True, False)],
)  # fmt: skip
def test_who_leaves_unanswered_counts_as_a_failure_once_they_have_waited(
    *, waited_ms: float, has_begun: bool, is_failure: bool | None
) -> None:
    assert observe_leaver(waited_ms=waited_ms, has_begun=has_begun) is is_failure


def test_the_error_is_divided_among_guardrails_and_steps() -> None:
    assert error_of_each(SETTINGS) == pytest.approx(0.05 / (4 * 2))
    fewer = replace(SETTINGS, guardrails=Guardrails(max_latency_ratio=2.0))
    assert error_of_each(fewer) == pytest.approx(0.05 / (1 * 2))


def test_a_step_waits_for_its_requests_of_both_arms_and_for_its_minutes() -> None:
    assert look(made(99_999), made(99)).reason == (
        "the canary has served 99 of the step's 100 requests"
    )
    assert look(made(99), made(100)).reason == "production has served 99 of the step's 100 requests"
    slow = replace(SETTINGS, min_minutes_per_step=30)
    waits = decide(slow, 0, made(1_000), made(100), minutes=29.4)
    assert (waits.action, waits.reason) == (Action.WAIT, "the step has lasted 29 of 30 minutes")
    assert decide(slow, 0, made(1_000), made(100), minutes=30).action is Action.ADVANCE


def test_equals_go_on_and_the_last_step_below_1_completes() -> None:
    assert look(made(2_000, 20), made(100, 1)).action is Action.ADVANCE
    assert look(made(2_000, 20), made(100, 1), step=1).action is Action.COMPLETE


def test_what_looks_worse_and_is_not_surely_so_is_waited_for() -> None:
    decision = look(made(2_000, 20), made(100, 5))
    assert decision.action is Action.WAIT
    assert decision.reason == "the error rate is beyond its limit, though not surely"
    assert standing(decision, Guardrail.ERROR_RATE) is Standing.EXCEEDED


@pytest.mark.parametrize(
    ("canary", "guardrail", "said"),
    [
        (
            made(400, 80),
            Guardrail.ERROR_RATE,
            "error rate is surely worse: its difference from production's is at least 0.1",
        ),
        (
            made(400, 4, ms=(180.0, 220.0)),
            Guardrail.LATENCY,
            "its ratio to production's is at least 1.9",
        ),
        (made(400, 4, cost=0.003), Guardrail.COST, "and may be at most 2"),
        (made(400, 4, scores=[0.2, 0.4] * 200), Guardrail.SCORE, "and may be at least -0.05"),
    ],
)
def test_each_guardrail_rolls_back_by_itself_and_says_why(
    canary: ArmSums, guardrail: Guardrail, said: str
) -> None:
    decision = look(made(4_000, 40, scores=[0.8, 0.9] * 200), canary)
    assert decision.action is Action.ROLL_BACK
    assert said in decision.reason
    violated = [c.guardrail for c in decision.comparisons if c.standing is Standing.VIOLATED]
    assert violated == [guardrail]


def test_a_rollback_does_not_wait_for_the_step_s_requests() -> None:
    assert look(made(2_000), made(40, 40)).action is Action.ROLL_BACK


def test_what_can_t_be_compared_holds_nothing_up_and_is_said() -> None:
    unknown = replace(made(100), cost_usd=Sums())
    decision = look(made(2_000), unknown)
    assert decision.action is Action.ADVANCE
    assert standing(decision, Guardrail.COST) is Standing.UNTESTED
    assert standing(decision, Guardrail.SCORE) is Standing.UNTESTED
    shown = {each.guardrail: each.show() for each in decision.comparisons}
    assert shown[Guardrail.COST] == {
        "guardrail": "cost", "standing": "untested", "value": None, "low": None, "high": None,
        "limit": 2.0,
    }  # fmt: skip


def test_a_guardrail_that_is_off_is_not_looked_at() -> None:
    lenient = replace(SETTINGS, guardrails=Guardrails(max_latency_ratio=1.5))
    decision = decide(lenient, 0, made(2_000), made(400, 300), minutes=0)
    assert [each.guardrail for each in decision.comparisons] == [Guardrail.LATENCY]
    assert decision.action is Action.ADVANCE


def test_what_costs_something_costs_more_than_twice_nothing() -> None:
    decision = look(made(2_000, cost=0.0), made(100))
    assert standing(decision, Guardrail.COST) is Standing.VIOLATED
    (cost,) = (c for c in decision.comparisons if c.guardrail is Guardrail.COST)
    assert cost.show()["value"] is None  # which JSON can't say
    assert "without bound" in decision.reason
    assert look(made(2_000, cost=0.0), made(100, cost=0.0)).action is Action.ADVANCE


def take_back(canary: Model, *, requests: int, every: int) -> list[int | None]:
    return simulate(canary, is_taken_back, runs=200, requests=requests, every=every, seed=1)


@pytest.mark.parametrize("name", ["equal", "at all its limits"])
def test_a_canary_within_its_limits_is_hardly_ever_taken_back_however_often_one_looks(
    name: str,
) -> None:
    ended = take_back(CANARIES[name], requests=2_000, every=100)
    assert len(ended) - ended.count(None) <= 0.05 * len(ended)


@pytest.mark.parametrize(
    ("canary", "requests"),
    [
        (Model(error_rate=0.10), 1_000),
        (Model(seconds=2.5), 150),
        (Model(cost_usd=0.005), 400),
        (Model(score=0.5), 1_600),
    ],
    ids=["errors", "latency", "cost", "score"],
)
def test_a_clearly_worse_canary_is_taken_back_soon(canary: Model, requests: int) -> None:
    ended = take_back(canary, requests=requests, every=25)
    assert len(ended) - ended.count(None) >= 0.99 * len(ended)
