"""The Leaderboard object type."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import strawberry
from strawberry.scalars import JSON

from compiled_graphql.selection import selected_names
from db.records import Row
from resolvers import candidates, promotions, rankings, rollouts, runs, shadows, traces
from resolvers.paging import read_page
from schema.context import Info
from schema.enums import DatasetType, EvalType, ModelSelection
from schema.fields import batched, resolved
from schema.inputs.trace import TraceFilterInput, read_trace_filter
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
from schema.types.candidate import CandidateModel
from schema.types.dataset import Dataset
from schema.types.promotion import PromotionEvent
from schema.types.ranking import Ranking
from schema.types.rollout import Rollout, Shadow
from schema.types.run import Run
from schema.types.trace import Trace
from schema.types.trace_stats import TraceStatsPoint, leaderboard_stats


async def candidates_of(roots: Sequence[Row], info: Info) -> Sequence[Sequence[Row]]:
    """Return whom they compare."""
    columns = selected_names(info, "CandidateModel")
    return await candidates.list_candidates(info.context.ctx, [root.id for root in roots], columns)


async def production_candidates(roots: Sequence[Row], info: Info) -> Sequence[Row | None]:
    """Return who serves production."""
    columns = selected_names(info, "CandidateModel")
    return await rankings.find_production_candidates(info.context.ctx, roots, columns)


async def rankings_of(roots: Sequence[Row], info: Info) -> Sequence[Row | None]:
    """Return the newest rankings."""
    columns = selected_names(info, "Ranking")
    return await rankings.find_latest_rankings(
        info.context.ctx, [root.id for root in roots], columns
    )


async def rollouts_of(roots: Sequence[Row], info: Info) -> Sequence[Row | None]:
    """Return the rollouts that run."""
    columns = selected_names(info, "Rollout")
    ids = [root.id for root in roots]
    return await rollouts.find_running_rollouts(info.context.ctx, ids, columns)


async def shadows_of(roots: Sequence[Row], info: Info) -> Sequence[Row | None]:
    """Return the newest shadows."""
    columns = selected_names(info, "Shadow")
    ids = [root.id for root in roots]
    return await shadows.find_latest_shadows(info.context.ctx, ids, columns)


async def traces_of(
    roots: Sequence[Row],
    info: Info,
    *,
    first: First = None,
    after: After = None,
    last: Last = None,
    before: Before = None,
    filter: Annotated[
        TraceFilterInput | None, strawberry.argument(description="Which traces.")
    ] = None,
) -> Sequence[Slice]:
    """Return a slice of each one's traces."""
    ctx = info.context.ctx
    request = read_page(first=first, after=after, last=last, before=before, of="Trace")
    where = read_trace_filter(filter)
    ids = [root.id for root in roots]
    columns = selected_names(info, "Trace")
    pages = await traces.list_leaderboard_traces(ctx, ids, request, where, columns)
    return [
        slice_of(page, traces.count_leaderboard_traces, ctx, key, where)
        for page, key in zip(pages, ids, strict=True)
    ]


def dataset(root: strawberry.Parent[Row]) -> Row:
    """Return its dataset, which is told by the same row."""
    return root


def inference_url(root: strawberry.Parent[Row], info: Info) -> str:
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
    judge_model: str | None = strawberry.field(
        description="OpenRouter's name for the judge; null when nobody judges, or each run picks."
    )
    judge_auto: bool = strawberry.field(description="Whether each run picks its judge.")
    model_selection: ModelSelection = strawberry.field(description="Which model serves production.")
    slug: str | None = strawberry.field(
        description="What clients call it by, as in the model leaderboard/<slug>."
    )
    serving: JSON = strawberry.field(description="How production is served: what was set of it.")
    promotion: JSON = strawberry.field(description="When a new ranking changes production.")
    created_at: datetime = strawberry.field(description="When it was created.")
    updated_at: datetime = strawberry.field(description="When it was last changed.")
    inference_url: str = resolved(inference_url, "Where the model in production is called.")
    dataset: Dataset = resolved(
        dataset, "Its dataset.", needs=["dataset_type", "dataset_url", "push"]
    )
    candidates: list[CandidateModel] = batched(
        candidates_of, "Whom it compares, in the order added."
    )
    production_candidate: CandidateModel | None = batched(
        production_candidates,
        "Who serves production; null before the first ranking.",
        needs=["production_candidate_id"],
    )
    ranking: Ranking | None = batched(rankings_of, "The newest ranking; null before the first.")
    runs: Connection[Run] = batched(slices_by(runs.list_runs, runs.count_runs, "Run"), "Its runs.")
    promotions: Connection[PromotionEvent] = batched(
        slices_by(promotions.list_promotions, promotions.count_promotions, "PromotionEvent"),
        "Every change of its production model.",
    )
    rollout: Rollout | None = batched(rollouts_of, "The rollout that runs; null when none does.")
    rollouts: Connection[Rollout] = batched(
        slices_by(rollouts.list_rollouts, rollouts.count_rollouts, "Rollout"),
        "Its promotions that went out step by step.",
    )
    shadow: Shadow | None = batched(
        shadows_of, "The newest challenger on production's requests; it may have ended."
    )
    traces: Connection[Trace] = batched(traces_of, "Its model calls, newest first.")
    trace_stats: list[TraceStatsPoint] = batched(
        leaderboard_stats,
        "What its model calls come to, by the hour or the day; at most 2,000 points, over all "
        "leaderboards that are asked at once.",
    )
