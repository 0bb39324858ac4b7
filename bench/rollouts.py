"""Rollouts: how often a canary is taken back, by what it is worth, and after how many requests.

    python -m bench.rollouts [--runs 500] [--requests 3000] [--every 50] [--seed 1]

A rollout at a share of a quarter is looked at again and again, and never goes on. Errors are coin
tosses, latencies and costs log-normal, scores of a fifth of the answers beta-distributed. The last
column is what ordinary intervals of 95 %, which are meant for one look, would have done to the
error rate and the latency alone.
"""

import argparse
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.confidence_sequences import FEWEST_ASYMPTOTIC, Sums
from engine.guardrails import Action, decide
from engine.rollouts import ArmSums, Guardrails, RolloutSettings

SETTINGS = RolloutSettings(
    steps=(0.05, 0.25, 1.0),
    sticky_by="trace",
    min_requests_per_step=100,
    min_minutes_per_step=0,
    guardrails=Guardrails(0.02, 1.5, 2.0, -0.05, 0.2),
    confidence=0.95,
)
CONTROLS_A_CANARY = 3
Z_95 = 1.96
Look = Callable[[ArmSums, ArmSums], bool]


class Story:
    """The sums of a model's requests, after each of them.

    Args:
        sums: Shape (11, requests): what `ArmSums` holds, in its order.
    """

    def __init__(self, sums: NDArray[np.float64]) -> None:
        self._sums = sums

    def until(self, requests: int) -> ArmSums:
        """Return the sums of the first so many requests, at least one."""
        row = [float(each) for each in self._sums[:, requests - 1]]
        return ArmSums(
            int(row[0]),
            int(row[1]),
            Sums(int(row[2]), row[3], row[4]),
            Sums(int(row[5]), row[6], row[7]),
            Sums(int(row[8]), row[9], row[10]),
        )


@dataclass(frozen=True, slots=True)
class Model:
    """How a model behaves.

    Attributes:
        seconds: Geometric mean latency.
        cost_usd: Mean cost, over a constant.
        score: Mean.
    """

    error_rate: float = 0.01
    seconds: float = 1.0
    cost_usd: float = 0.001
    score: float = 0.8

    def serve(self, rng: np.random.Generator, requests: int) -> Story:
        """Draw how so many requests end."""
        failed = rng.random(requests) < self.error_rate
        latencies = np.log(self.seconds * 1_000 * rng.lognormal(0, 0.6, requests)) * ~failed
        costs = self.cost_usd * rng.lognormal(0, 0.8, requests)
        is_judged = rng.random(requests) < SETTINGS.guardrails.judge_share
        scores = rng.beta(self.score * 4, (1 - self.score) * 4, requests) * is_judged
        ones = np.ones(requests)
        columns = (
            ones, failed, ~failed, latencies, latencies**2, ones, costs, costs**2,
            is_judged, scores, scores**2,
        )  # fmt: skip
        return Story(np.cumsum(columns, axis=1))


CANARIES: Mapping[str, Model] = {
    "equal": Model(),
    "at all its limits": Model(0.03, 1.5, 0.002, 0.75),
    "error rate 0.01 -> 0.05": Model(error_rate=0.05),
    "error rate 0.01 -> 0.10": Model(error_rate=0.10),
    "latency x 2": Model(seconds=2.0),
    "cost x 3": Model(cost_usd=0.003),
    "score 0.8 -> 0.6": Model(score=0.6),
}


def is_taken_back(control: ArmSums, canary: ArmSums) -> bool:
    """Look as a rollout does."""
    decision = decide(SETTINGS, 1, control, canary, minutes=0)
    return decision.action is Action.ROLL_BACK


def is_taken_back_by_ordinary_intervals(control: ArmSums, canary: ArmSums) -> bool:
    """Look as who takes each look for the only one, at the error rate and the latency."""
    limits = SETTINGS.guardrails
    if min(control.requests, canary.requests) < FEWEST_ASYMPTOTIC:
        return False
    rates = [Sums(arm.requests, arm.errors, arm.errors) for arm in (canary, control)]
    latencies = [arm.log_latency for arm in (canary, control)]
    return (
        _lower_end(*rates) > (limits.max_error_rate_increase or 0)
        or _lower_end(*latencies) > math.log(limits.max_latency_ratio or 1)
    )  # fmt: skip


def _lower_end(one: Sums, other: Sums) -> float:
    spread = one.variance / one.count + other.variance / other.count
    return (one.mean or 0) - (other.mean or 0) - Z_95 * math.sqrt(spread)


def simulate(
    canary: Model, look: Look, *, runs: int, requests: int, every: int, seed: int
) -> list[int | None]:
    """Return after how many requests of the canary each rollout was taken back; None for never."""
    rng = np.random.default_rng(seed)
    return [
        _first(
            look, Model().serve(rng, requests * CONTROLS_A_CANARY), canary.serve(rng, requests),
            range(every, requests + 1, every),
        )
        for _ in range(runs)
    ]  # fmt: skip


def _first(look: Look, control: Story, canary: Story, looks: Iterable[int]) -> int | None:
    return next(
        (n for n in looks if look(control.until(n * CONTROLS_A_CANARY), canary.until(n))), None
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--requests", type=int, default=3_000)
    parser.add_argument("--every", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(
        f"of {options.runs:,} canaries, looked at after every {options.every} of "
        f"{options.requests:,} requests"
    )
    print(f"{'':<26}{'taken back':>12}{'median':>9}{'99 %':>9}{'by ordinary intervals':>24}")
    for name, canary in CANARIES.items():
        ended = simulate(canary, is_taken_back, **vars(options))
        by_chance = simulate(canary, is_taken_back_by_ordinary_intervals, **vars(options))
        after = [options.requests * 2 if each is None else each for each in ended]
        median, late = (np.quantile(after, share) for share in (0.5, 0.99))
        shown = [f"{n:.0f}" if n <= options.requests else "-" for n in (median, late)]
        share, other = (
            np.mean([each is not None for each in found]) for found in (ended, by_chance)
        )
        print(f"{name:<26}{share:12.4f}{shown[0]:>9}{shown[1]:>9}{other:24.4f}")


if __name__ == "__main__":
    main()
