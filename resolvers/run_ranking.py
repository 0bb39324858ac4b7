"""Storing what a run found: its ranking, and what that means for production."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from db.base import new_id
from db.models import Candidate, Leaderboard, Ranking, RankingEntry, Run
from db.session import WriteSession
from engine.promotion import Decision, PromotionPolicy, Rule, Verdict, decide_promotion
from engine.ranking import CONFIDENCE, RankedCandidate
from resolvers.context import Context
from resolvers.rollout_lifecycle import Promoted, judge_of, promote


async def store_ranking(
    ctx: Context,
    session: WriteSession,
    run: Run,
    board: Leaderboard,
    ranked: Sequence[RankedCandidate],
    scores: NDArray[np.float64],
) -> None:
    """Store a ranking and what it means for production, which changes with it."""
    ids = [each.figures.candidate_id for each in ranked]
    gone = await session.scalars(
        select(Candidate.id).where(Candidate.id.in_(ids), Candidate.removed_at.is_not(None))
    )
    source = await session.get(Run, run.source_run_id) if run.source_run_id else None
    is_partial = source is not None and source.status != "completed"
    decision = _decide(run, board, ranked, scores, frozenset(gone), is_partial=is_partial)
    saved_call_count, saved_cost_usd = _savings(run, ranked)
    ranking = Ranking(
        id=new_id(),
        workspace_id=run.workspace_id,
        leaderboard_id=run.leaderboard_id,
        run_id=run.id,
        row_count=int((~np.isnan(scores)).any(axis=1).sum()) if is_partial else run.row_count or 0,
        completed_at=datetime.now(UTC),
        confidence=CONFIDENCE,
        saved_call_count=saved_call_count,
        saved_cost_usd=saved_cost_usd,
        verdict=decision.verdict.value,
        decision={**decision.numbers, "reason": decision.reason},
    )
    session.add(ranking)
    await session.flush()
    session.add_all(_entry(ranking.id, each) for each in ranked)
    promoted = Promoted(
        candidate_id=decision.candidate_id,
        judge=judge_of(run.evaluation, run.evaluation.get("judge")),
        run_id=run.id,
        rule=run.promotion["rule"],
        numbers={**decision.numbers, "reason": decision.reason},
    )
    await promote(session, ctx, board, promoted, run.promotion.get("rollout"))


def _entry(ranking_id: UUID, ranked: RankedCandidate) -> RankingEntry:
    figures, compared = ranked.figures, ranked.next_comparison
    return RankingEntry(
        ranking_id=ranking_id,
        candidate_id=figures.candidate_id,
        rank=ranked.rank,
        band=ranked.band,
        score=ranked.score,
        score_low=ranked.score_low,
        score_high=ranked.score_high,
        is_on_pareto_front=ranked.is_on_pareto_front,
        row_count=ranked.scored_row_count,
        error_count=figures.error_count,
        latency_ms_p50=figures.latency_ms_p50,
        latency_ms_p95=figures.latency_ms_p95,
        cost_usd=figures.cost_usd,
        cost_usd_per_1k=figures.cost_usd_per_1k,
        strength=None if ranked.strength is None else ranked.strength.value,
        strength_low=None if ranked.strength is None else ranked.strength.low,
        strength_high=None if ranked.strength is None else ranked.strength.high,
        next_comparison=None if compared is None else asdict(compared),
    )


def _savings(run: Run, ranked: Sequence[RankedCandidate]) -> tuple[int, Decimal | None]:
    """Return how many calls early stopping did without, and what they would have cost in USD."""
    if not run.stops_early:
        return 0, Decimal(0)
    rows = run.row_count or 0
    unasked = [rows - each.figures.row_count for each in ranked]
    costs = [each.figures.cost_usd_per_1k for each in ranked]
    if any(cost is None for cost, count in zip(costs, unasked, strict=True) if count):
        return sum(unasked), None
    saved = [
        (cost or Decimal(0)) * count / 1000 for cost, count in zip(costs, unasked, strict=True)
    ]
    return sum(unasked), sum(saved, Decimal(0))


def _decide(
    run: Run,
    board: Leaderboard,
    ranked: Sequence[RankedCandidate],
    scores: NDArray[np.float64],
    gone: frozenset[UUID],
    *,
    is_partial: bool,
) -> Decision:
    """Return what a ranking means for production, by the rule that its run was asked for with."""
    if is_partial:
        reason = "the run that it scores again did not complete: its answers are not all"
        numbers = {"rule": run.promotion["rule"]}
        return Decision(Verdict.HOLD, board.production_candidate_id, reason, numbers)
    if board.model_selection == "manual" and board.selected_candidate_id is not None:
        numbers = {"rule": "manual"}
        chosen = board.selected_candidate_id
        verdict = Verdict.HOLD if chosen == board.production_candidate_id else Verdict.PROMOTE
        return Decision(verdict, chosen, "the model in production is pinned", numbers)
    return decide_promotion(
        ranked,
        scores,
        _read_policy(run.promotion),
        production_id=board.production_candidate_id,
        gone=gone,
        seed=run.dataset_size["seed"],
    )


def _read_policy(promotion: dict[str, object]) -> PromotionPolicy:
    """Return a stored promotion rule as the engine takes it."""
    values = {name: value for name, value in promotion.items() if name != "rollout"}
    values["rule"] = Rule(str(promotion["rule"]))
    limit = values.get("max_cost_per_1k_requests_usd")
    if limit is not None:
        values["max_cost_per_1k_requests_usd"] = Decimal(str(limit))
    return PromotionPolicy(**values)  # type: ignore[arg-type]
