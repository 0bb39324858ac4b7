"""Rollouts: who is served by a canary, and whether it may go on, by sums of what it did.

What is guaranteed: if the canary is in truth within every guardrail's limit, it is rolled back,
at any look ever, with a chance of at most 1 - `confidence`. It holds because each difference is
bounded by a confidence sequence, so that looking often costs nothing, and because the error is
divided among the guardrails and the steps, so that it doesn't matter which of them errs. It is
exact for errors and scores, and asymptotic for latencies and costs: see
`engine/confidence_sequences.py`.

The arms are compared within a step, never over several: their shares differ from step to step, and
so would the hours that each arm's requests come from. That is also why a share of 1 is not tested:
nobody is left to compare with. To take that step is to complete.

Requests whose callers leave count too, else a canary that hangs would be in no sum and keep its
share for ever: see `observe_leaver`. What is counted, a failure or how long the caller waited, is
then seen of every request, so that the bounds hold for it as they are.

It rests on requests that are independent of each other. Those of one user are not quite: where a
few users send most of the traffic, a canary by user is less sure than it says.

Source: for why shares must not be pooled, T. Crook, B. Frasca, R. Kohavi and R. Longbotham, "Seven
Pitfalls to Avoid when Running Controlled Experiments on the Web", KDD (2009), on ramping up and
Simpson's paradox.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

from engine.confidence_sequences import NOTHING, Sums

StickyBy = Literal["user", "trace"]

# A latency counts as if it were within these: what is outside is the clock, or a hung connection.
SHORTEST_LATENCY_MS = 1.0
LONGEST_LATENCY_MS = 3_600_000.0
# A caller who leaves sooner has not left for waiting: up to about a second, thought isn't broken.
# Source: J. Nielsen, "Response Times: The 3 Important Limits", Nielsen Norman Group (1993).
PATIENCE_MS = 1_000.0
_HASH_BITS = 53  # as many as a float holds exactly


class Arm(StrEnum):
    """Who served a request of a rollout."""

    CONTROL = "control"
    CANARY = "canary"


@dataclass(frozen=True, slots=True)
class Guardrails:
    """How much worse than the model in production a canary may be; None is not looked at.

    Attributes:
        max_error_rate_increase: Share of requests that fail, or are left unanswered, less
            production's.
        max_latency_ratio: Of answered requests' geometric mean latencies.
        max_cost_ratio: Of answered requests' mean costs.
        min_score_difference: Mean judge score, 0 to 1, less production's; 0 or below.
        judge_share: Share of answers that are judged.
    """

    max_error_rate_increase: float | None = None
    max_latency_ratio: float | None = None
    max_cost_ratio: float | None = None
    min_score_difference: float | None = None
    judge_share: float = 0.0


@dataclass(frozen=True, slots=True)
class RolloutSettings:
    """How a rollout goes.

    Attributes:
        steps: Shares of traffic, ascending; the last is 1, which is production itself.
        sticky_by: What a request is assigned by.
        min_requests_per_step: Of each arm, before a step may end.
        min_minutes_per_step: Before a step may end.
        confidence: 0 to 1: a canary that is within its limits is rolled back with at most the
            rest of the probability.
    """

    steps: Sequence[float]
    sticky_by: StickyBy
    min_requests_per_step: int
    min_minutes_per_step: float
    guardrails: Guardrails
    confidence: float


def read_settings(stored: Mapping[str, Any]) -> RolloutSettings:
    """Read settings as rows keep them: a guardrail that is left out is not looked at."""
    return RolloutSettings(
        steps=tuple(stored["steps"]),
        sticky_by=stored["sticky_by"],
        min_requests_per_step=stored["min_requests_per_step"],
        min_minutes_per_step=stored["min_minutes_per_step"],
        guardrails=Guardrails(**stored["guardrails"]),
        confidence=stored["confidence"],
    )


def takes_part(key: str, rollout_id: UUID, share: float) -> bool:
    """Tell whether a canary serves a request.

    The same key has the same answer at every server, and whoever takes part at a share takes part
    at every larger one. Different rollouts choose differently.

    Args:
        key: The user's id, or the trace's.
        rollout_id: Whose canary.
        share: Of all keys, 0 to 1.
    """
    return _place(key, rollout_id, b"canary") < share


def is_judged(trace_id: UUID, rollout_id: UUID, share: float) -> bool:
    """Tell whether a trace is of the share that is judged, whichever arm served it."""
    return _place(str(trace_id), rollout_id, b"judge") < share


def is_sampled(key: str, shadow_id: UUID, share: float) -> bool:
    """Tell whether a request also goes to a shadow's challenger."""
    return _place(key, shadow_id, b"shadow") < share


def _place(key: str, owner: UUID, purpose: bytes) -> float:
    """Return a key's place among all keys, from 0 to below 1.

    Each purpose has its own: else those who are judged would all be the canary's.
    """
    digest = hashlib.blake2b(key.encode(), digest_size=8, key=owner.bytes, person=purpose).digest()
    return math.ldexp(int.from_bytes(digest) >> (64 - _HASH_BITS), -_HASH_BITS)


@dataclass(frozen=True, slots=True)
class Observation:
    """How one request of a rollout ended.

    Attributes:
        step: The rollout's when the request was assigned.
        latency_ms: Until it was answered, or its caller left.
        cost_usd: None when it is not known, or was not answered.
    """

    rollout_id: UUID
    step: int
    arm: Arm
    is_error: bool
    latency_ms: float
    cost_usd: Decimal | None


def observe_leaver(*, waited_ms: float, has_begun: bool) -> bool | None:
    """Return whether a request whose caller left is a failure; None when it counts in nothing.

    One that had waited for a first word is as unanswered as one that timed out, and is a failure.
    Who leaves at once has changed their mind, which says nothing of the model. Who leaves while
    the answer is coming may have read enough: no failure, with the wait as its latency. Its
    latency in truth is at least that (it is censored), and to leave it out would leave out the
    slow ones. What is compared is then the smaller of latency and patience: callers don't know
    their arm, so if a canary is at most so many times as slow as production, its waits are too.
    Whoever leaves for reasons of their own does so in both arms alike, and the difference of the
    arms is what is bounded. The line is the same for both, whatever their latencies are.

    Args:
        waited_ms: Since the model was asked.
        has_begun: Whether some of the answer had come.
    """
    if has_begun:
        return False
    return None if waited_ms < PATIENCE_MS else True


@dataclass(frozen=True, slots=True)
class ArmSums:
    """What is kept of an arm's requests in one step.

    Costs are doubles: these are statistics, and nobody's account.

    Attributes:
        requests: How many there were.
        errors: Of these, how many failed.
        log_latency: Natural logarithms of milliseconds, of those that were answered.
        cost_usd: Of answered requests whose cost is known.
        score: Judge scores, 0 to 1.
    """

    requests: int = 0
    errors: int = 0
    log_latency: Sums = NOTHING
    cost_usd: Sums = NOTHING
    score: Sums = NOTHING


@dataclass(frozen=True, slots=True)
class ArmDelta:
    """What is to be added to an arm's sums."""

    rollout_id: UUID
    step: int
    arm: Arm
    sums: ArmSums


def increments_of(observations: Iterable[Observation]) -> list[ArmDelta]:
    """Add observations up, one increment for each arm of each step.

    Returns:
        In one order whatever the observations', so that two writers can't deadlock.
    """
    parted: dict[tuple[UUID, int, Arm], list[Observation]] = defaultdict(list)
    for each in observations:
        parted[each.rollout_id, each.step, each.arm].append(each)
    return [ArmDelta(*key, _sums_of(parted[key])) for key in sorted(parted)]


def score_increment(rollout_id: UUID, step: int, arm: Arm, score: float) -> ArmDelta:
    """Return what one judge score, 0 to 1, adds to an arm's sums."""
    return ArmDelta(rollout_id, step, arm, ArmSums(score=add_up([score])))


def _sums_of(observations: Sequence[Observation]) -> ArmSums:
    return ArmSums(
        requests=len(observations),
        errors=sum(each.is_error for each in observations),
        log_latency=add_up(
            log_latency(each.latency_ms) for each in observations if not each.is_error
        ),
        cost_usd=add_up(float(each.cost_usd) for each in observations if each.cost_usd is not None),
    )


def log_latency(latency_ms: float) -> float:
    """Return a latency's natural logarithm, once it is within bounds."""
    return math.log(min(max(latency_ms, SHORTEST_LATENCY_MS), LONGEST_LATENCY_MS))


def add_up(values: Iterable[float]) -> Sums:
    """Return what is kept of *values*."""
    kept = list(values)
    return Sums(len(kept), math.fsum(kept), math.fsum(value * value for value in kept))


def next_step(settings: RolloutSettings, step: int) -> int | None:
    """Return the step behind *step*; None when that is production itself."""
    following = step + 1
    return following if settings.steps[following] < 1 else None
