"""/api/leaderboards."""

from http import HTTPStatus
from uuid import UUID

from fastapi import APIRouter

from db.models import Leaderboard
from db.records import Row
from resolvers import leaderboards
from resolvers.inputs import LeaderboardChanges, NewLeaderboard
from rest_compat.deps import Ctx, Limit, NewId, Offset, RepeatableRoute
from rest_compat.shapes import LeaderboardList, LeaderboardShape

router = APIRouter(prefix="/api/leaderboards", tags=["leaderboards"], route_class=RepeatableRoute)


@router.get("", operation_id="listLeaderboards")
async def list_leaderboards(ctx: Ctx, limit: Limit = 50, offset: Offset = 0) -> LeaderboardList:
    """List the workspace's leaderboards, newest first."""
    rows, total = await leaderboards.list_leaderboards_by_offset(ctx, limit=limit, offset=offset)
    shaped = [LeaderboardShape.model_validate(row) for row in rows]
    return LeaderboardList(
        leaderboards=shaped, count=len(shaped), total=total, limit=limit, offset=offset
    )


@router.post(
    "",
    operation_id="createLeaderboard",
    status_code=HTTPStatus.CREATED,
    response_model=LeaderboardShape,
)
async def create_leaderboard(ctx: Ctx, body: NewLeaderboard, new_id: NewId) -> Leaderboard:
    """Create a leaderboard, once its dataset's first rows have been read."""
    return await leaderboards.create_leaderboard(ctx, body, id=new_id)


@router.get("/{leaderboard_id}", operation_id="getLeaderboard", response_model=LeaderboardShape)
async def get_leaderboard(ctx: Ctx, leaderboard_id: UUID) -> Row:
    """Return one leaderboard."""
    return await leaderboards.get_leaderboard(ctx, leaderboard_id)


@router.patch(
    "/{leaderboard_id}", operation_id="updateLeaderboard", response_model=LeaderboardShape
)
async def update_leaderboard(
    ctx: Ctx, leaderboard_id: UUID, body: LeaderboardChanges
) -> Leaderboard:
    """Change a leaderboard; runs under way keep what they started with."""
    return await leaderboards.update_leaderboard(ctx, leaderboard_id, body)


@router.delete(
    "/{leaderboard_id}", operation_id="deleteLeaderboard", status_code=HTTPStatus.NO_CONTENT
)
async def delete_leaderboard(ctx: Ctx, leaderboard_id: UUID) -> None:
    """Delete a leaderboard; its runs stop."""
    await leaderboards.delete_leaderboard(ctx, leaderboard_id)
