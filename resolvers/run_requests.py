"""Run use cases that ask: for a ranking, another look at one, its cost, or its end."""

import secrets
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import select

from db.base import new_id
from db.models import Candidate, Leaderboard, Run, RunCandidate
from db.session import ReadSession, WriteSession
from resolvers.auth import Scope, requires
from resolvers.context import Context
from resolvers.datasets import take_snapshot
from resolvers.errors import ConflictError, InvalidInputError, NotFoundError
from resolvers.inputs import DatasetSize, NewImprovement, NewRun
from resolvers.judge_models import fix_judge
from resolvers.leaderboards import fetch_leaderboard
from resolvers.row_selection import select_rows
from resolvers.run_costs import RunEstimate, estimate_entrants, require_prices
from resolvers.run_lifecycle import PREPARE_RUN, UNFINISHED, finish_run, lock_run, queue_step
from resolvers.snapshot_storage import latest_snapshot, require_snapshot

AUTO_ROWS = 1_000
# Of seeds that are drawn: a GraphQL Int can say them again.
DRAWN_SEEDS = 2**31


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
        ConflictError: The leaderboard has no candidates, or its pushed dataset no snapshot.
        InvalidInputError: A candidate that is named is not on the leaderboard, or a ceiling can't
            hold what it costs.
    """
    return await _ask_for_run(ctx, leaderboard_id, new, id or new_id())


@requires(Scope.LEADERBOARDS_RUN)
async def improve_dataset(
    ctx: Context,
    leaderboard_id: UUID,
    new: NewImprovement,
    *,
    id: UUID | None = None,
) -> Run:
    """Queue a run that proposes changes of the dataset by what its candidates answer.

    It ranks nobody, and changes production in no way. A leaderboard that people score has its
    answers compared with what is expected instead.

    Raises:
        NotFoundError: The workspace has no such leaderboard.
        ConflictError: The leaderboard has no candidates, or its pushed dataset no snapshot.
        InvalidInputError: A candidate that is named is not on the leaderboard, or a ceiling can't
            hold what it costs.
    """
    return await _ask_for_run(ctx, leaderboard_id, new, id or new_id())


async def _ask_for_run(
    ctx: Context, leaderboard_id: UUID, new: NewRun | NewImprovement, run_id: UUID
) -> Run:
    """Queue a ranking, or an improvement; see `start_run` and `improve_dataset`."""
    async with ctx.database.read() as session:
        board = await fetch_leaderboard(session, ctx.workspace_id, leaderboard_id)
        made = await session.get(Run, run_id)
        if made is not None:
            return made
        candidates = await _chosen(session, leaderboard_id, new.leaderboard_model_ids)
        if board.dataset_type == "PUSH":
            await require_snapshot(session, leaderboard_id)
    judge = await fix_judge(ctx, board, candidates)
    async with ctx.database.write() as session:
        board = await fetch_leaderboard(session, ctx.workspace_id, leaderboard_id, for_update=True)
        made = await session.get(Run, run_id)
        if made is not None:
            return made
        candidates = await _chosen(session, leaderboard_id, new.leaderboard_model_ids)
        entrants = [
            _as_it_is_now(run_id, position, candidate)
            for position, candidate in enumerate(candidates)
        ]
        _check_enough(board, candidates)
        if (board.eval_type == "judge") != (judge is not None):
            raise ConflictError(f"leaderboard {leaderboard_id} was changed just now: try again")
        if new.max_cost_usd is not None:
            require_prices(entrants, judge)
        run = _new_run(ctx, run_id, board, new, judge)
        if run.stops_early:
            _check_can_race(board)
        await _queue_run(ctx, session, run, entrants)
        return await session.get_one(Run, run_id, populate_existing=True)


async def _queue_run(
    ctx: Context, session: WriteSession, run: Run, entrants: Sequence[RunCandidate]
) -> None:
    session.add(run)
    await session.flush()
    session.add_all(entrants)
    await queue_step(ctx, session, PREPARE_RUN, run.workspace_id, run.id)
    await session.flush()


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


def _new_run(
    ctx: Context,
    run_id: UUID,
    board: Leaderboard,
    new: NewRun | NewImprovement,
    judge: dict[str, Any] | None,
) -> Run:
    is_ranking = isinstance(new, NewRun)
    evaluation = _evaluation(board, judge)
    if not is_ranking:
        evaluation = {name: value for name, value in evaluation.items() if name != "human"}
    return Run(
        id=run_id,
        workspace_id=ctx.workspace_id,
        leaderboard_id=board.id,
        kind="ranking" if is_ranking else "improve_dataset",
        status="queued",
        system_prompt=board.system_prompt,
        dataset_url=board.dataset_url,
        evaluation=evaluation,
        dataset_size=_fixed_size(new.dataset),
        promotion=board.promotion,
        stops_early=isinstance(new, NewRun) and new.early_stopping,
        auto_apply=isinstance(new, NewImprovement) and new.auto_apply,
        max_cost_usd=new.max_cost_usd,
        token_id=ctx.principal.token_id,
    )


def _check_enough(board: Leaderboard, candidates: Sequence[Candidate]) -> None:
    """Check that there are two to compare where answers are compared.

    Raises:
        ConflictError: There is one.
    """
    pairs = {"judge": ("judge_mode", "pairwise"), "human": ("review_mode", "prefer")}
    field, value = pairs.get(board.eval_type, ("", ""))
    if field and board.evaluation.get(field) == value and len(candidates) == 1:
        raise ConflictError(
            f"evaluation.{field} {value} compares models, and the run has one: add another"
        )


def _check_can_race(board: Leaderboard) -> None:
    """Check that candidates are scored on the same rows, and each by itself.

    Raises:
        InvalidInputError: They are not; the message names what is in the way.
    """
    if board.eval_type == "human":
        raise InvalidInputError("early_stopping: does not go with eval_type human (got true)")
    in_the_way = {"errors": "leave_out", "judge_mode": "pairwise"}
    for field, value in in_the_way.items():
        if board.evaluation.get(field) == value:
            raise InvalidInputError(
                f"early_stopping: does not go with evaluation.{field} {value} (got true)"
            )


def _evaluation(board: Leaderboard, judge: dict[str, Any] | None) -> dict[str, Any]:
    """Return how a run is scored, with who scores it."""
    if judge is not None:
        return {**board.evaluation, "judge": judge}
    return {**board.evaluation, "human": True} if board.eval_type == "human" else board.evaluation


def _fixed_size(size: DatasetSize) -> dict[str, Any]:
    """Return the selection as it is stored, with a seed that makes it repeatable."""
    seed = secrets.randbelow(DRAWN_SEEDS) if size.seed is None else size.seed
    side = {} if size.split == "ALL" else {"split": size.split}
    if size.limit is None:
        return {"algorithm": "ALL", "rows": None, "seed": seed, **side}
    rows = AUTO_ROWS if size.limit.auto else size.limit.rows
    return {"algorithm": size.limit.algorithm, "rows": rows, "seed": seed, **side}


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


@requires(Scope.LEADERBOARDS_RUN)
async def cancel_run(ctx: Context, run_id: UUID) -> Run:
    """End a run: no further call begins within a second, and what is done stays.

    Raises:
        NotFoundError: The workspace has no such run.
        ConflictError: It has ended otherwise.
    """
    async with ctx.database.write() as session:
        run = await lock_run(session, run_id)
        if run is None or run.workspace_id != ctx.workspace_id:
            raise NotFoundError(f"run {run_id} does not exist")
        if run.status in UNFINISHED:
            await finish_run(ctx, session, run, "cancelled")
        elif run.status != "cancelled":
            raise ConflictError(f"run {run_id} is {run.status} already")
    return run


@requires(Scope.LEADERBOARDS_RUN)
async def rescore_run(ctx: Context, run_id: UUID) -> Run:
    """Queue a run that scores what another one was answered, by the evaluation of today.

    It makes no call, and ranks as any other run does.

    Raises:
        NotFoundError: The workspace has no such run.
        ConflictError: The run has not ended.
    """
    return await _repeat(ctx, run_id, kind="rescore")


@requires(Scope.LEADERBOARDS_RUN)
async def replay_run(ctx: Context, run_id: UUID) -> Run:
    """Queue a run that asks another one's questions again, with its inputs as they were then.

    It changes nothing: neither the leaderboard's ranking nor production.

    Raises:
        NotFoundError: The workspace has no such run.
        ConflictError: The run has not ended.
    """
    return await _repeat(ctx, run_id, kind="replay")


async def _repeat(ctx: Context, source_id: UUID, *, kind: str) -> Run:
    async with ctx.database.write() as session:
        source = await session.get(Run, source_id)
        if source is None or source.workspace_id != ctx.workspace_id:
            raise NotFoundError(f"run {source_id} does not exist")
        board = await fetch_leaderboard(
            session, ctx.workspace_id, source.leaderboard_id, for_update=True
        )
        if source.status in UNFINISHED or source.snapshot_id is None:
            raise ConflictError(f"run {source_id} is {source.status}: it has no results to repeat")
        entrants = await session.scalars(
            select(RunCandidate)
            .where(RunCandidate.run_id == source_id)
            .order_by(RunCandidate.position)
        )
        run = Run(
            id=new_id(),
            workspace_id=source.workspace_id,
            leaderboard_id=source.leaderboard_id,
            kind=kind,
            status="queued",
            system_prompt=source.system_prompt,
            dataset_url=source.dataset_url,
            evaluation=_evaluation_today(board, source) if kind == "rescore" else source.evaluation,
            dataset_size=source.dataset_size,
            snapshot_id=source.snapshot_id,
            promotion=board.promotion,
            stops_early=kind == "replay" and source.stops_early,
            max_cost_usd=source.max_cost_usd if kind == "replay" else None,
            source_run_id=source.id,
            token_id=ctx.principal.token_id,
        )
        await _queue_run(ctx, session, run, [_again(run.id, each) for each in entrants])
        return await session.get_one(Run, run.id, populate_existing=True)


def _evaluation_today(board: Leaderboard, source: Run) -> dict[str, Any]:
    """Return how the leaderboard scores today, with the judge that has judged *source*.

    Raises:
        ConflictError: It is judged today, and the source was not.
    """
    if board.eval_type != "judge":
        return _evaluation(board, None)
    judge = source.evaluation.get("judge")
    if judge is None:
        raise ConflictError(
            f"run {source.id} was not judged, and scoring it again asks no judge: run it anew"
        )
    return {**board.evaluation, "judge": judge}


def _again(run_id: UUID, entrant: RunCandidate) -> RunCandidate:
    columns = {
        column.key: getattr(entrant, column.key) for column in RunCandidate.__table__.columns
    }
    return RunCandidate(**{**columns, "run_id": run_id, "asked_row_count": None})


@requires(Scope.LEADERBOARDS_RUN)
async def estimate_run(ctx: Context, leaderboard_id: UUID, new: NewRun) -> RunEstimate:
    """Work out what a run would cost, without making a call of a model.

    It counts the rows of the newest snapshot, and reads the dataset into one when there is none.

    Raises:
        NotFoundError: The workspace has no such leaderboard.
        ConflictError: The leaderboard has no candidates.
        InvalidInputError: A candidate that is named is not on the leaderboard.
        InvalidDatasetError: The dataset can't be used.
        UpstreamError: The hub can't be asked just now.
    """
    async with ctx.database.read() as session:
        board = await fetch_leaderboard(session, ctx.workspace_id, leaderboard_id)
        candidates = await _chosen(session, leaderboard_id, new.leaderboard_model_ids)
        snapshot = await latest_snapshot(session, leaderboard_id)
    is_exact = board.eval_type == "exact"
    if snapshot is None or snapshot.source_url != board.dataset_url:
        snapshot = await take_snapshot(ctx, board, needs_expected=is_exact)
    size = _fixed_size(new.dataset)
    positions = await select_rows(ctx, snapshot, size, needs_expected=is_exact)
    entrants = [
        _as_it_is_now(new_id(), position, candidate)
        for position, candidate in enumerate(candidates)
    ]
    evaluation = _evaluation(board, await fix_judge(ctx, board, candidates))
    return await estimate_entrants(
        ctx, entrants, board.system_prompt, evaluation, snapshot, positions
    )
