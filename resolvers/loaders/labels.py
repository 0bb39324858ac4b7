"""Batched questions about labelling jobs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from sqlalchemy import func, select
from typing_extensions import override

from db.models import LabelJob, LabelResult
from resolvers.columns import Columns
from resolvers.loaders.base import Loader, among_keys, own_workspace
from resolvers.loaders.rows import RowByKey
from resolvers.loaders.slices import CountByParent, SliceByParent
from resolvers.paging import AnySelect


class JobById(RowByKey):
    """A labelling job."""

    entity = LabelJob


class JobsByLeaderboard(SliceByParent):
    """A slice of the jobs of a leaderboard's dataset."""

    entity = LabelJob
    parent = "leaderboard_id"

    @override
    @classmethod
    def children(cls, statement: AnySelect) -> AnySelect:
        return statement.where(own_workspace(LabelJob.workspace_id))


class JobCountByLeaderboard(CountByParent):
    """How many jobs a leaderboard's dataset has had."""

    slices = JobsByLeaderboard


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a job has come, in rows.

    Attributes:
        done: Rows that are dealt with, the failed ones among them.
        failed: Rows whose call failed, or of which no reply can be used.
        total: All rows that are asked for; None until the snapshot is made.
        cost_usd: The known cost so far, in US dollars.
    """

    done: int
    failed: int
    total: int | None
    cost_usd: Decimal


class JobProgressByJob(Loader[UUID, JobProgress]):
    """How far a job has come: a count of what is stored, so that it can't drift."""

    @override
    @classmethod
    def write(cls) -> AnySelect:
        return (
            select(
                LabelJob.id,
                func.count(LabelResult.position).filter(~LabelResult.is_pending).label("done"),
                func.count(LabelResult.error).filter(~LabelResult.is_pending).label("failed"),
                LabelJob.row_count.label("total"),
                func.coalesce(func.sum(LabelResult.cost_usd), 0).label("cost_usd"),
            )
            .outerjoin(LabelResult, LabelResult.job_id == LabelJob.id)
            .where(among_keys(LabelJob.id), own_workspace(LabelJob.workspace_id))
            .group_by(LabelJob.id)
        )

    @override
    async def fetch(self, keys: Sequence[UUID], columns: Columns) -> Mapping[UUID, JobProgress]:
        return {
            row["id"]: JobProgress(row["done"], row["failed"], row["total"], row["cost_usd"])
            for row in await self.rows(keys=keys)
        }

    @override
    def absent(self, key: UUID) -> JobProgress:
        return JobProgress(done=0, failed=0, total=None, cost_usd=Decimal(0))
