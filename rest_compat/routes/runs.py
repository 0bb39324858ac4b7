"""/api/leaderboards/{leaderboard_id}/run and /runs."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body

from db.models import Run
from db.records import Row
from resolvers import rankings, run_requests, runs
from resolvers.context import Context
from resolvers.inputs import NewImprovement, NewRun
from rest_compat.deps import Ctx, Limit, NewId, Offset, RepeatableRoute
from rest_compat.shapes import (
    RankingEntryShape,
    RankingShape,
    RunList,
    RunShape,
)

router = APIRouter(
    prefix="/api/leaderboards/{leaderboard_id}", tags=["runs"], route_class=RepeatableRoute
)


EVERYTHING = NewRun()
EVERY_ROW = NewImprovement()
RUN_COLUMNS = RunShape.model_fields.keys() - {"progress", "cost_usd", "ranking", "early_stopping"}
RANKING_COLUMNS = RankingShape.model_fields.keys() - {"entries"}


async def shape_runs(ctx: Context, found: Sequence[Row | Run]) -> list[RunShape]:
    """Gather what the published runs show, in a few statements for all of them."""
    ids = [run.id for run in found]
    progress = await runs.list_progress(ctx, ids)
    ranked = await rankings.find_rankings_of_runs(ctx, ids)
    entries = await rankings.list_entries(
        ctx, [None if each is None else each.id for each in ranked]
    )
    return [
        RunShape.model_validate(
            {
                **{name: getattr(run, name) for name in RUN_COLUMNS},
                "stops_early": run.stops_early,
                "progress": done,
                "cost_usd": done.cost_usd,
                "ranking": None if ranking is None else _shape_ranking(ranking, places),
            }
        )
        for run, done, ranking, places in zip(found, progress, ranked, entries, strict=True)
    ]


def _shape_ranking(ranking: Row, places: Sequence[Row]) -> RankingShape:
    return RankingShape(
        **{name: getattr(ranking, name) for name in RANKING_COLUMNS},
        entries=[RankingEntryShape.model_validate(place) for place in places],
    )


@router.get("/runs", operation_id="listRuns")
async def list_runs(
    ctx: Ctx, leaderboard_id: UUID, limit: Limit = 50, offset: Offset = 0
) -> RunList:
    """List a leaderboard's runs, newest first, with what each found."""
    rows, total = await runs.list_runs_by_offset(ctx, leaderboard_id, limit=limit, offset=offset)
    shaped = await shape_runs(ctx, rows)
    return RunList(runs=shaped, count=len(shaped), total=total, limit=limit, offset=offset)


@router.post("/run", operation_id="startRun", status_code=HTTPStatus.ACCEPTED)
async def start_run(
    ctx: Ctx, leaderboard_id: UUID, new_id: NewId, body: Annotated[NewRun, Body()] = EVERYTHING
) -> RunShape:
    """Queue a run of the leaderboard's candidates; an empty body runs them all on every row."""
    (shaped,) = await shape_runs(
        ctx, [await run_requests.start_run(ctx, leaderboard_id, body, id=new_id)]
    )
    return shaped


@router.post("/improve-dataset", operation_id="improveDataset", status_code=HTTPStatus.ACCEPTED)
async def improve_dataset(
    ctx: Ctx,
    leaderboard_id: UUID,
    new_id: NewId,
    body: Annotated[NewImprovement, Body()] = EVERY_ROW,
) -> RunShape:
    """Queue a run that proposes changes of the dataset by what its candidates answer."""
    (shaped,) = await shape_runs(
        ctx, [await run_requests.improve_dataset(ctx, leaderboard_id, body, id=new_id)]
    )
    return shaped
