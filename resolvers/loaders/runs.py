"""Batched questions about runs and their results."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, case, func, literal, or_, select
from typing_extensions import override

from db.models import Candidate, DisputedResult, Run, RunCandidate, RunResult
from db.records import Row
from resolvers.columns import Columns, read_columns
from resolvers.loaders.base import Loader, among_keys, own_workspace
from resolvers.loaders.rows import RowByKey
from resolvers.loaders.slices import CountByParent, SliceByParent
from resolvers.paging import AnySelect


class RunById(RowByKey):
    """A run."""

    entity = Run


class RunsByLeaderboard(SliceByParent):
    """A slice of a leaderboard's runs."""

    entity = Run
    parent = "leaderboard_id"

    @override
    @classmethod
    def children(cls, statement: AnySelect) -> AnySelect:
        return statement.where(own_workspace(Run.workspace_id))


class RunCountByLeaderboard(CountByParent):
    """How many runs a leaderboard has had."""

    slices = RunsByLeaderboard


class CandidatesByRun(Loader[UUID, Sequence[Row]]):
    """The candidates that a run ranks, in its order."""

    @override
    @classmethod
    def write(cls, columns: Columns) -> AnySelect:
        return (
            select(RunCandidate.run_id.label("of_run"), *read_columns(Candidate, columns))
            .join(Candidate, Candidate.id == RunCandidate.candidate_id)
            .where(among_keys(RunCandidate.run_id), own_workspace(Candidate.workspace_id))
            .order_by(RunCandidate.position)
        )

    @override
    async def fetch(self, keys: Sequence[UUID], columns: Columns) -> Mapping[UUID, Sequence[Row]]:
        found: dict[UUID, list[Row]] = defaultdict(list)
        for row in await self.rows(columns, keys=keys):
            found[row["of_run"]].append(row)
        return found

    @override
    def absent(self, key: UUID) -> Sequence[Row]:
        return []


def counted_score(evaluation: Mapping[str, Any], result: Any = RunResult) -> ColumnElement[Any]:
    """Return a result's score as far as it counts: NULL where `is_left_out`."""
    left_out = is_left_out(
        result,
        leaves_errors_out=literal(evaluation.get("errors") == "leave_out"),
        is_judged=literal(bool({"judge", "human"} & evaluation.keys())),
    )
    return case((left_out, None), else_=result.score)


def is_left_out(
    result: Any, *, leaves_errors_out: ColumnElement[bool], is_judged: ColumnElement[bool]
) -> ColumnElement[bool]:
    """Return the condition that a result's score does not count.

    That is while nobody has scored it; where a judge failed, which is no fault of the answer; and
    where a call failed, if the run leaves errors out.
    """
    judge_failed = is_judged & result.output.is_not(None)
    excused = result.error.is_not(None) & (leaves_errors_out | judge_failed)
    return or_(result.is_pending, excused)


def known_cost_usd(result: type[RunResult]) -> ColumnElement[Decimal]:
    """Return what is known of a result's cost, its judge's included."""
    return func.coalesce(result.cost_usd, 0) + func.coalesce(result.judge_cost_usd, 0)


@dataclass(frozen=True, slots=True)
class RunProgress:
    """How far a run has come, in calls: one for each row and candidate.

    Attributes:
        done: Calls stored, the failed ones among them.
        failed: Calls stored that ended in an error.
        total: All calls; None until the dataset has been read.
        cost_usd: The known cost so far, in US dollars.
    """

    done: int
    failed: int
    total: int | None
    cost_usd: Decimal


class RunProgressByRun(Loader[UUID, RunProgress]):
    """How far a run has come: a count of what is stored, so that it can't drift."""

    @override
    @classmethod
    def write(cls) -> AnySelect:
        # Early stopping may end a candidate before the last row.
        size = (
            select(func.sum(func.coalesce(RunCandidate.asked_row_count, Run.row_count)))
            .where(RunCandidate.run_id == Run.id)
            .correlate(Run)
            .scalar_subquery()
        )
        stored = (
            select(
                RunResult.run_id,
                func.count().label("stored"),
                func.count().filter(RunResult.is_pending).label("pending"),
                func.count(RunResult.error).label("failed"),
                func.coalesce(func.sum(known_cost_usd(RunResult)), 0).label("cost_usd"),
            )
            .where(among_keys(RunResult.run_id))
            .group_by(RunResult.run_id)
            .subquery()
        )
        # What a judge has yet to score is not done; what people have yet to score is.
        waits_for_people = Run.evaluation.has_key("human") | (Run.status == "completed")
        done = func.coalesce(
            case((waits_for_people, stored.c.stored), else_=stored.c.stored - stored.c.pending), 0
        )
        return (
            select(
                Run.id,
                done.label("done"),
                func.coalesce(stored.c.failed, 0).label("failed"),
                case(
                    # A rescored run has what its source was answered, which may be less.
                    (Run.status == "completed", done),
                    else_=size,
                ).label("total"),
                # It has paid for none of the answers that it scores again.
                case((Run.kind == "rescore", 0), else_=func.coalesce(stored.c.cost_usd, 0)).label(
                    "cost_usd"
                ),
            )
            .outerjoin(stored, stored.c.run_id == Run.id)
            .where(among_keys(Run.id), own_workspace(Run.workspace_id))
        )

    @override
    async def fetch(self, keys: Sequence[UUID], columns: Columns) -> Mapping[UUID, RunProgress]:
        return {
            row["id"]: RunProgress(row["done"], row["failed"], row["total"], row["cost_usd"])
            for row in await self.rows(keys=keys)
        }

    @override
    def absent(self, key: UUID) -> RunProgress:
        return RunProgress(done=0, failed=0, total=None, cost_usd=Decimal(0))


class ResultsByRun(SliceByParent):
    """A slice of a run's results."""

    entity = RunResult
    parent = "run_id"

    @override
    @classmethod
    def children(cls, statement: AnySelect) -> AnySelect:
        owned = statement.join(Run, Run.id == RunResult.run_id)
        return owned.where(own_workspace(Run.workspace_id))


class DisputedResultsByRun(SliceByParent):
    """A slice of a run's results, which knows how far apart the scores of a row are."""

    entity = DisputedResult
    parent = "run_id"

    @override
    @classmethod
    def children(cls, statement: AnySelect) -> AnySelect:
        owned = statement.join(Run, Run.id == DisputedResult.__table__.c.run_id)
        return owned.where(own_workspace(Run.workspace_id))


class ResultCountByRun(CountByParent):
    """How many results of a run a filter admits."""

    slices = ResultsByRun
