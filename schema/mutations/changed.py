"""The source of most payloads."""

from dataclasses import dataclass
from uuid import UUID

from db.models import (
    Candidate,
    Integration,
    Leaderboard,
    PromotionEvent,
    Review,
    Rollout,
    Run,
    Shadow,
    Workspace,
)
from db.records import Row


@dataclass(frozen=True, slots=True)
class Changed:
    """The source of a payload: what a mutation changed, under each name that payloads use."""

    leaderboard: Row | Leaderboard | None = None
    candidate: Candidate | None = None
    run: Run | None = None
    integration: Integration | None = None
    event: PromotionEvent | None = None
    review: Review | None = None
    rollout: Rollout | None = None
    shadow: Shadow | None = None
    workspace: Workspace | None = None
    deleted_id: UUID | None = None
