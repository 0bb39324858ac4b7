"""Whether a new ranking changes the model in production, with the numbers that decided it."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from engine.comparisons import PlannedComparison, compare_one
from engine.ranking import RankedCandidate


class Rule(StrEnum):
    """When a new ranking changes production."""

    ALWAYS = "always"
    CONFIDENT = "confident"
    CHEAPEST_WITHIN = "cheapest_within"


class Verdict(StrEnum):
    """What a ranking means for production."""

    PROMOTE = "PROMOTE"
    HOLD = "HOLD"
    INSUFFICIENT = "INSUFFICIENT"


@dataclass(frozen=True, slots=True)
class PromotionPolicy:
    """A leaderboard's rule, and whom it admits to production.

    Attributes:
        rule: `always` takes the best; `confident` a better one than serves now;
            `cheapest_within` the cheapest that is not worse than the best.
        confidence: Of `confident` and `cheapest_within`, 0 to 1: a wrong change has at most the
            rest of the probability, however many candidates there are.
        epsilon: How much worse than the best counts as not worse, in score.
        max_cost_per_1k_requests_usd: Who costs more, or an unknown amount, is not admitted.
        max_latency_ms_p95: Who is slower is not admitted.
        min_score: Who scores less is not admitted.
    """

    rule: Rule = Rule.ALWAYS
    confidence: float = 0.95
    epsilon: float = 0.0
    max_cost_per_1k_requests_usd: Decimal | None = None
    max_latency_ms_p95: float | None = None
    min_score: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict.

    Attributes:
        candidate_id: Who serves from now on; None when that is nobody.
        reason: For people.
        numbers: What it rests on, ready for JSON.
    """

    verdict: Verdict
    candidate_id: UUID | None
    reason: str
    numbers: dict[str, Any]


def decide_promotion(
    ranked: Sequence[RankedCandidate],
    scores: NDArray[np.float64],
    policy: PromotionPolicy,
    *,
    production_id: UUID | None,
    gone: frozenset[UUID] = frozenset(),
    seed: int,
) -> Decision:
    """Decide whether a ranking changes production.

    Nobody in production yet, the best that the limits admit is promoted by `always` and
    `confident`. Otherwise `confident` promotes the best only if it is better than the model in
    production on the rows that both were scored on, by a one-sided test at the confidence, which
    is divided among all challengers (Bonferroni): the best of many equals is not better for
    having been picked. `cheapest_within` tests every cheaper candidate for non-inferiority to
    the best: the lower bound of its difference must be above -epsilon, divided likewise.

    Args:
        ranked: Best first, as `rank_candidates` returns them.
        scores: Shape (rows, candidates), the columns in the order of *ranked*.
        policy: The rule.
        production_id: Who serves now.
        gone: Who is ranked, and may not serve: it has left the leaderboard.
        seed: Of the resampling.

    Returns:
        PROMOTE with somebody who does not serve yet; HOLD when production stays for a reason;
        INSUFFICIENT when it stays because the rows could not have shown anything else.

    Source: S. Wellek, "Testing Statistical Hypotheses of Equivalence and Noninferiority",
    2nd edition (2010), chapter 2, for non-inferiority by one-sided confidence bounds.
    """
    field = _Field(ranked, scores, policy, production_id, gone, seed)
    if not field.admitted:
        return field.hold("no candidate is within the limits")
    if policy.rule is Rule.CHEAPEST_WITHIN:
        return _decide_cheapest(field)
    best = field.admitted[0]
    if field.ids[best] == production_id:
        return field.hold("the model in production is the best that the limits admit")
    if policy.rule is Rule.ALWAYS or production_id is None:
        return field.promote(best, "it is the best that the limits admit")
    return _decide_confident(field, best)


class _Field:
    """The ranked candidates, whom the limits admit, and what has been compared."""

    def __init__(
        self,
        ranked: Sequence[RankedCandidate],
        scores: NDArray[np.float64],
        policy: PromotionPolicy,
        production_id: UUID | None,
        gone: frozenset[UUID],
        seed: int,
    ) -> None:
        self.ranked, self.scores, self.policy = ranked, scores, policy
        self.production_id, self._seed = production_id, seed
        self.ids = [each.figures.candidate_id for each in ranked]
        places = {candidate_id: place for place, candidate_id in enumerate(self.ids)}
        # Where the model in production is ranked; None when it is not.
        self.production = None if production_id is None else places.get(production_id)
        refused = {
            place: "it has left the leaderboard"
            if each.figures.candidate_id in gone
            else find_refusal(each, policy)
            for place, each in enumerate(ranked)
        }
        self.admitted = [place for place, reason in refused.items() if reason is None]
        self.numbers: dict[str, Any] = {
            "rule": policy.rule.value,
            "confidence": policy.confidence,
            "epsilon": policy.epsilon,
            "production_candidate_id": None if production_id is None else str(production_id),
            "refused": {
                str(self.ids[place]): reason for place, reason in refused.items() if reason
            },
        }

    def compare(self, place: int, other: int, *, tests: int) -> PlannedComparison:
        """Test whether one is better than the other, as one of so many tests; note the figures."""
        alpha = (1 - self.policy.confidence) / tests
        compared = compare_one(
            self.scores[:, place],
            self.scores[:, other],
            seed=self._seed,
            # One-sided ends are defined from a half on, and no resampling tells 1.
            confidence=min(max(1 - alpha, 0.5001), 0.999999),
        )
        self.numbers.setdefault("comparisons", []).append(
            {
                "candidate_id": str(self.ids[place]),
                "against_candidate_id": str(self.ids[other]),
                "difference": compared.difference,
                "difference_low": compared.low,
                "p_value": compared.p_value,
                "smallest_p_value": compared.smallest_p_value,
                "alpha": round(alpha, 12),
                "row_count": compared.row_count,
                "method": compared.method.value,
            }
        )
        return compared

    def hold(self, reason: str, verdict: Verdict = Verdict.HOLD) -> Decision:
        return Decision(verdict, self.production_id, reason, self.numbers)

    def promote(self, place: int, reason: str) -> Decision:
        return Decision(Verdict.PROMOTE, self.ids[place], reason, self.numbers)


def find_refusal(candidate: RankedCandidate, policy: PromotionPolicy) -> str | None:
    """Return which limit keeps a candidate from production, or None."""
    cost_usd = candidate.figures.cost_usd_per_1k
    latency_ms = candidate.figures.latency_ms_p95
    if policy.min_score is not None and candidate.score < policy.min_score:
        return f"score {candidate.score:.4g} is below {policy.min_score:.4g}"
    limit = policy.max_cost_per_1k_requests_usd
    if limit is not None and (cost_usd is None or cost_usd > limit):
        known = "an unknown amount" if cost_usd is None else f"{cost_usd.normalize():f} USD"
        return f"1,000 requests cost {known}, and may cost {limit.normalize():f} USD"
    slowest = policy.max_latency_ms_p95
    if slowest is not None and (latency_ms is None or latency_ms > slowest):
        known = "not known" if latency_ms is None else f"{latency_ms:.4g} ms"
        return f"the 95th percentile of latency is {known}, and may be {slowest:.4g} ms"
    return None


def _decide_confident(field: _Field, best: int) -> Decision:
    production = field.production
    if production is None:
        return field.hold("the model in production was not in the run", Verdict.INSUFFICIENT)
    challengers = [place for place in field.admitted if place != production]
    if best > production:
        return field.hold("the model in production scored higher than any that may replace it")
    compared = field.compare(best, production, tests=len(challengers))
    alpha = (1 - field.policy.confidence) / len(challengers)
    if compared.p_value <= alpha:
        return field.promote(best, f"it is better (p = {compared.p_value:.3g})")
    if compared.smallest_p_value > alpha:
        return field.hold(
            "the two differ on too few rows to tell whether it is better", Verdict.INSUFFICIENT
        )
    return field.hold(f"it is not shown to be better (p = {compared.p_value:.3g})")


def _decide_cheapest(field: _Field) -> Decision:
    best = field.admitted[0]
    epsilon = field.policy.epsilon
    production = field.production
    others = [
        place
        for place in field.admitted[1:]
        if _cost(field, place) < _cost(field, best)
        or (place == production and _cost(field, place) == _cost(field, best))
    ]
    compared = {place: field.compare(place, best, tests=len(others)) for place in others}
    good_enough = [place for place, seen in compared.items() if seen.low > -epsilon]
    # Of those that cost the same, the one that serves already stays, else the better one.
    chosen = min(
        [*good_enough, best], key=lambda place: (_cost(field, place), place != production, place)
    )
    if chosen == production:
        return field.hold("the model in production is the cheapest that is good enough")
    if chosen == best and production in compared:
        seen = compared[production]
        # Even an equal would have failed: that is the rows' fault, not the model's.
        if seen.difference - seen.low >= epsilon:
            return field.hold(
                "the rows are too few to tell whether the model in production is good enough",
                Verdict.INSUFFICIENT,
            )
    return field.promote(chosen, "it is the cheapest that is good enough")


def _cost(field: _Field, place: int) -> Decimal:
    cost_usd = field.ranked[place].figures.cost_usd_per_1k
    return Decimal("Infinity") if cost_usd is None else cost_usd
