"""Promotion: how often a rerun changes production, by equal models and by a better one.

    python -m bench.promotion [--reruns 2000] [--rows 200] [--seed 1]

The first candidate serves; a rerun draws everybody's answers anew, ranks them and decides. Scores
are 0 or 1, and correlate as in `bench.racing`. Prices are equal and latencies are drawn, so that
chance decides who is first of equal scores.
"""

import argparse
from collections.abc import Mapping, Sequence
from decimal import Decimal
from uuid import UUID

import numpy as np

from bench.racing import Scores, draw_scores
from engine.promotion import PromotionPolicy, Rule, Verdict, decide_promotion
from engine.ranking import CandidateFigures, rank_candidates

COST_USD = Decimal(1)
FIELDS: Mapping[str, Sequence[float]] = {
    "2 equal models": (0.7,) * 2,
    "4 equal models": (0.7,) * 4,
    "2 models, the other 0.05 better": (0.7, 0.75),
    "2 models, the other 0.10 better": (0.7, 0.80),
}
POLICIES: Mapping[str, PromotionPolicy] = {
    "always": PromotionPolicy(rule=Rule.ALWAYS),
    "confident 0.95": PromotionPolicy(rule=Rule.CONFIDENT, confidence=0.95),
}


def changes_production(
    scores: Scores, latencies_ms: Sequence[float], policies: Sequence[PromotionPolicy], *, seed: int
) -> list[bool]:
    """Rank one rerun, and tell for each policy whether the first candidate is replaced.

    Args:
        scores: Shape (rows, candidates).
        latencies_ms: One for each candidate.
        policies: What decides.
        seed: Of the resampling.
    """
    figures = [
        CandidateFigures(UUID(int=column), len(scores), 0, latency_ms, latency_ms, COST_USD)
        for column, latency_ms in enumerate(latencies_ms)
    ]
    ranked = rank_candidates(scores, figures, seed=seed)
    in_order = scores[:, [figures.index(each.figures) for each in ranked]]
    decisions = (
        decide_promotion(ranked, in_order, policy, production_id=UUID(int=0), seed=seed)
        for policy in policies
    )
    return [decision.verdict is Verdict.PROMOTE for decision in decisions]


def measure_changes(
    rng: np.random.Generator, chances: Sequence[float], *, reruns: int, rows: int
) -> list[float]:
    """Return for each policy the share of reruns after which somebody else serves."""
    changed = [
        changes_production(
            draw_scores(rng, tuple(chances), rows),
            rng.lognormal(5, 0.2, len(chances)).tolist(),
            list(POLICIES.values()),
            seed=seed,
        )
        for seed in range(reruns)
    ]
    return [float(share) for share in np.mean(changed, axis=0)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--reruns", type=int, default=2000)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    print(f"share of {options.reruns:,} reruns on {options.rows:,} rows that change production")
    print(f"{'':<34}", *(f"{name:>15}" for name in POLICIES))
    for name, chances in FIELDS.items():
        shares = measure_changes(rng, chances, reruns=options.reruns, rows=options.rows)
        print(f"{name:<34}", *(f"{share:15.4f}" for share in shares))


if __name__ == "__main__":
    main()
