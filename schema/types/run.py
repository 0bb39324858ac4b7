"""The Run and RunResult object types."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import strawberry
from strawberry.scalars import JSON

from db.models import Candidate as CandidateRow
from db.models import DatasetRow as DatasetRowRow
from db.models import DatasetSnapshot as SnapshotRow
from db.models import Leaderboard as LeaderboardRow
from db.models import Ranking as RankingRow
from db.models import Run as RunRow
from db.models import RunResult as ResultRow
from db.models import Trace as TraceRow
from resolvers import candidates, datasets, leaderboards, rankings, runs, traces
from resolvers.loaders.runs import ResultFilter
from resolvers.loaders.runs import RunProgress as Progress
from resolvers.paging import OLDEST_FIRST, Order, by_number, read_page
from schema.context import Info
from schema.enums import ResultOrder, RunKind, RunStatus
from schema.fields import resolved
from schema.inputs.run import ResultFilterInput
from schema.paging import After, Before, Connection, First, Last, Slice, slice_of
from schema.scalars import read_optional_id
from schema.types.dataset import DatasetRow, DatasetSnapshot
from schema.types.refs import CandidateRef, LeaderboardRef, RankingRef, TraceRef

RESULT_ORDERS: dict[ResultOrder, Order] = {
    ResultOrder.STORED: OLDEST_FIRST,
    ResultOrder.BEST_FIRST: by_number("score", descending=True),
    ResultOrder.WORST_FIRST: by_number("score", descending=False),
    ResultOrder.SLOWEST_FIRST: by_number("latency_ms", descending=True),
}


async def result_output(root: strawberry.Parent[ResultRow], info: Info) -> str | None:
    """Return what the model answered."""
    return await runs.find_result_output(info.context.ctx, root.id)


async def result_candidate(root: strawberry.Parent[ResultRow], info: Info) -> CandidateRow | None:
    """Return who was asked."""
    return await candidates.find_candidate(info.context.ctx, root.candidate_id)


async def result_trace(root: strawberry.Parent[ResultRow], info: Info) -> TraceRow | None:
    """Return the call."""
    return await traces.find_trace(info.context.ctx, root.trace_id)


async def result_row(root: strawberry.Parent[ResultRow], info: Info) -> DatasetRowRow | None:
    """Return what was asked."""
    return await datasets.find_result_row(info.context.ctx, root.run_id, root.position)


@strawberry.type(description="What one candidate answered to one row of a run.")
class RunResult:
    """Over rows of `db.models.RunResult`."""

    id: strawberry.ID = strawberry.field(description="Its id.")
    position: int = strawberry.field(description="The row's place in the snapshot, from 0.")
    output: str | None = resolved(result_output, "What the model answered.")
    score: float = strawberry.field(description="0 to 1; an error scores 0.")
    error: str | None = strawberry.field(description="Why the call failed: a code and a message.")
    latency_ms: float = strawberry.field(description="Request sent to answer read.")
    prompt_tokens: int | None = strawberry.field(description="Tokens sent.")
    completion_tokens: int | None = strawberry.field(description="Tokens generated.")
    cost_usd: Decimal | None = strawberry.field(description="US dollars; null when unknown.")
    created_at: datetime = strawberry.field(description="When it was answered.")
    candidate: CandidateRef | None = resolved(result_candidate, "Who was asked.")
    row: DatasetRow | None = resolved(result_row, "What was asked.")
    trace: TraceRef | None = resolved(result_trace, "The call; null once its retention has passed.")


@strawberry.type(description="How far a run has come, in calls: one a row and candidate.")
class RunProgress:
    """Over `resolvers.loaders.runs.RunProgress`."""

    done: int = strawberry.field(description="Calls stored, the failed ones among them.")
    failed: int = strawberry.field(description="Calls stored that ended in an error.")
    total: int | None = strawberry.field(
        description="All calls; null until the dataset has been read."
    )


async def progress(root: strawberry.Parent[RunRow], info: Info) -> Progress:
    """Return how far it has come."""
    return await runs.get_progress(info.context.ctx, root)


async def cost_usd(root: strawberry.Parent[RunRow], info: Info) -> Decimal:
    """Return what it has cost so far."""
    return (await runs.get_progress(info.context.ctx, root)).cost_usd


async def ranking(root: strawberry.Parent[RunRow], info: Info) -> RankingRow | None:
    """Return what it found."""
    return await rankings.find_ranking_of_run(info.context.ctx, root.id)


async def snapshot(root: strawberry.Parent[RunRow], info: Info) -> SnapshotRow | None:
    """Return the rows it uses."""
    if root.snapshot_id is None:
        return None
    return await datasets.find_snapshot(info.context.ctx, root.snapshot_id)


async def leaderboard(root: strawberry.Parent[RunRow], info: Info) -> LeaderboardRow | None:
    """Return its leaderboard."""
    return await leaderboards.find_leaderboard(info.context.ctx, root.leaderboard_id)


async def run_candidates(
    root: strawberry.Parent[RunRow], info: Info
) -> Sequence[CandidateRow | None]:
    """Return whom it ranks."""
    return await runs.list_run_candidates(info.context.ctx, root.id)


async def results(
    root: strawberry.Parent[RunRow],
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
) -> Slice:
    """Return a slice of its results."""
    ctx = info.context.ctx
    request = read_page(
        first=first, after=after, last=last, before=before, order=RESULT_ORDERS[order_by]
    )
    where = read_result_filter(filter)
    page = await runs.list_results(ctx, root.id, request, where)
    return slice_of(page, runs.count_results, ctx, root.id, where)


def read_result_filter(given: ResultFilterInput | None) -> ResultFilter:
    """Return the filter that was given."""
    if given is None:
        return ResultFilter()
    status: Any = given.status.value if given.status is not None else None
    return ResultFilter(
        candidate_id=read_optional_id("candidateId", given.candidate_id), outcome=status
    )


@strawberry.type(description="One evaluation of a leaderboard's candidates; its inputs are fixed.")
class Run:
    """Over rows of `db.models.Run`."""

    id: strawberry.ID = strawberry.field(description="Its id.")
    kind: RunKind = strawberry.field(description="What it does.")
    status: RunStatus = strawberry.field(description="How far it has come.")
    system_prompt: str = strawberry.field(description="The task, as it was when it began.")
    evaluation: JSON = strawberry.field(description="How answers are scored.")
    dataset_size: JSON = strawberry.field(description="Which rows: algorithm, rows and seed.")
    row_count: int | None = strawberry.field(description="Rows that every candidate is asked.")
    error: str | None = strawberry.field(description="Why it failed.")
    created_at: datetime = strawberry.field(description="When it was asked for.")
    started_at: datetime | None = strawberry.field(description="When its calls began.")
    finished_at: datetime | None = strawberry.field(description="When it ended.")
    progress: RunProgress = resolved(progress, "How far it has come.")
    cost_usd: Decimal = resolved(cost_usd, "US dollars so far, of the calls whose cost is known.")
    ranking: RankingRef | None = resolved(ranking, "What it found.")
    snapshot: DatasetSnapshot | None = resolved(
        snapshot, "The rows it uses; null until they have been read."
    )
    leaderboard: LeaderboardRef | None = resolved(
        leaderboard, "Its leaderboard; null once that is deleted."
    )
    candidates: list[CandidateRef] = resolved(run_candidates, "Whom it ranks.")
    results: Connection[RunResult] = resolved(results, "What was answered.")
