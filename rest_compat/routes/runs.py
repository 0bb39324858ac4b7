"""/api/leaderboards/{leaderboard_id}/run and /runs."""

import asyncio
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body

from db.models import Run
from resolvers import rankings, runs
from resolvers.context import Context
from resolvers.inputs import NewRun
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
RUN_COLUMNS = RunShape.model_fields.keys() - {"progress", "cost_usd", "ranking"}


async def shape_run(ctx: Context, run: Run) -> RunShape:
    """Gather what the published run shows, batched with the other runs of a list."""
    progress, ranking = await asyncio.gather(
        runs.get_progress(ctx, run), rankings.find_ranking_of_run(ctx, run.id)
    )
    shaped = None
    if ranking is not None:
        entries = await rankings.list_entries(ctx, ranking.id)
        shaped = RankingShape(
            completed_at=ranking.completed_at,
            row_count=ranking.row_count,
            entries=[RankingEntryShape.model_validate(entry) for entry in entries],
        )
    return RunShape.model_validate(
        {
            **{name: getattr(run, name) for name in RUN_COLUMNS},
            "progress": progress,
            "cost_usd": progress.cost_usd,
            "ranking": shaped,
        }
    )


@router.get("/runs", operation_id="listRuns")
async def list_runs(
    ctx: Ctx, leaderboard_id: UUID, limit: Limit = 50, offset: Offset = 0
) -> RunList:
    """List a leaderboard's runs, newest first, with what each found."""
    rows, total = await runs.list_runs_by_offset(ctx, leaderboard_id, limit=limit, offset=offset)
    shaped = list(await asyncio.gather(*(shape_run(ctx, run) for run in rows)))
    return RunList(runs=shaped, count=len(shaped), total=total, limit=limit, offset=offset)


@router.post("/run", operation_id="startRun", status_code=HTTPStatus.ACCEPTED)
async def start_run(
    ctx: Ctx, leaderboard_id: UUID, new_id: NewId, body: Annotated[NewRun, Body()] = EVERYTHING
) -> RunShape:
    """Queue a run of the leaderboard's candidates; an empty body runs them all on every row."""
    return await shape_run(ctx, await runs.start_run(ctx, leaderboard_id, body, id=new_id))
