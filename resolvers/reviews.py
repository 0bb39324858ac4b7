"""Review use cases: what people score, prefer or skip, one answer or pair at a time."""

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Text, cast, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert

from db.base import new_id
from db.models import Leaderboard, Review, Run, RunComparison, RunResult
from db.records import Row
from db.session import ReadSession, WriteSession
from engine.judge_prompts import read_scale
from resolvers.auth import Scope, requires
from resolvers.columns import Columns
from resolvers.context import Context
from resolvers.errors import ConflictError, InvalidInputError, NotFoundError
from resolvers.inputs import NewReview, SkippedReview
from resolvers.loaders.answers import OutputByPlace
from resolvers.loaders.reviews import (
    ReviewCountByRun,
    ReviewCountsByRun,
    ReviewsByRun,
)
from resolvers.paging import Page, PageRequest
from resolvers.review_counts import ReviewCounts, count_reviews, is_comparing, reviewables
from resolvers.run_lifecycle import ADVANCE_RUN, lock_run, notify_run, queue_step
from resolvers.where import NOTHING

# Who has not come back by then has left it to others.
ASSIGNED_FOR = timedelta(minutes=30)
OPEN = ("assigned", "done")
OTHER_WAY_ROUND = {"first": "second", "second": "first", "tie": "tie"}


@requires(Scope.LEADERBOARDS_READ)
async def list_reviews(
    ctx: Context, run_ids: Sequence[UUID], request: PageRequest, columns: Columns = None
) -> list[Page[Row]]:
    """Return a slice of each run's reviews."""
    return await ctx.loaders.get(ReviewsByRun).load_pages(run_ids, request, NOTHING, columns)


@requires(Scope.LEADERBOARDS_READ)
async def count_run_reviews(ctx: Context, run_id: UUID) -> int:
    """Return how many reviews a run has had, batched."""
    return await ctx.loaders.get(ReviewCountByRun).load((run_id, NOTHING))


@requires(Scope.LEADERBOARDS_READ)
async def find_outputs(
    ctx: Context, places: Sequence[tuple[UUID, UUID, int] | None]
) -> list[str | None]:
    """Return the answers at (run id, candidate id, position); None where there is none."""
    return await ctx.loaders.get(OutputByPlace).load_many(places)


@requires(Scope.LEADERBOARDS_READ)
async def list_review_counts(ctx: Context, run_ids: Sequence[UUID]) -> list[ReviewCounts]:
    """Return how far the review of each run has come."""
    return await ctx.loaders.get(ReviewCountsByRun).load_many(run_ids)


@requires(Scope.LEADERBOARDS_RUN)
async def assign_review(ctx: Context, run_id: UUID, *, result_id: UUID | None) -> Review | None:
    """Give the caller something to review, drawn by chance, or the result that is named.

    What the caller has in hand already is given again.

    Returns:
        The review; None when nothing is left for the caller.

    Raises:
        NotFoundError: The workspace has no such run, or the run no such answer.
        ConflictError: The run is not at a point where it can be reviewed, or somebody has
            reviewed the result that is named.
    """
    async with ctx.database.write() as session:
        run = await _reviewable_run(session, ctx, run_id)
        await _take_back_expired(session, run_id)
        in_hand = await _find_in_hand(session, ctx, run_id, result_id)
        if in_hand is not None:
            return in_hand
        unit = await _draw(session, ctx, run, result_id)
        if unit is None:
            return None
        review = Review(
            id=new_id(),
            workspace_id=run.workspace_id,
            run_id=run.id,
            position=unit[0],
            candidate_id=unit[1],
            other_candidate_id=unit[2],
            # By chance, so that neither place stands for one of the two.
            is_swapped=unit[1] != unit[2] and secrets.randbelow(2) == 1,
            is_sampled=result_id is None,
            status="assigned",
            token_id=ctx.principal.token_id,
            user_id=ctx.principal.user_id,
            expires_at=datetime.now(UTC) + ASSIGNED_FOR,
        )
        session.add(review)
        await session.flush()
        await session.refresh(review)
    return review


async def _find_in_hand(
    session: ReadSession, ctx: Context, run_id: UUID, result_id: UUID | None
) -> Review | None:
    """Return what the caller has been given and not answered: of a result, if one is named."""
    statement = select(Review).where(
        Review.run_id == run_id, Review.status == "assigned", _is_own(ctx)
    )
    if result_id is not None:
        statement = statement.join(
            RunResult,
            (RunResult.run_id == Review.run_id)
            & (RunResult.candidate_id == Review.candidate_id)
            & (RunResult.position == Review.position),
        ).where(RunResult.id == result_id)
    return await session.scalar(statement.limit(1))


async def _take_back_expired(session: WriteSession, run_id: UUID) -> None:
    await session.execute(
        update(Review)
        .where(Review.run_id == run_id, Review.status == "assigned", Review.expires_at < func.now())
        .values(status="expired")
    )


def _is_own(ctx: Context) -> Any:
    if ctx.principal.user_id is not None:
        return Review.user_id == ctx.principal.user_id
    return Review.token_id.is_not_distinct_from(ctx.principal.token_id) & Review.user_id.is_(None)


async def _reviewable_run(session: WriteSession, ctx: Context, run_id: UUID) -> Run:
    run = await lock_run(session, run_id)
    if run is None or run.workspace_id != ctx.workspace_id:
        raise NotFoundError(f"run {run_id} does not exist")
    board = await session.get_one(Leaderboard, run.leaderboard_id)
    if board.deleted_at is not None:
        raise NotFoundError(f"run {run_id} is of a leaderboard that was deleted")
    if run.evaluation.get("judge_mode") == "pairwise" and "judge" in run.evaluation:
        raise ConflictError(f"run {run_id} was judged in pairs: a score by itself can't check that")
    is_judged = run.status == "completed" and "judge" in run.evaluation
    if run.status != "awaiting_review" and not is_judged:
        raise ConflictError(
            f"run {run_id} is {run.status}: a run that people score is reviewed once it is "
            "answered, and one that a judge scores once it is completed"
        )
    return run


async def _draw(
    session: ReadSession, ctx: Context, run: Run, result_id: UUID | None
) -> tuple[int, UUID, UUID] | None:
    """Return what the caller reviews next: position, candidate, other candidate."""
    units = reviewables(run).subquery()
    key = tuple_(units.c.position, units.c.candidate_id, units.c.other_candidate_id)
    columns = (Review.position, Review.candidate_id, Review.other_candidate_id)
    taken = select(*columns).where(Review.run_id == run.id, Review.status.in_(OPEN))
    statement = select(units.c.position, units.c.candidate_id, units.c.other_candidate_id)
    if result_id is not None:
        if is_comparing(run):
            raise ConflictError(f"run {run.id} compares answers: none is reviewed by itself")
        named = select(RunResult.id).where(
            RunResult.id == result_id, RunResult.run_id == run.id, RunResult.output.is_not(None)
        )
        if await session.scalar(named) is None:
            raise NotFoundError(f"result {result_id} is no answer of run {run.id}")
        free = statement.where(units.c.id == result_id, key.not_in(taken))
        found = (await session.execute(free)).first()
        if found is None:
            raise ConflictError(f"result {result_id} has been reviewed, or somebody is at it")
        return found[0], found[1], found[2]
    skipped = select(*columns).where(
        Review.run_id == run.id, Review.status == "skipped", _is_own(ctx)
    )
    # In an order that says nothing of the answers, so that those that are reviewed stand for all.
    by_chance = func.md5(cast(units.c.id, Text).concat(cast(units.c.other_candidate_id, Text)))
    drawn = (
        await session.execute(
            statement.where(key.not_in(taken), key.not_in(skipped)).order_by(by_chance).limit(1)
        )
    ).first()
    return None if drawn is None else (drawn[0], drawn[1], drawn[2])


@requires(Scope.LEADERBOARDS_RUN)
async def submit_review(ctx: Context, review_id: UUID, new: NewReview) -> Review:
    """Store what the caller says; a run that has enough reviews is ranked.

    Raises:
        NotFoundError: The caller has no such review in hand.
        ConflictError: It was given to somebody else, or is done.
        InvalidInputError: It says the other thing than is asked, or a score off the scale.
    """
    async with ctx.database.write() as session:
        review, run = await _own_review(session, ctx, review_id)
        _check_kind(run, new)
        if run.status == "awaiting_review" and not (await count_reviews(session, run)).left:
            raise ConflictError(f"run {run.id} has enough reviews, and is being ranked")
        review.status, review.reviewed_at = "done", datetime.now(UTC)
        review.comment, review.preferred = new.comment, new.preferred
        if new.score is not None:
            review.score = _unit_score(run, new.score)
            await _store_score(session, run, review)
        else:
            await _store_preference(session, run, review)
        await session.flush()
        await notify_run(session, run.id)
        if run.status == "awaiting_review" and not (await count_reviews(session, run)).left:
            await queue_step(ctx, session, ADVANCE_RUN, run.workspace_id, run.id)
    return review


@requires(Scope.LEADERBOARDS_RUN)
async def skip_review(ctx: Context, review_id: UUID, new: SkippedReview) -> Review:
    """Leave a review to others; the caller is not given it again.

    Raises:
        NotFoundError: The caller has no such review in hand.
        ConflictError: It was given to somebody else, or is done.
    """
    async with ctx.database.write() as session:
        review, _ = await _own_review(session, ctx, review_id)
        review.status, review.comment = "skipped", new.comment
        review.reviewed_at = datetime.now(UTC)
    return review


async def _own_review(session: WriteSession, ctx: Context, review_id: UUID) -> tuple[Review, Run]:
    found = await session.scalar(
        select(Review).where(
            Review.id == review_id, Review.workspace_id == ctx.workspace_id, _is_own(ctx)
        )
    )
    if found is None:
        raise NotFoundError(f"review {review_id} is not yours")
    run = await _reviewable_run(session, ctx, found.run_id)
    # Behind the run's lock it can't change any more.
    await session.refresh(found)
    if found.status != "assigned":
        raise ConflictError(f"review {review_id} is {found.status}")
    return found, run


def _check_kind(run: Run, new: NewReview) -> None:
    if is_comparing(run) != (new.preferred is not None):
        asked = "preferred: is asked, not score" if is_comparing(run) else "score: is asked"
        raise InvalidInputError(f"{asked} in run {run.id}")


def _unit_score(run: Run, score: float) -> float:
    scale = read_scale(run.evaluation)
    if not scale.low <= score <= scale.high:
        raise InvalidInputError(
            f"score: must be from {scale.low:g} to {scale.high:g} (got {score:g})"
        )
    return scale.to_unit(score)


async def _store_score(session: WriteSession, run: Run, review: Review) -> None:
    changes: dict[str, Any] = {"human_score": review.score}
    if "human" in run.evaluation:
        changes |= {"score": review.score, "is_pending": False}
    await session.execute(
        update(RunResult)
        .where(
            RunResult.run_id == run.id,
            RunResult.candidate_id == review.candidate_id,
            RunResult.position == review.position,
        )
        .values(changes)
    )


async def _store_preference(session: WriteSession, run: Run, review: Review) -> None:
    await session.execute(
        insert(RunComparison)
        .values(
            run_id=run.id,
            position=review.position,
            first_candidate_id=review.candidate_id,
            second_candidate_id=review.other_candidate_id,
            outcome=OTHER_WAY_ROUND[review.preferred or "tie"]
            if review.is_swapped
            else review.preferred,
            judgement={"review_id": str(review.id)},
        )
        .on_conflict_do_nothing()
    )
