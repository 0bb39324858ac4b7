"""Guardrails of a rollout: how its canary compares with production, and what follows from it."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from engine.confidence_sequences import Interval, Sums, asymptotic_interval, unit_interval
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
class _Rule:
    """How one guardrail is tested.

    Attributes:
        limit: Finds it in the settings.
        interval: Finds an arm's.
        compare: From the canary's end and production's to a difference or a ratio.
        is_worse_above: Whether more is worse.
        noun: For people.
    """

    limit: Callable[[Guardrails], float | None]
    interval: Callable[[ArmFigures], Interval | None]
    compare: Callable[[float, float], float]
    is_worse_above: bool
    noun: str


def _subtract(canary: float, control: float) -> float:
    return canary - control


def _divide(canary: float, control: float) -> float:
    if control > 0:
        return max(canary, 0.0) / control
    return math.inf if canary > 0 else 1.0  # two that cost nothing cost the same


RULES = {
    Guardrail.ERROR_RATE: _Rule(
        lambda limits: limits.max_error_rate_increase,
        lambda arm: arm.error_rate,
        _subtract,
        is_worse_above=True,
        noun="error rate",
    ),
    Guardrail.LATENCY: _Rule(
        lambda limits: limits.max_latency_ratio,
        lambda arm: arm.latency_ms,
        _divide,
        is_worse_above=True,
        noun="latency",
    ),
    Guardrail.COST: _Rule(
        lambda limits: limits.max_cost_ratio,
        lambda arm: arm.cost_usd,
        _divide,
        is_worse_above=True,
        noun="cost",
    ),
    Guardrail.SCORE: _Rule(
        lambda limits: limits.min_score_difference,
        lambda arm: arm.score,
        _subtract,
        is_worse_above=False,
        noun="judge score",
    ),
}


def error_of_each(settings: RolloutSettings) -> float:
    """Return the error of each interval: all of it, divided among all that could err (Bonferroni).

    These are the guardrails that are looked at, in each step that is tested, for both arms.
    """
    guardrails = sum(rule.limit(settings.guardrails) is not None for rule in RULES.values())
    tested = sum(share < 1 for share in settings.steps)
    return (1 - settings.confidence) / (2 * max(1, guardrails) * max(1, tested))


def figures_of(sums: ArmSums, error: float) -> ArmFigures:
    """Compute an arm's means and their intervals.

    Args:
        sums: What it did in one step.
        error: The chance that an interval ever misses its mean.
    """
    latency = asymptotic_interval(sums.log_latency, error)
    return ArmFigures(
        sums=sums,
        error_rate=unit_interval(Sums(sums.requests, sums.errors, sums.errors), error),
        latency_ms=latency
        and Interval(math.exp(latency.mean), math.exp(latency.low), math.exp(latency.high)),
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
    arms = figures_of(control, error), figures_of(canary, error)
    comparisons = tuple(
        _compare(guardrail, limit, *arms)
        for guardrail, rule in RULES.items()
        if (limit := rule.limit(settings.guardrails)) is not None
    )
    for each in comparisons:
        if each.standing is Standing.VIOLATED:
            return Decision(Action.ROLL_BACK, _explain(each, *arms), comparisons)
    wait = _find_wait(settings, comparisons, control, canary, minutes)
    if wait is not None:
        return Decision(Action.WAIT, wait, comparisons)
    following = next_step(settings, step)
    if following is None:
        return Decision(Action.COMPLETE, "every step is behind it", comparisons)
    share = settings.steps[following]
    return Decision(Action.ADVANCE, f"no guardrail holds it back from {share:g}", comparisons)


def _compare(
    guardrail: Guardrail, limit: float, control: ArmFigures, canary: ArmFigures
) -> Comparison:
    rule = RULES[guardrail]
    ours, theirs = rule.interval(canary), rule.interval(control)
    if ours is None or theirs is None:
        return Comparison(guardrail, Standing.UNTESTED, None, None, None, limit)
    value = rule.compare(ours.mean, theirs.mean)
    low, high = rule.compare(ours.low, theirs.high), rule.compare(ours.high, theirs.low)
    is_beyond, is_surely = value > limit, low > limit
    if not rule.is_worse_above:
        is_beyond, is_surely = value < limit, high < limit
    standing = Standing.EXCEEDED if is_beyond else Standing.WITHIN
    if is_surely:
        standing = Standing.VIOLATED
    return Comparison(guardrail, standing, _finite(value), _finite(low), _finite(high), limit)


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


def _explain(violated: Comparison, control: ArmFigures, canary: ArmFigures) -> str:
    """Say what a rollback is for."""
    rule = RULES[violated.guardrail]
    ours, theirs = rule.interval(canary), rule.interval(control)
    if ours is None or theirs is None:
        raise RuntimeError("what was not compared can't be violated")
    bound = rule.compare(ours.low, theirs.high)
    if not rule.is_worse_above:
        bound = rule.compare(ours.high, theirs.low)
    what = "difference" if rule.compare is _subtract else "ratio"
    sure, may = ("at least", "at most") if rule.is_worse_above else ("at most", "at least")
    return (
        f"the canary's {rule.noun} is {ours.mean:.4g}, and production's {theirs.mean:.4g}: the "
        f"{what} is {sure} {bound:.4g}, and may be {may} {violated.limit:g}"
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
