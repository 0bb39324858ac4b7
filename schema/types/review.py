"""The Review object type, and how far a run's review has come."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import strawberry

from compiled_graphql.selection import selected_names
from db.records import Row
from resolvers import candidates, reviews, runs
from schema.context import Info
from schema.enums import Preference, ReviewStatus
from schema.fields import batched, referred
from schema.types.dataset import DatasetRow, asked_rows
from schema.types.refs import CandidateRef, RunRef

SHOWN = ("candidate_id", "other_candidate_id", "is_swapped")


def shown(root: Row) -> tuple[UUID, UUID | None]:
    """Return whose answers are shown, in their order; of one that is scored there is no second."""
    first, second = root.candidate_id, root.other_candidate_id
    if first == second:
        return first, None
    return (second, first) if root.is_swapped else (first, second)


async def first_outputs(roots: Sequence[Row], info: Info) -> Sequence[str | None]:
    """Return the answers that are scored, or shown first."""
    places = [(root.run_id, shown(root)[0], root.position) for root in roots]
    return await reviews.find_outputs(info.context.ctx, places)


async def second_outputs(roots: Sequence[Row], info: Info) -> Sequence[str | None]:
    """Return the answers that they are compared with."""
    seconds = [shown(root)[1] for root in roots]
    places = [
        None if second is None else (root.run_id, second, root.position)
        for root, second in zip(roots, seconds, strict=True)
    ]
    return await reviews.find_outputs(info.context.ctx, places)


async def reviewed_candidates(roots: Sequence[Row], info: Info) -> Sequence[Row | None]:
    """Return whose answers they were, once that can't sway the reviewer."""
    columns = selected_names(info, "CandidateModel")
    ids = [shown(root)[0] if root.status == "done" else None for root in roots]
    return await candidates.find_candidates(info.context.ctx, ids, columns)


async def other_candidates(roots: Sequence[Row], info: Info) -> Sequence[Row | None]:
    """Return whose answers they were compared with, once that can't sway the reviewer."""
    columns = selected_names(info, "CandidateModel")
    ids = [shown(root)[1] if root.status == "done" else None for root in roots]
    return await candidates.find_candidates(info.context.ctx, ids, columns)


@strawberry.type(description="An answer, or two answers to one row, in the hands of a reviewer.")
class Review:
    """Over rows of `db.models.Review`."""

    id: strawberry.ID = strawberry.field(description="Its id.")
    status: ReviewStatus = strawberry.field(description="Where it stands.")
    position: int = strawberry.field(description="The row's place in the run's snapshot, from 0.")
    score: float | None = strawberry.field(description="What it was given, as 0 to 1.")
    preferred: Preference | None = strawberry.field(description="Which was preferred, of two.")
    comment: str | None = strawberry.field(description="The reviewer's words.")
    is_sampled: bool = strawberry.field(
        description="Drawn by chance, so that it can stand for others."
    )
    created_at: datetime = strawberry.field(description="When it was given to the reviewer.")
    expires_at: datetime = strawberry.field(
        description="When somebody else may have it, unless it is done."
    )
    reviewed_at: datetime | None = strawberry.field(
        name="finishedAt", description="When it was done or skipped."
    )
    row: DatasetRow | None = batched(asked_rows, "What was asked.", needs=["run_id", "position"])
    output: str | None = batched(
        first_outputs,
        "The answer to score, or the first of the two to compare.",
        needs=[*SHOWN, "run_id", "position"],
    )
    other_output: str | None = batched(
        second_outputs,
        "The second of the two to compare; null when one answer is scored.",
        needs=[*SHOWN, "run_id", "position"],
    )
    candidate: CandidateRef | None = batched(
        reviewed_candidates,
        "Whose answer it was; null until it is done, so that no name sways the reviewer.",
        needs=[*SHOWN, "status"],
    )
    other_candidate: CandidateRef | None = batched(
        other_candidates,
        "Whose the second answer was; null until it is done.",
        needs=[*SHOWN, "status"],
    )
    run: RunRef | None = referred(runs.find_runs, "Run", "run_id", "The run.")


@strawberry.type(description="How far a run's review has come, in answers or pairs of them.")
class ReviewProgress:
    """Over `resolvers.review_counts.ReviewCounts`."""

    needed: int = strawberry.field(
        description="Reviews that the ranking takes; 0 when a judge scores."
    )
    done: int = strawberry.field(description="Reviews there are.")
    assigned: int = strawberry.field(description="Reviews that somebody is at.")
    skipped: int = strawberry.field(description="Reviews that their reviewers left to others.")
