"""What people's reviews say of a judge: how often they agree, and what its means come to."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np

from db.records import Row
from engine.agreement import CorrectedMean, cohen_kappa, correct_mean, exact_agreement
from engine.judge_prompts import Scale, read_scale
from resolvers.auth import Scope, requires
from resolvers.context import Context
from resolvers.loaders.reviews import CheckedScoresByRun


@dataclass(frozen=True, slots=True)
class CheckedCandidate:
    """A candidate's mean score as people would give it.

    Attributes:
        judged_mean: The judge's.
        corrected: None with fewer than two reviews of its answers.
    """

    candidate_id: UUID
    judged_mean: float
    corrected: CorrectedMean | None


@dataclass(frozen=True, slots=True)
class HumanCheck:
    """What people's reviews say of a run's judge.

    Attributes:
        kappa: Cohen's, of scores rounded to whole steps of the scale; None when it is undefined.
        exact_agreement: The share of reviews in which these are the same; None without any.
        reviewed_count: Reviews drawn by chance.
    """

    kappa: float | None
    exact_agreement: float | None
    reviewed_count: int
    candidates: Sequence[CheckedCandidate]


@requires(Scope.LEADERBOARDS_READ)
async def find_human_checks(ctx: Context, run_ids: Sequence[UUID]) -> list[HumanCheck | None]:
    """Return what reviews say of each run's judge; None where there are none."""
    found = await ctx.loaders.get(CheckedScoresByRun).load_many(run_ids)
    return [_check(rows) if rows else None for rows in found]


def _check(rows: Sequence[Row]) -> HumanCheck | None:
    scale = read_scale(rows[0].evaluation)
    judged = [_step(scale, score) for row in rows for score in row.judged_on_reviewed or ()]
    human = [_step(scale, score) for row in rows for score in row.human or ()]
    if not human:
        return None
    return HumanCheck(
        kappa=cohen_kappa(judged, human),
        exact_agreement=exact_agreement(judged, human),
        reviewed_count=len(human),
        candidates=[_candidate(row) for row in rows],
    )


def _step(scale: Scale, score: float) -> int:
    """Return a score as people see it, in whole steps of the scale."""
    return round(scale.low + score * (scale.high - scale.low))


def _candidate(row: Row) -> CheckedCandidate:
    judged = np.array(row.judged or (), dtype=float)
    corrected = correct_mean(
        judged,
        np.array(row.judged_on_reviewed or (), dtype=float),
        np.array(row.human or (), dtype=float),
    )
    # A row without an answer is 0 for people too, unless it is left out.
    share = 1.0
    if row.evaluation.get("errors") != "leave_out":
        share = len(judged) / row.row_count if row.row_count else 0.0
    if corrected is not None:
        corrected = CorrectedMean(
            mean=corrected.mean * share,
            low=corrected.low * share,
            high=corrected.high * share,
            weight=corrected.weight,
            reviewed_count=corrected.reviewed_count,
        )
    mean = float(judged.mean()) * share if len(judged) else 0.0
    return CheckedCandidate(row.candidate_id, mean, corrected)
