"""/api/leaderboards/{leaderboard_id}/models."""

from http import HTTPStatus
from uuid import UUID

from fastapi import APIRouter

from db.models import Candidate
from resolvers import candidates
from resolvers.inputs import NewCandidate
from rest_compat.deps import Ctx, Limit, NewId, Offset, RepeatableRoute
from rest_compat.shapes import CandidateList, CandidateShape

router = APIRouter(
    prefix="/api/leaderboards/{leaderboard_id}/models",
    tags=["models"],
    route_class=RepeatableRoute,
)


@router.get("", operation_id="listLeaderboardModels")
async def list_models(
    ctx: Ctx, leaderboard_id: UUID, limit: Limit = 50, offset: Offset = 0
) -> CandidateList:
    """List a leaderboard's candidate models in the order they were added."""
    rows, total = await candidates.list_candidates_by_offset(
        ctx, leaderboard_id, limit=limit, offset=offset
    )
    shaped = [CandidateShape.model_validate(row) for row in rows]
    return CandidateList(models=shaped, count=len(shaped), total=total, limit=limit, offset=offset)


@router.post(
    "",
    operation_id="addLeaderboardModel",
    status_code=HTTPStatus.CREATED,
    response_model=CandidateShape,
)
async def add_model(ctx: Ctx, leaderboard_id: UUID, body: NewCandidate, new_id: NewId) -> Candidate:
    """Add a candidate model to a leaderboard."""
    return await candidates.add_candidate(ctx, leaderboard_id, body, id=new_id)


@router.delete(
    "/{leaderboard_model_id}",
    operation_id="removeLeaderboardModel",
    status_code=HTTPStatus.NO_CONTENT,
)
async def remove_model(ctx: Ctx, leaderboard_id: UUID, leaderboard_model_id: UUID) -> None:
    """Take a candidate model off a leaderboard; rankings that it is in keep it."""
    await candidates.remove_candidate(ctx, leaderboard_id, leaderboard_model_id)
