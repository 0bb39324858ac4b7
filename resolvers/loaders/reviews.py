"""Batched questions about reviews, and what they say of a judge."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import aggregate_order_by
from typing_extensions import override

from db.models import Review, Run, RunResult
from db.records import Row
from resolvers.columns import Columns
from resolvers.loaders.base import Loader, among_keys, own_workspace
from resolvers.loaders.slices import CountByParent, SliceByParent
from resolvers.paging import AnySelect
from resolvers.review_counts import ReviewCounts, read_counts, write_counts


class ReviewsByRun(SliceByParent):
    """A slice of a run's reviews."""

    entity = Review
    parent = "run_id"

    @override
    @classmethod
    def children(cls, statement: AnySelect) -> AnySelect:
        return statement.where(own_workspace(Review.workspace_id))


class ReviewCountByRun(CountByParent):
    """How many reviews a run has had."""

    slices = ReviewsByRun


class ReviewCountsByRun(Loader[UUID, ReviewCounts]):
    """How far a run's review has come."""

    @override
    @classmethod
    def write(cls) -> AnySelect:
        return write_counts()

    @override
    async def fetch(self, keys: Sequence[UUID], columns: Columns) -> Mapping[UUID, ReviewCounts]:
        return {row["id"]: read_counts(row) for row in await self.rows(keys=keys)}

    @override
    def absent(self, key: UUID) -> ReviewCounts:
        return ReviewCounts(needed=0, done=0, assigned=0, skipped=0)


class CheckedScoresByRun(Loader[UUID, Sequence[Row]]):
    """What a judge and people gave a run's answers, by candidate; nothing before a review.

    Of the reviews those count that were drawn by chance.
    """

    @override
    @classmethod
    def write(cls) -> AnySelect:
        is_answered = RunResult.error.is_(None)
        is_checked = Review.id.is_not(None) & is_answered

        def gather(column: Any) -> Any:
            return func.array_agg(aggregate_order_by(column, RunResult.position))

        has_reviews = (
            select(Review.id)
            .where(Review.run_id == RunResult.run_id, Review.status == "done", Review.is_sampled)
            .correlate(RunResult)
            .exists()
        )
        return (
            select(
                RunResult.run_id,
                RunResult.candidate_id,
                Run.evaluation,
                # Where a judge failed there is no score of an answer, and none to correct.
                func.count()
                .filter(RunResult.error.is_(None) | RunResult.output.is_(None))
                .label("row_count"),
                gather(RunResult.score).filter(is_answered).label("judged"),
                gather(RunResult.score).filter(is_checked).label("judged_on_reviewed"),
                gather(RunResult.human_score).filter(is_checked).label("human"),
            )
            .join(Run, Run.id == RunResult.run_id)
            .outerjoin(
                Review,
                (Review.run_id == RunResult.run_id)
                & (Review.position == RunResult.position)
                & (Review.candidate_id == RunResult.candidate_id)
                & (Review.status == "done")
                & Review.is_sampled,
            )
            .where(
                among_keys(RunResult.run_id),
                own_workspace(Run.workspace_id),
                Run.evaluation.has_key("judge"),
                ~RunResult.is_pending,
                has_reviews,
            )
            .group_by(RunResult.run_id, RunResult.candidate_id, Run.evaluation)
            .order_by(RunResult.run_id, RunResult.candidate_id)
        )

    @override
    async def fetch(self, keys: Sequence[UUID], columns: Columns) -> Mapping[UUID, Sequence[Row]]:
        found: dict[UUID, list[Row]] = defaultdict(list)
        for row in await self.rows(keys=keys):
            found[row["run_id"]].append(row)
        return found

    @override
    def absent(self, key: UUID) -> Sequence[Row]:
        return []
