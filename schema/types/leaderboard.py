"""The Leaderboard object type."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import strawberry
from strawberry.scalars import JSON

from db.models import Candidate as CandidateRow
from db.models import Leaderboard as LeaderboardRow
from db.models import Ranking as RankingRow
from resolvers import candidates, rankings, runs, traces
from resolvers.paging import read_page
from resolvers.traces import TRACE_ORDER
from schema.context import Info
from schema.enums import DatasetType, EvalType, ListOrder, ModelSelection
from schema.fields import resolved
from schema.inputs.trace import TraceFilterInput, read_trace_filter
from schema.paging import (
    ORDERS,
    After,
    Before,
    Connection,
    First,
    Last,
    OrderBy,
    Slice,
    slice_of,
)
from schema.types.candidate import CandidateModel
from schema.types.dataset import Dataset
from schema.types.ranking import Ranking
from schema.types.run import Run
from schema.types.trace import Trace


async def leaderboard_candidates(
    root: strawberry.Parent[LeaderboardRow], info: Info
) -> Sequence[CandidateRow]:
    """Return whom it compares."""
    return await candidates.list_candidates(info.context.ctx, root.id)


async def production_candidate(
    root: strawberry.Parent[LeaderboardRow], info: Info
) -> CandidateRow | None:
    """Return who serves production."""
    return await rankings.find_production_candidate(info.context.ctx, root)


async def ranking(root: strawberry.Parent[LeaderboardRow], info: Info) -> RankingRow | None:
    """Return the newest ranking."""
    return await rankings.find_latest_ranking(info.context.ctx, root.id)


async def leaderboard_runs(
    root: strawberry.Parent[LeaderboardRow],
    info: Info,
    *,
    first: First = None,
    after: After = None,
    last: Last = None,
    before: Before = None,
    order_by: OrderBy = ListOrder.NEWEST_FIRST,
) -> Slice:
    """Return a slice of its runs."""
    ctx = info.context.ctx
    request = read_page(first=first, after=after, last=last, before=before, order=ORDERS[order_by])
    page = await runs.list_runs(ctx, root.id, request)
    return slice_of(page, runs.count_runs, ctx, root.id)


async def leaderboard_traces(
    root: strawberry.Parent[LeaderboardRow],
    info: Info,
    *,
    first: First = None,
    after: After = None,
    last: Last = None,
    before: Before = None,
    filter: Annotated[
        TraceFilterInput | None, strawberry.argument(description="Which traces.")
    ] = None,
) -> Slice:
    """Return a slice of its traces."""
    ctx = info.context.ctx
    request = read_page(first=first, after=after, last=last, before=before, order=TRACE_ORDER)
    where = read_trace_filter(filter)
    page = await traces.list_leaderboard_traces(ctx, root.id, request, where)
    return slice_of(page, traces.count_leaderboard_traces, ctx, root.id, where)


def dataset(root: strawberry.Parent[LeaderboardRow]) -> LeaderboardRow:
    """Return its dataset, which is told by the same row."""
    return root


def inference_url(root: strawberry.Parent[LeaderboardRow], info: Info) -> str:
    """Return where production is called."""
    return f"{info.context.base_url}/v1/leaderboard/{root.id}/inference"


@strawberry.type(description="A task, its dataset and evaluation, and the models it compares.")
class Leaderboard:
    """Over rows of `db.models.Leaderboard`."""

    id: strawberry.ID = strawberry.field(description="Its id.")
    name: str = strawberry.field(description="Its name.")
    system_prompt: str = strawberry.field(
        description="The task; {input}, {question} and {query} stand for a row's input."
    )
    dataset_type: DatasetType = strawberry.field(description="Where its rows come from.")
    dataset_url: str | None = strawberry.field(description="Where its rows are read.")
    eval_type: EvalType = strawberry.field(description="How answers are evaluated.")
    evaluation: JSON = strawberry.field(description="The evaluation's settings.")
    model_selection: ModelSelection = strawberry.field(description="Which model serves production.")
    created_at: datetime = strawberry.field(description="When it was created.")
    updated_at: datetime = strawberry.field(description="When it was last changed.")
    inference_url: str = resolved(inference_url, "Where the model in production is called.")
    dataset: Dataset = resolved(dataset, "Its dataset.")
    candidates: list[CandidateModel] = resolved(
        leaderboard_candidates, "Whom it compares, in the order added."
    )
    production_candidate: CandidateModel | None = resolved(
        production_candidate,
        "Who serves production; null before the first ranking.",
    )
    ranking: Ranking | None = resolved(ranking, "The newest ranking; null before the first.")
    runs: Connection[Run] = resolved(leaderboard_runs, "Its runs.")
    traces: Connection[Trace] = resolved(leaderboard_traces, "Its model calls, newest first.")
