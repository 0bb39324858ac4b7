"""The Ranking and RankingEntry object types."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import strawberry
from strawberry.scalars import JSON

from compiled_graphql.selection import selected_names
from db.records import Row
from resolvers import candidates, rankings, runs
from resolvers import human_checks as checks
from resolvers.human_checks import HumanCheck as HumanCheckSource
from schema.context import Info
from schema.enums import ComparisonMethod, Verdict
from schema.fields import batched, referred, resolved
from schema.types.refs import CandidateRef, RunRef


@dataclass(frozen=True, slots=True)
class Compared:
    """The source of a comparison: its figures, as they are stored."""

    difference: float
    low: float
    high: float
    p_value: float
    p_value_adjusted: float
    row_count: int
    method: str


def next_comparison(root: strawberry.Parent[Row]) -> Compared | None:
    """Return how it compares with the one behind it."""
    return None if root.next_comparison is None else Compared(**root.next_comparison)


@strawberry.type(description="One candidate against another, on the rows that both have.")
class PairedComparison:
    """Over `Compared`."""

    difference: float = strawberry.field(
        description="How much higher the first one's mean score is, on those rows."
    )
    low: float = strawberry.field(description="Lower end of its interval.")
    high: float = strawberry.field(description="Upper end of its interval.")
    p_value: float = strawberry.field(
        description="Two-sided: how likely equals are to differ as much."
    )
    p_value_adjusted: float = strawberry.field(
        description="Corrected for the number of pairs in the ranking, by Holm's method."
    )
    row_count: int = strawberry.field(description="Rows that both have.")
    method: ComparisonMethod = strawberry.field(description="The test.")


async def entries_of(roots: Sequence[Row], info: Info) -> Sequence[Sequence[Row]]:
    """Return the rankings' entries."""
    columns = selected_names(info, "RankingEntry")
    return await rankings.list_entries(info.context.ctx, [root.id for root in roots], columns)


@strawberry.type(description="One candidate's place in a ranking.")
class RankingEntry:
    """Over rows of `db.models.RankingEntry`."""

    rank: int = strawberry.field(description="1 is the winner.")
    score: float = strawberry.field(
        description="Mean over the rows, 0 to 1; errors count as 0, unless they are left out."
    )
    band: int | None = strawberry.field(
        description="Candidates that can't be told apart share one; 1 is the best."
    )
    score_low: float | None = strawberry.field(
        description="Lower end of the score's interval, at the ranking's confidence."
    )
    score_high: float | None = strawberry.field(description="Upper end of that interval.")
    is_on_pareto_front: bool | None = strawberry.field(
        description="Nobody else is as good and as cheap, and better in one of both."
    )
    next_comparison: PairedComparison | None = resolved(
        next_comparison,
        "Against the candidate of the next rank; null for the last.",
        needs=["next_comparison"],
    )
    strength: float | None = strawberry.field(
        description="Bradley-Terry: the natural logarithm of its odds against the average "
        "candidate, when answers were judged in pairs."
    )
    strength_low: float | None = strawberry.field(
        description="Lower end of the strength's interval."
    )
    strength_high: float | None = strawberry.field(description="Upper end of that interval.")
    row_count: int = strawberry.field(description="Rows it was scored on.")
    error_count: int = strawberry.field(description="Rows on which its call failed.")
    latency_ms_p50: float | None = strawberry.field(
        name="latencyMsP50", description="Median latency of the calls that were answered."
    )
    latency_ms_p95: float | None = strawberry.field(
        name="latencyMsP95", description="95th percentile of that latency."
    )
    cost_usd: Decimal | None = strawberry.field(
        description="US dollars, of all its calls; null when a part of it is unknown."
    )
    cost_usd_per_1k: Decimal | None = strawberry.field(
        name="costUsdPer1k", description="US dollars for 1,000 requests."
    )
    candidate: CandidateRef = referred(
        candidates.find_candidates, "CandidateModel", "candidate_id", "Who it is."
    )


async def human_checks(roots: Sequence[Row], info: Info) -> Sequence[HumanCheckSource | None]:
    """Return what people's reviews say of their judges."""
    return await checks.find_human_checks(info.context.ctx, [root.run_id for root in roots])


@strawberry.type(
    description="A mean score as people would give it, from the judge's scores of all answers and "
    "people's of some (prediction-powered inference)."
)
class CorrectedMean:
    """Over `engine.agreement.CorrectedMean`."""

    mean: float = strawberry.field(description="The estimate, 0 to 1.")
    low: float = strawberry.field(description="Lower end of its 95% interval.")
    high: float = strawberry.field(description="Upper end of that interval.")
    weight: float = strawberry.field(description="How much the judge counts in it, 0 to 1.")
    reviewed_count: int = strawberry.field(description="Reviews of this candidate's answers.")


@strawberry.type(description="A candidate's mean by the judge, and as people would give it.")
class CheckedCandidate:
    """Over `resolvers.human_checks.CheckedCandidate`."""

    judged_mean: float = strawberry.field(description="The judge's mean.")
    corrected: CorrectedMean | None = strawberry.field(
        description="Null with fewer than two reviews of its answers."
    )
    candidate: CandidateRef | None = referred(
        candidates.find_candidates, "CandidateModel", "candidate_id", "Whose mean it is."
    )


@strawberry.type(description="What people's reviews say of a ranking's judge.")
class HumanCheck:
    """Over `resolvers.human_checks.HumanCheck`."""

    kappa: float | None = strawberry.field(
        description="Cohen's kappa, of scores in whole steps of the scale; null when undefined."
    )
    exact_agreement: float | None = strawberry.field(
        description="The share of reviews in which judge and reviewer gave the same."
    )
    reviewed_count: int = strawberry.field(description="Reviews drawn by chance.")
    candidates: list[CheckedCandidate] = strawberry.field(description="By candidate.")


@strawberry.type(description="What a completed run found.")
class Ranking:
    """Over rows of `db.models.Ranking`."""

    id: strawberry.ID = strawberry.field(description="Its id.")
    completed_at: datetime = strawberry.field(description="When its run was completed.")
    row_count: int = strawberry.field(description="Rows that the run was to ask everybody.")
    confidence: float = strawberry.field(
        description="Of its intervals and of what its bands tell apart, 0 to 1."
    )
    saved_call_count: int = strawberry.field(description="Calls that early stopping did without.")
    saved_cost_usd: Decimal | None = strawberry.field(
        description="US dollars that these would have cost, at each candidate's mean; null when "
        "unknown."
    )
    verdict: Verdict | None = strawberry.field(description="What it means for production.")
    decision: JSON | None = strawberry.field(description="The numbers and the reason of that.")
    entries: list[RankingEntry] = batched(entries_of, "The candidates, best first.")
    human_check: HumanCheck | None = batched(
        human_checks,
        "What people's reviews say of its judge; null without any.",
        needs=["run_id"],
    )
    run: RunRef = referred(runs.find_runs, "Run", "run_id", "The run that found it.")
