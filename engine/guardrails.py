"""Guardrails of a rollout: how its canary compares with production, and what follows from it."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from engine.confidence_sequences import (
    Interval,
    Sums,
    asymptotic_difference,
    asymptotic_interval,
    asymptotic_ratio,
    unit_difference,
    unit_interval,
)
from engine.rollouts import ArmSums, Guardrails, RolloutSettings, next_step


class Guardrail(StrEnum):
    """What is compared."""

    ERROR_RATE = "error_rate"
    LATENCY = "latency"
    COST = "cost"
    SCORE = "score"


class Standing(StrEnum):
    """How a comparison stands to its limit."""

    UNTESTED = "untested"
    WITHIN = "within"
    EXCEEDED = "exceeded"
    VIOLATED = "violated"


class Action(StrEnum):
    """What a look at a rollout amounts to."""

    WAIT = "wait"
    ADVANCE = "advance"
    COMPLETE = "complete"
    ROLL_BACK = "roll_back"


@dataclass(frozen=True, slots=True)
class ArmFigures:
    """An arm's means with their intervals, which hold at all looks at once; None without values.

    Attributes:
        error_rate: Share of requests that failed.
        latency_ms: Geometric mean of answered requests.
        cost_usd: Mean of a request.
        score: Mean judge score, 0 to 1.
    """

    sums: ArmSums
    error_rate: Interval | None
    latency_ms: Interval | None
    cost_usd: Interval | None
    score: Interval | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The canary against production, in one respect.

    Attributes:
        value: The difference of the means, or their ratio; None while that is not known, and where
            production costs nothing.
        low: The lower end of what it can be in truth, and `high` the upper one; None without end.
        limit: From the settings.
    """

    guardrail: Guardrail
    standing: Standing
    value: float | None
    low: float | None
    high: float | None
    limit: float

    def show(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return {**asdict(self), "guardrail": self.guardrail.value, "standing": self.standing.value}


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from a look.

    Attributes:
        reason: For people.
    """

    action: Action
    reason: str
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """How one guardrail is tested.

    Attributes:
        limit: Finds it in the settings.
        compare: Bounds the canary's mean against production's, with an error.
        is_worse_above: Whether more is worse.
        noun: For people, and `what` is compared of it.
    """

    limit: Callable[[Guardrails], float | None]
    compare: Callable[[ArmSums, ArmSums, float], Interval | None]
    is_worse_above: bool
    noun: str
    what: str


def _failures(sums: ArmSums) -> Sums:
    return Sums(sums.requests, sums.errors, sums.errors)


def _compare_latencies(canary: ArmSums, control: ArmSums, error: float) -> Interval | None:
    """Bound the ratio of geometric means, which is the difference of mean logarithms."""
    found = asymptotic_difference(canary.log_latency, control.log_latency, error)
    return found and _exponential(found)


def _exponential(logarithms: Interval) -> Interval:
    return Interval(*map(math.exp, (logarithms.mean, logarithms.low, logarithms.high)))


RULES = {
    Guardrail.ERROR_RATE: Rule(
        lambda limits: limits.max_error_rate_increase,
        lambda canary, control, error: unit_difference(
            _failures(canary), _failures(control), error
        ),
        is_worse_above=True,
        noun="error rate",
        what="its difference from production's",
    ),
    Guardrail.LATENCY: Rule(
        lambda limits: limits.max_latency_ratio,
        _compare_latencies,
        is_worse_above=True,
        noun="latency",
        what="its ratio to production's",
    ),
    Guardrail.COST: Rule(
        lambda limits: limits.max_cost_ratio,
        lambda canary, control, error: asymptotic_ratio(canary.cost_usd, control.cost_usd, error),
        is_worse_above=True,
        noun="cost",
        what="its ratio to production's",
    ),
    Guardrail.SCORE: Rule(
        lambda limits: limits.min_score_difference,
        lambda canary, control, error: unit_difference(canary.score, control.score, error),
        is_worse_above=False,
        noun="judge score",
        what="its difference from production's",
    ),
}


def error_of_each(settings: RolloutSettings) -> float:
    """Return the error of each comparison: all of it, divided among all that could err.

    These are the guardrails that are looked at, in each step that is tested (Bonferroni).
    """
    guardrails = sum(rule.limit(settings.guardrails) is not None for rule in RULES.values())
    tested = sum(share < 1 for share in settings.steps)
    return (1 - settings.confidence) / (max(1, guardrails) * max(1, tested))


def figures_of(sums: ArmSums, error: float) -> ArmFigures:
    """Compute an arm's means and their intervals.

    Args:
        sums: What it did in one step.
        error: The chance that an interval ever misses its mean.
    """
    latency = asymptotic_interval(sums.log_latency, error)
    return ArmFigures(
        sums=sums,
        error_rate=unit_interval(_failures(sums), error),
        latency_ms=latency and _exponential(latency),
        cost_usd=asymptotic_interval(sums.cost_usd, error),
        score=unit_interval(sums.score, error),
    )


def decide(
    settings: RolloutSettings, step: int, control: ArmSums, canary: ArmSums, *, minutes: float
) -> Decision:
    """Decide whether a rollout waits, goes on, is complete, or is rolled back.

    It is rolled back as soon as one guardrail is violated: the whole interval lies beyond the
    limit. It goes on once the step has had its requests and its minutes, and no mean that is known
    lies beyond its limit. One that does, and not surely, is waited for, until more requests say
    which it is. The last step completes by the same rule. To ask there for proof that nothing is
    worse would need thousands of requests, and never end where there are few.

    What can't be compared (no judge, costs that are not known, too few values) holds nothing up;
    the comparison says so.

    Args:
        settings: The rollout's.
        step: Which step it is at; its share is below 1.
        control: What production did in this step.
        canary: What the canary did in this step.
        minutes: How long the step has lasted.
    """
    error = error_of_each(settings)
    comparisons = tuple(
        _compare(guardrail, limit, rule.compare(canary, control, error))
        for guardrail, rule in RULES.items()
        if (limit := rule.limit(settings.guardrails)) is not None
    )
    for each in comparisons:
        if each.standing is Standing.VIOLATED:
            return Decision(Action.ROLL_BACK, _explain(each), comparisons)
    wait = _find_wait(settings, comparisons, control, canary, minutes)
    if wait is not None:
        return Decision(Action.WAIT, wait, comparisons)
    following = next_step(settings, step)
    if following is None:
        return Decision(Action.COMPLETE, "every step is behind it", comparisons)
    share = settings.steps[following]
    return Decision(Action.ADVANCE, f"no guardrail holds it back from {share:g}", comparisons)


def _compare(guardrail: Guardrail, limit: float, found: Interval | None) -> Comparison:
    if found is None:
        return Comparison(guardrail, Standing.UNTESTED, None, None, None, limit)
    is_beyond, is_surely = found.mean > limit, found.low > limit
    if not RULES[guardrail].is_worse_above:
        is_beyond, is_surely = found.mean < limit, found.high < limit
    standing = Standing.EXCEEDED if is_beyond else Standing.WITHIN
    if is_surely:
        standing = Standing.VIOLATED
    value, low, high = map(_finite, (found.mean, found.low, found.high))
    return Comparison(guardrail, standing, value, low, high, limit)


def _find_wait(
    settings: RolloutSettings,
    comparisons: tuple[Comparison, ...],
    control: ArmSums,
    canary: ArmSums,
    minutes: float,
) -> str | None:
    """Return what is waited for; None when that is nothing."""
    for name, sums in (("the canary", canary), ("production", control)):
        if sums.requests < settings.min_requests_per_step:
            return (
                f"{name} has served {sums.requests} of the step's "
                f"{settings.min_requests_per_step} requests"
            )
    if minutes < settings.min_minutes_per_step:
        return f"the step has lasted {minutes:.0f} of {settings.min_minutes_per_step:g} minutes"
    for each in comparisons:
        if each.standing is Standing.EXCEEDED:
            return f"the {RULES[each.guardrail].noun} is beyond its limit, though not surely"
    return None


def _explain(violated: Comparison) -> str:
    """Say what a rollback is for."""
    rule = RULES[violated.guardrail]
    bound, sure, may = violated.low, "at least", "at most"
    if not rule.is_worse_above:
        bound, sure, may = violated.high, "at most", "at least"
    least = "without bound" if bound is None else f"{sure} {bound:.4g}"
    return (
        f"the canary's {rule.noun} is surely worse: {rule.what} is {least}, and may be {may} "
        f"{violated.limit:g}"
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
