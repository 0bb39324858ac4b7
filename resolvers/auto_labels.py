"""Auto-label use cases: asking a model for labels, what that costs, ending it, and reading."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal
from uuid import UUID

from sqlalchemy import BigInteger, Uuid, bindparam, select

from db.base import new_id
from db.models import Candidate, LabelJob, Leaderboard
from db.records import Row
from db.session import ReadSession
from engine.judging import choose_judge
from engine.label_prompts import PROMPT_VERSION
from providers.base import CatalogueModel
from resolvers.auth import Scope, requires
from resolvers.catalogue import require_model
from resolvers.columns import Columns, kept_query, read_columns
from resolvers.context import Context
from resolvers.errors import ConflictError, InvalidInputError, NotFoundError
from resolvers.inputs import NewAutoLabels
from resolvers.label_lifecycle import PREPARE_LABELS, UNFINISHED, finish_job, lock_job
from resolvers.label_rows import choose_rows
from resolvers.leaderboards import fetch_leaderboard, get_leaderboard
from resolvers.loaders.base import own_workspace
from resolvers.loaders.labels import (
    JobById,
    JobCountByLeaderboard,
    JobProgress,
    JobProgressByJob,
    JobsByLeaderboard,
)
from resolvers.paging import AnySelect, Page, PageRequest
from resolvers.where import NOTHING


@dataclass(frozen=True, slots=True)
class LabelEstimate:
    """What a labelling job may cost, in US dollars.

    Attributes:
        row_count: Rows that it would ask for.
        expected_usd: None when the model's prices are not known.
        most_usd: The most that it can cost, each row asked twice; None as above.
        basis: Whether the expectation rests on earlier labels, or on assumptions.
    """

    label_model: str
    row_count: int
    expected_usd: Decimal | None
    most_usd: Decimal | None
    basis: Literal["measured", "assumed"]


@requires(Scope.LEADERBOARDS_WRITE)
async def start_auto_labels(
    ctx: Context, leaderboard_id: UUID, new: NewAutoLabels, *, id: UUID | None = None
) -> LabelJob:
    """Queue a job that has a model label a dataset's rows.

    Args:
        ctx: Who asks.
        leaderboard_id: Whose dataset it is.
        new: Which labels, and of which rows.
        id: Chosen by the caller so that a repeat returns the same job.

    Raises:
        NotFoundError: The workspace has no such leaderboard.
        ConflictError: Another job labels its rows.
        InvalidInputError: There is no such model, or its prices are not known and there is a
            ceiling.
        IntegrationMissingError: The model needs a key, and none is saved.
        UpstreamError: The catalogue can't be read.
    """
    job_id = id or new_id()
    async with ctx.database.read() as session:
        board = await fetch_leaderboard(session, ctx.workspace_id, leaderboard_id)
        made = await session.get(LabelJob, job_id)
        if made is not None:
            return made
    model = await _find_model(ctx, board, new)
    if new.max_cost_usd is not None:
        _require_prices(model)
    async with ctx.database.write() as session:
        board = await fetch_leaderboard(session, ctx.workspace_id, leaderboard_id, for_update=True)
        made = await session.get(LabelJob, job_id)
        if made is not None:
            return made
        await _check_alone(session, leaderboard_id)
        session.add(_new_job(ctx, job_id, board, new, model))
        await session.flush()
        await ctx.services.queue.enqueue(
            session,
            PREPARE_LABELS,
            workspace_id=board.workspace_id,
            subject_id=job_id,
            arguments=[{}],
        )
        return await session.get_one(LabelJob, job_id, populate_existing=True)


async def _find_model(ctx: Context, board: Leaderboard, new: NewAutoLabels) -> CatalogueModel:
    model_id = new.label_model
    if model_id is None:
        preferences = ctx.services.limits.judge_models
        async with ctx.database.read() as session:
            present = await session.scalars(
                select(Candidate.model_id).where(
                    Candidate.leaderboard_id == board.id, Candidate.removed_at.is_(None)
                )
            )
        # Models of its family would be ranked by what one of them thinks is right.
        model_id = choose_judge(preferences, present.all()) or preferences[0]
    return await require_model(ctx, model_id, field="label_model")


def _require_prices(model: CatalogueModel) -> None:
    if None in (model.input_price_per_million_usd, model.output_price_per_million_usd):
        raise InvalidInputError(
            f"max_cost_usd: what {model.id} costs is not known, so a ceiling can't hold it",
            details={"field": "max_cost_usd"},
        )


async def _check_alone(session: ReadSession, leaderboard_id: UUID) -> None:
    """Check that no other job is asking for what this one would be."""
    other = await session.scalar(
        select(LabelJob.id).where(
            LabelJob.leaderboard_id == leaderboard_id, LabelJob.status.in_(UNFINISHED)
        )
    )
    if other is not None:
        raise ConflictError(
            f"job {other} labels rows of leaderboard {leaderboard_id}: wait for its end, or cancel "
            "it",
            details={"job_id": str(other)},
        )


def _new_job(
    ctx: Context, job_id: UUID, board: Leaderboard, new: NewAutoLabels, model: CatalogueModel
) -> LabelJob:
    return LabelJob(
        id=job_id,
        workspace_id=ctx.workspace_id,
        leaderboard_id=board.id,
        status="queued",
        mode=new.mode,
        fields=list(new.fields),
        row_limit=new.limit,
        provider="openrouter",
        label_model=model.id,
        input_price_per_million_usd=model.input_price_per_million_usd,
        output_price_per_million_usd=model.output_price_per_million_usd,
        system_prompt=board.system_prompt,
        prompt_version=PROMPT_VERSION,
        max_cost_usd=new.max_cost_usd,
        token_id=ctx.principal.token_id,
    )


@requires(Scope.LEADERBOARDS_WRITE)
async def estimate_auto_labels(
    ctx: Context, leaderboard_id: UUID, new: NewAutoLabels
) -> LabelEstimate:
    """Work out what labels would cost, without making a call of a model.

    What is pending of the dataset is consolidated, as it is by the job.

    Raises:
        NotFoundError: The workspace has no such leaderboard.
        InvalidInputError: There is no such model.
        InvalidDatasetError: The dataset has no rows, or its file can't be used.
        UpstreamError: The hub or the catalogue can't be asked just now.
    """
    async with ctx.database.read() as session:
        board = await fetch_leaderboard(session, ctx.workspace_id, leaderboard_id)
    model = await _find_model(ctx, board, new)
    chosen, cost = await choose_rows(ctx, _new_job(ctx, new_id(), board, new, model))
    return LabelEstimate(
        model.id, len(chosen.positions), cost.expected_usd, cost.most_usd, cost.basis
    )


@requires(Scope.LEADERBOARDS_WRITE)
async def cancel_job(ctx: Context, job_id: UUID) -> LabelJob:
    """End a job: no further call begins within a second, and what is done stays.

    Raises:
        NotFoundError: The workspace has no such job.
        ConflictError: It has ended otherwise.
    """
    async with ctx.database.write() as session:
        job = await lock_job(session, job_id)
        if job is None or job.workspace_id != ctx.workspace_id:
            raise NotFoundError(f"job {job_id} does not exist")
        if job.status in UNFINISHED:
            await finish_job(session, job, "cancelled")
        elif job.status != "cancelled":
            raise ConflictError(f"job {job_id} is {job.status} already")
    return job


@requires(Scope.LEADERBOARDS_READ)
async def get_job(ctx: Context, job_id: UUID, columns: Columns = None) -> Row:
    """Return one job.

    Raises:
        NotFoundError: The workspace has no such job.
    """
    job = await ctx.loaders.get(JobById).load(job_id, columns)
    if job is None:
        raise NotFoundError(f"job {job_id} does not exist")
    return job


@requires(Scope.LEADERBOARDS_READ)
async def find_jobs(
    ctx: Context, job_ids: Sequence[UUID | None], columns: Columns = None
) -> list[Row | None]:
    """Return jobs by their ids; None where there is none."""
    return await ctx.loaders.get(JobById).load_many(job_ids, columns)


@requires(Scope.LEADERBOARDS_READ)
async def list_jobs(
    ctx: Context, leaderboard_ids: Sequence[UUID], request: PageRequest, columns: Columns = None
) -> list[Page[Row]]:
    """Return a slice of the jobs of each leaderboard's dataset."""
    loader = ctx.loaders.get(JobsByLeaderboard)
    return await loader.load_pages(leaderboard_ids, request, NOTHING, columns)


@requires(Scope.LEADERBOARDS_READ)
async def count_jobs(ctx: Context, leaderboard_id: UUID) -> int:
    """Return how many jobs a leaderboard's dataset has had, batched."""
    return await ctx.loaders.get(JobCountByLeaderboard).load((leaderboard_id, NOTHING))


@requires(Scope.LEADERBOARDS_READ)
async def list_job_progress(ctx: Context, job_ids: Sequence[UUID]) -> list[JobProgress]:
    """Return how far each job has come."""
    return await ctx.loaders.get(JobProgressByJob).load_many(job_ids)


def _write_list() -> AnySelect:
    statement = select(*read_columns(LabelJob, None)).where(
        LabelJob.leaderboard_id == bindparam("leaderboard_id", type_=Uuid()),
        own_workspace(LabelJob.workspace_id),
    )
    page = statement.order_by(LabelJob.id.desc()).limit(bindparam("limit", type_=BigInteger()))
    return page.offset(bindparam("offset", type_=BigInteger()))


@requires(Scope.LEADERBOARDS_READ)
async def list_jobs_by_offset(
    ctx: Context, leaderboard_id: UUID, *, limit: int, offset: int
) -> tuple[Sequence[Row], int]:
    """Return at most *limit* jobs, newest first, behind *offset* others, and their total.

    Raises:
        NotFoundError: The workspace has no such leaderboard.
    """
    await get_leaderboard(ctx, leaderboard_id)
    rows = await ctx.database.fetch(
        kept_query(_write_list),
        workspace_id=ctx.workspace_id,
        leaderboard_id=leaderboard_id,
        limit=limit,
        offset=offset,
    )
    return rows, await count_jobs(ctx, leaderboard_id)
