"""Run use cases: asking for a ranking, and following it."""

import secrets
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Uuid, bindparam, select

from db.base import new_id
from db.models import Candidate, Leaderboard, Run, RunCandidate
from db.records import Row
from db.session import ReadSession, WriteSession
from resolvers.auth import Scope, requires
from resolvers.columns import Columns, kept_query, read_columns
from resolvers.context import Context
from resolvers.errors import ConflictError, InvalidInputError, NotFoundError
from resolvers.inputs import MAX_SEED, DatasetSize, NewRun
from resolvers.leaderboards import fetch_leaderboard, get_leaderboard
from resolvers.loaders.base import own_workspace
from resolvers.loaders.runs import (
    CandidatesByRun,
    ResultCountByRun,
    ResultsByRun,
    RunById,
    RunCountByLeaderboard,
    RunProgress,
    RunProgressByRun,
    RunsByLeaderboard,
)
from resolvers.paging import AnySelect, Page, PageRequest
from resolvers.where import NOTHING, ResultFilter

AUTO_ROWS = 1_000
PREPARE_RUN = "run.prepare"
RUN_SHARD = "run.shard"


@requires(Scope.LEADERBOARDS_READ)
async def get_run(ctx: Context, run_id: UUID, columns: Columns = None) -> Row:
    """Return one run.

    Raises:
        NotFoundError: The workspace has no such run.
    """
    run = await ctx.loaders.get(RunById).load(run_id, columns)
    if run is None:
        raise NotFoundError(f"run {run_id} does not exist")
    return run


@requires(Scope.LEADERBOARDS_READ)
async def find_runs(
    ctx: Context, run_ids: Sequence[UUID | None], columns: Columns = None
) -> list[Row | None]:
    """Return runs by their ids; None where there is none."""
    return await ctx.loaders.get(RunById).load_many(run_ids, columns)


@requires(Scope.LEADERBOARDS_READ)
async def list_runs(
    ctx: Context, leaderboard_ids: Sequence[UUID], request: PageRequest, columns: Columns = None
) -> list[Page[Row]]:
    """Return a slice of each leaderboard's runs."""
    loader = ctx.loaders.get(RunsByLeaderboard)
    return await loader.load_pages(leaderboard_ids, request, NOTHING, columns)


@requires(Scope.LEADERBOARDS_READ)
async def count_runs(ctx: Context, leaderboard_id: UUID) -> int:
    """Return how many runs a leaderboard has had, batched."""
    return await ctx.loaders.get(RunCountByLeaderboard).load((leaderboard_id, NOTHING))


def _write_list() -> AnySelect:
    statement = select(*read_columns(Run, None)).where(
        Run.leaderboard_id == bindparam("leaderboard_id", type_=Uuid()),
        own_workspace(Run.workspace_id),
    )
    page = statement.order_by(Run.id.desc()).limit(bindparam("limit", type_=BigInteger()))
    return page.offset(bindparam("offset", type_=BigInteger()))


@requires(Scope.LEADERBOARDS_READ)
async def list_runs_by_offset(
    ctx: Context, leaderboard_id: UUID, *, limit: int, offset: int
) -> tuple[Sequence[Row], int]:
    """Return at most *limit* runs, newest first, behind *offset* others, and their total.

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
    return rows, await count_runs(ctx, leaderboard_id)


@requires(Scope.LEADERBOARDS_READ)
async def list_progress(ctx: Context, run_ids: Sequence[UUID]) -> list[RunProgress]:
    """Return how far each run has come."""
    return await ctx.loaders.get(RunProgressByRun).load_many(run_ids)


@requires(Scope.LEADERBOARDS_READ)
async def list_run_candidates(
    ctx: Context, run_ids: Sequence[UUID], columns: Columns = None
) -> list[Sequence[Row]]:
    """Return the candidates that each run ranks, in its order."""
    return await ctx.loaders.get(CandidatesByRun).load_many(run_ids, columns)


@requires(Scope.LEADERBOARDS_READ)
async def list_results(
    ctx: Context,
    run_ids: Sequence[UUID],
    request: PageRequest,
    where: ResultFilter,
    columns: Columns = None,
) -> list[Page[Row]]:
    """Return a slice of each run's results."""
    return await ctx.loaders.get(ResultsByRun).load_pages(run_ids, request, where, columns)


@requires(Scope.LEADERBOARDS_READ)
async def count_results(ctx: Context, run_id: UUID, where: ResultFilter) -> int:
    """Return how many of a run's results *where* admits, batched."""
    return await ctx.loaders.get(ResultCountByRun).load((run_id, where))


@requires(Scope.LEADERBOARDS_RUN)
async def start_run(
    ctx: Context, leaderboard_id: UUID, new: NewRun, *, id: UUID | None = None
) -> Run:
    """Queue a run of a leaderboard's candidates; everything it depends on is fixed here.

    Args:
        ctx: Who asks.
        leaderboard_id: What to rank.
        new: On which rows, and which candidates.
        id: Chosen by the caller so that a repeat returns the same run.

    Raises:
        NotFoundError: The workspace has no such leaderboard.
        ConflictError: The leaderboard has no candidates.
        InvalidInputError: A candidate that is named is not on the leaderboard.
    """
    run_id = id or new_id()
    async with ctx.database.write() as session:
        board = await fetch_leaderboard(session, ctx.workspace_id, leaderboard_id, for_update=True)
        made = await session.get(Run, run_id)
        if made is not None:
            return made
        candidates = await _chosen(session, leaderboard_id, new.leaderboard_model_ids)
        run = _new_run(ctx, run_id, board, new.dataset)
        session.add(run)
        await session.flush()
        session.add_all(
            _as_it_is_now(run_id, position, candidate)
            for position, candidate in enumerate(candidates)
        )
        await _enqueue_preparation(ctx, session, run)
        await session.flush()
        await session.refresh(run)
    return run


async def _enqueue_preparation(ctx: Context, session: WriteSession, run: Run) -> None:
    await ctx.services.queue.enqueue(
        session, PREPARE_RUN, workspace_id=run.workspace_id, subject_id=run.id, arguments=[{}]
    )


async def _chosen(
    session: ReadSession, leaderboard_id: UUID, wanted: list[UUID] | None
) -> list[Candidate]:
    """Return the candidates that a run ranks."""
    statement = (
        select(Candidate)
        .where(Candidate.leaderboard_id == leaderboard_id, Candidate.removed_at.is_(None))
        .order_by(Candidate.id)
    )
    present = list(await session.scalars(statement))
    if not present:
        raise ConflictError(
            f"leaderboard {leaderboard_id} has no candidate models: add one before a run"
        )
    if wanted is None:
        return present
    missing = set(wanted) - {candidate.id for candidate in present}
    if missing:
        raise InvalidInputError(
            f"leaderboard_model_ids: {min(missing)} is not a model of this leaderboard"
        )
    return [candidate for candidate in present if candidate.id in wanted]


def _new_run(ctx: Context, run_id: UUID, board: Leaderboard, size: DatasetSize) -> Run:
    return Run(
        id=run_id,
        workspace_id=ctx.workspace_id,
        leaderboard_id=board.id,
        kind="ranking",
        status="queued",
        system_prompt=board.system_prompt,
        dataset_url=board.dataset_url,
        evaluation=board.evaluation,
        dataset_size=_fixed_size(size),
        token_id=ctx.principal.token_id,
    )


def _fixed_size(size: DatasetSize) -> dict[str, Any]:
    """Return the selection as it is stored, with a seed that makes it repeatable."""
    seed = secrets.randbelow(MAX_SEED) if size.seed is None else size.seed
    if size.limit is None:
        return {"algorithm": "ALL", "rows": None, "seed": seed}
    rows = AUTO_ROWS if size.limit.auto else size.limit.rows
    return {"algorithm": size.limit.algorithm, "rows": rows, "seed": seed}


def _as_it_is_now(run_id: UUID, position: int, candidate: Candidate) -> RunCandidate:
    return RunCandidate(
        run_id=run_id,
        candidate_id=candidate.id,
        position=position,
        provider=candidate.provider,
        model_id=candidate.model_id,
        endpoint_url=candidate.endpoint_url,
        auth_method=candidate.auth_method,
        auth_header_name=candidate.auth_header_name,
        params=candidate.params,
        input_price_per_million_usd=candidate.input_price_per_million_usd,
        output_price_per_million_usd=candidate.output_price_per_million_usd,
        timeout_seconds=candidate.timeout_seconds,
    )
