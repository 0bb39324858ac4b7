"""Batched questions about runs and their results."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import case, func, select
from sqlalchemy.orm import defer
from typing_extensions import override

from db.models import Candidate, Run, RunCandidate, RunResult
from db.session import ReadSession
from resolvers.loaders.base import Loader, among
from resolvers.loaders.slices import SliceByParent
from resolvers.paging import AnySelect


class RunById(Loader[UUID, Run | None]):
    """A run."""

    @override
    async def fetch(self, session: ReadSession, keys: Sequence[UUID]) -> Mapping[UUID, Run | None]:
        statement = select(Run).where(among(Run.id, keys), Run.workspace_id == self.workspace_id)
        return {row.id: row for row in await session.scalars(statement)}

    @override
    def absent(self, key: UUID) -> Run | None:
        return None


class RunsByLeaderboard(SliceByParent[Run]):
    """A slice of a leaderboard's runs."""

    entity = Run
    parent_column = "leaderboard_id"

    @override
    def children(self, where: Any) -> AnySelect:
        return select(Run).where(Run.workspace_id == self.workspace_id)


class RunCountByLeaderboard(Loader[UUID, int]):
    """How many runs a leaderboard has had."""

    @override
    async def fetch(self, session: ReadSession, keys: Sequence[UUID]) -> Mapping[UUID, int]:
        statement = (
            select(Run.leaderboard_id, func.count())
            .where(among(Run.leaderboard_id, keys), Run.workspace_id == self.workspace_id)
            .group_by(Run.leaderboard_id)
        )
        return {row[0]: row[1] for row in await session.execute(statement)}

    @override
    def absent(self, key: UUID) -> int:
        return 0


class CandidatesByRun(Loader[UUID, Sequence[Candidate]]):
    """The candidates that a run ranks, in its order."""

    @override
    async def fetch(
        self, session: ReadSession, keys: Sequence[UUID]
    ) -> Mapping[UUID, Sequence[Candidate]]:
        statement = (
            select(RunCandidate.run_id, Candidate)
            .join(Candidate, Candidate.id == RunCandidate.candidate_id)
            .where(among(RunCandidate.run_id, keys), Candidate.workspace_id == self.workspace_id)
            .order_by(RunCandidate.position)
        )
        found: dict[UUID, list[Candidate]] = defaultdict(list)
        for run_id, candidate in await session.execute(statement):
            found[run_id].append(candidate)
        return found

    @override
    def absent(self, key: UUID) -> Sequence[Candidate]:
        return []


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
    async def fetch(self, session: ReadSession, keys: Sequence[UUID]) -> Mapping[UUID, RunProgress]:
        size = (
            select(func.count())
            .where(RunCandidate.run_id == Run.id)
            .correlate(Run)
            .scalar_subquery()
        )
        stored = (
            select(
                RunResult.run_id,
                func.count().label("done"),
                func.count(RunResult.error).label("failed"),
                func.coalesce(func.sum(RunResult.cost_usd), 0).label("cost_usd"),
            )
            .where(among(RunResult.run_id, keys))
            .group_by(RunResult.run_id)
            .subquery()
        )
        statement = (
            select(
                Run.id,
                func.coalesce(stored.c.done, 0),
                func.coalesce(stored.c.failed, 0),
                case((Run.row_count.is_not(None), Run.row_count * size)),
                func.coalesce(stored.c.cost_usd, 0),
            )
            .outerjoin(stored, stored.c.run_id == Run.id)
            .where(among(Run.id, keys), Run.workspace_id == self.workspace_id)
        )
        return {
            run_id: RunProgress(done=done, failed=failed, total=total, cost_usd=cost_usd)
            for run_id, done, failed, total, cost_usd in await session.execute(statement)
        }

    @override
    def absent(self, key: UUID) -> RunProgress:
        return RunProgress(done=0, failed=0, total=None, cost_usd=Decimal(0))


@dataclass(frozen=True, slots=True)
class ResultFilter:
    """Which of a run's results are asked for; what is None does not matter."""

    candidate_id: UUID | None = None
    outcome: Literal["ok", "error"] | None = None


def narrow_results(statement: AnySelect, where: ResultFilter) -> AnySelect:
    """Add the conditions of a `ResultFilter`."""
    if where.candidate_id is not None:
        statement = statement.where(RunResult.candidate_id == where.candidate_id)
    if where.outcome is not None:
        is_error = RunResult.error.is_not(None)
        statement = statement.where(is_error if where.outcome == "error" else ~is_error)
    return statement


class ResultsByRun(SliceByParent[RunResult]):
    """A slice of a run's results, without their outputs."""

    entity = RunResult
    parent_column = "run_id"

    @override
    def children(self, where: Any) -> AnySelect:
        statement = select(RunResult).join(Run, Run.id == RunResult.run_id)
        statement = statement.where(Run.workspace_id == self.workspace_id)
        return statement if where is None else narrow_results(statement, where)

    @override
    def options(self, entity: Any) -> Sequence[Any]:
        return (defer(entity.output, raiseload=True),)


class ResultCountByRun(Loader[tuple[UUID, ResultFilter], int]):
    """How many results of a run a filter admits; one statement for each filter."""

    @override
    async def fetch(
        self, session: ReadSession, keys: Sequence[tuple[UUID, ResultFilter]]
    ) -> Mapping[tuple[UUID, ResultFilter], int]:
        runs_of: dict[ResultFilter, list[UUID]] = defaultdict(list)
        for run_id, where in keys:
            runs_of[where].append(run_id)
        found: dict[tuple[UUID, ResultFilter], int] = {}
        for where, run_ids in runs_of.items():
            statement = (
                select(RunResult.run_id, func.count())
                .join(Run, Run.id == RunResult.run_id)
                .where(among(RunResult.run_id, run_ids), Run.workspace_id == self.workspace_id)
                .group_by(RunResult.run_id)
            )
            for run_id, count in await session.execute(narrow_results(statement, where)):
                found[run_id, where] = count
        return found

    @override
    def absent(self, key: tuple[UUID, ResultFilter]) -> int:
        return 0


class ResultOutputById(Loader[UUID, str | None]):
    """What a model answered to one row."""

    @override
    async def fetch(self, session: ReadSession, keys: Sequence[UUID]) -> Mapping[UUID, str | None]:
        statement = (
            select(RunResult.id, RunResult.output)
            .join(Run, Run.id == RunResult.run_id)
            .where(among(RunResult.id, keys), Run.workspace_id == self.workspace_id)
        )
        return {row[0]: row[1] for row in await session.execute(statement)}

    @override
    def absent(self, key: UUID) -> str | None:
        return None
