"""The Run and RunResult object types."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import strawberry
from strawberry.scalars import JSON

from compiled_graphql.selection import selected_names
from db.records import Row
from resolvers import (
    candidates,
    datasets,
    improvements,
    leaderboards,
    rankings,
    reviews,
    runs,
    traces,
)
from resolvers.loaders.runs import RunProgress as Progress
from resolvers.paging import OLDEST_FIRST, Order, by_number, read_page
from resolvers.review_counts import ReviewCounts
from resolvers.where import ResultFilter
from schema.context import Info
from schema.enums import ComparedOutcome, ResultOrder, RunKind, RunStatus
from schema.fields import batched, referred, resolved
from schema.inputs.run import ResultFilterInput
from schema.paging import (
    After,
    Before,
    Connection,
    First,
    Last,
    Slice,
    slice_of,
    slices_by,
)
from schema.scalars import read_optional_id
from schema.types.dataset import DatasetRow, DatasetSnapshot, asked_rows
from schema.types.refs import (
    CandidateRef,
    ImprovementRef,
    LeaderboardRef,
    RankingRef,
    RunRef,
    TraceRef,
)
from schema.types.review import Review, ReviewProgress

RESULT_ORDERS: dict[ResultOrder, Order] = {
    ResultOrder.STORED: OLDEST_FIRST,
    ResultOrder.BEST_FIRST: by_number("score", descending=True),
    ResultOrder.WORST_FIRST: by_number("score", descending=False),
    ResultOrder.SLOWEST_FIRST: by_number("latency_ms", descending=True),
    ResultOrder.MOST_DISPUTED_FIRST: by_number("disagreement", descending=True),
}


def score_of(root: strawberry.Parent[Row]) -> float | None:
    """Return its score, once it has one."""
    score: float | None = None if root["is_pending"] else root["score"]
    return score


async def comparisons_of(roots: Sequence[Row], info: Info) -> Sequence[Sequence[Row]]:
    """Return how they did against the other candidates' answers."""
    places = [(root.run_id, root.candidate_id, root.position) for root in roots]
    return await runs.list_comparisons(info.context.ctx, places)


@strawberry.type(description="How an answer did against another candidate's answer to its row.")
class AnswerComparison:
    """Over rows of `resolvers.loaders.answers.ComparisonsByPlace`."""

    outcome: ComparedOutcome = strawberry.field(description="How it did.")
    is_first: bool = strawberry.field(
        description="Whether it was shown first in the first of a judge's two orders."
    )
    judgement: JSON = strawberry.field(
        description="What the judge said in each order, or which review it was."
    )
    other_candidate: CandidateRef | None = referred(
        candidates.find_candidates,
        "CandidateModel",
        "other_candidate_id",
        "Whose answer it was compared with.",
    )


@strawberry.type(description="What one candidate answered to one row of a run.")
class RunResult:
    """Over rows of `db.models.RunResult`."""

    id: strawberry.ID = strawberry.field(description="Its id.")
    position: int = strawberry.field(description="The row's place in the snapshot, from 0.")
    output: str | None = strawberry.field(description="What the model answered.")
    score: float | None = resolved(
        score_of, "0 to 1, an error 0; null until it is scored.", needs=["score", "is_pending"]
    )
    error: str | None = strawberry.field(
        description="Why the call, or its judge's, failed: a code and a message."
    )
    judgement: JSON | None = strawberry.field(description="What the judge said, vote by vote.")
    comparisons: list[AnswerComparison] = batched(
        comparisons_of,
        "How it did against the other candidates' answers; empty unless answers are compared.",
        needs=["run_id", "candidate_id", "position"],
    )
    human_score: float | None = strawberry.field(
        description="What a reviewer gave it, 0 to 1, beside the judge's score."
    )
    judge_cost_usd: Decimal | None = strawberry.field(
        description="US dollars, of the verdicts that were asked for this answer; null when "
        "unknown."
    )
    latency_ms: float = strawberry.field(description="Request sent to answer read.")
    prompt_tokens: int | None = strawberry.field(description="Tokens sent.")
    completion_tokens: int | None = strawberry.field(description="Tokens generated.")
    cost_usd: Decimal | None = strawberry.field(description="US dollars; null when unknown.")
    created_at: datetime = strawberry.field(description="When it was answered.")
    candidate: CandidateRef | None = referred(
        candidates.find_candidates, "CandidateModel", "candidate_id", "Who was asked."
    )
    row: DatasetRow | None = batched(asked_rows, "What was asked.", needs=["run_id", "position"])
    trace: TraceRef | None = referred(
        traces.find_traces, "Trace", "trace_id", "The call; null once its retention has passed."
    )


@strawberry.type(description="How far a run has come, in calls: one a row and candidate.")
class RunProgress:
    """Over `resolvers.loaders.runs.RunProgress`."""

    done: int = strawberry.field(description="Calls stored, the failed ones among them.")
    failed: int = strawberry.field(description="Calls stored that ended in an error.")
    total: int | None = strawberry.field(
        description="All calls; null until the dataset has been read."
    )


async def progress_of(roots: Sequence[Row], info: Info) -> Sequence[Progress]:
    """Return how far they have come."""
    return await runs.list_progress(info.context.ctx, [root.id for root in roots])


async def costs_usd(roots: Sequence[Row], info: Info) -> Sequence[Decimal]:
    """Return what they have cost so far."""
    return [progress.cost_usd for progress in await progress_of(roots, info)]


async def rankings_of(roots: Sequence[Row], info: Info) -> Sequence[Row | None]:
    """Return what they found."""
    columns = selected_names(info, "Ranking")
    ids = [root.id for root in roots]
    return await rankings.find_rankings_of_runs(info.context.ctx, ids, columns)


async def candidates_of(roots: Sequence[Row], info: Info) -> Sequence[Sequence[Row]]:
    """Return whom they rank."""
    columns = selected_names(info, "CandidateModel")
    return await runs.list_run_candidates(info.context.ctx, [root.id for root in roots], columns)


def stops_early(root: strawberry.Parent[Row]) -> bool:
    """Return whether it stops asking who can no longer win."""
    stops: bool = root.stops_early
    return stops


async def review_progress(roots: Sequence[Row], info: Info) -> Sequence[ReviewCounts]:
    """Return how far their review has come."""
    return await reviews.list_review_counts(info.context.ctx, [root.id for root in roots])


async def results_of(
    roots: Sequence[Row],
    info: Info,
    *,
    first: First = None,
    after: After = None,
    last: Last = None,
    before: Before = None,
    filter: Annotated[
        ResultFilterInput | None, strawberry.argument(description="Which results.")
    ] = None,
    order_by: Annotated[
        ResultOrder, strawberry.argument(description="The order of the list.")
    ] = ResultOrder.STORED,
) -> Sequence[Slice]:
    """Return a slice of each one's results."""
    ctx = info.context.ctx
    request = read_page(
        first=first,
        after=after,
        last=last,
        before=before,
        of="RunResult",
        order=RESULT_ORDERS[order_by],
    )
    where = read_result_filter(filter)
    ids = [root.id for root in roots]
    pages = await runs.list_results(ctx, ids, request, where, selected_names(info, "RunResult"))
    return [
        slice_of(page, runs.count_results, ctx, key, where)
        for page, key in zip(pages, ids, strict=True)
    ]


def read_result_filter(given: ResultFilterInput | None) -> ResultFilter:
    """Return the filter that was given."""
    if given is None:
        return ResultFilter()
    status: Any = given.status.value if given.status is not None else None
    return ResultFilter(
        candidate_id=read_optional_id("candidateId", given.candidate_id),
        outcome=status,
        min_score=given.min_score,
        max_score=given.max_score,
    )


@strawberry.type(description="One evaluation of a leaderboard's candidates; its inputs are fixed.")
class Run:
    """Over rows of `db.models.Run`."""

    id: strawberry.ID = strawberry.field(description="Its id.")
    kind: RunKind = strawberry.field(description="What it does.")
    status: RunStatus = strawberry.field(description="How far it has come.")
    system_prompt: str = strawberry.field(description="The task, as it was when it began.")
    evaluation: JSON = strawberry.field(description="How answers are scored.")
    dataset_size: JSON = strawberry.field(
        description="Which rows: algorithm, rows, seed, and split where it is one side alone."
    )
    row_count: int | None = strawberry.field(description="Rows that every candidate is asked.")
    promotion: JSON = strawberry.field(
        description="When its ranking changes production, as it was when it was asked for."
    )
    early_stopping: bool = resolved(
        stops_early,
        "Whether candidates that can no longer win stop being asked.",
        needs=["stops_early"],
    )
    max_cost_usd: Decimal | None = strawberry.field(
        description="US dollars that its calls can't pass; null for no ceiling."
    )
    estimated_cost_usd: Decimal | None = strawberry.field(
        description="US dollars it was expected to cost, of a run with a ceiling."
    )
    source_run: RunRef | None = referred(
        runs.find_runs, "Run", "source_run_id", "The run that it scores again or replays."
    )
    error: str | None = strawberry.field(description="Why it failed.")
    created_at: datetime = strawberry.field(description="When it was asked for.")
    started_at: datetime | None = strawberry.field(description="When its calls began.")
    finished_at: datetime | None = strawberry.field(description="When it ended.")
    progress: RunProgress = batched(progress_of, "How far it has come.")
    cost_usd: Decimal = batched(costs_usd, "US dollars so far, of the calls whose cost is known.")
    ranking: RankingRef | None = batched(rankings_of, "What it found.")
    improvement: ImprovementRef | None = referred(
        improvements.find_improvements,
        "Improvement",
        "id",
        "What it proposes to change about the dataset; null of a run of another kind.",
    )
    snapshot: DatasetSnapshot | None = referred(
        datasets.find_snapshots,
        "DatasetSnapshot",
        "snapshot_id",
        "The rows it uses; null until they have been read.",
    )
    leaderboard: LeaderboardRef | None = referred(
        leaderboards.find_leaderboards,
        "Leaderboard",
        "leaderboard_id",
        "Its leaderboard; null once that is deleted.",
    )
    candidates: list[CandidateRef] = batched(candidates_of, "Whom it ranks.")
    review_progress: ReviewProgress = batched(
        review_progress, "How far its review by people has come."
    )
    reviews: Connection[Review] = batched(
        slices_by(reviews.list_reviews, reviews.count_run_reviews, "Review"),
        "What people said of its answers.",
    )
    results: Connection[RunResult] = batched(results_of, "What was answered.")
