"""Leaderboard use cases."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, func, select

from db.base import new_id
from db.models import Candidate, Leaderboard, Run
from db.records import Row
from db.session import ReadSession
from resolvers.auth import Scope, requires
from resolvers.catalogue import require_model
from resolvers.columns import Columns, kept_query, read_columns
from resolvers.context import Context
from resolvers.datasets import check_dataset
from resolvers.errors import ConflictError, InvalidInputError, NotFoundError
from resolvers.inputs import (
    LeaderboardChanges,
    NewLeaderboard,
    Promotion,
    PushFields,
    RuleError,
    check_dataset_type,
    check_judge,
    check_score_guardrail,
    push_settings,
)
from resolvers.loaders.base import own_workspace
from resolvers.loaders.leaderboards import LeaderboardById
from resolvers.paging import (
    AnySelect,
    Page,
    PageRequest,
    SliceShape,
    cut_page,
    slice_shape,
    slice_statement,
    slice_values,
)
from resolvers.production import select_production
from resolvers.run_lifecycle import UNFINISHED, finish_run, lock_run
from resolvers.slugs import name_leaderboard

# Settings that a change replaces as a whole.
STORED_WHOLE = {"evaluation", "promotion", "serving"}


def _visible(workspace_id: UUID) -> Select[Leaderboard]:
    return select(Leaderboard).where(
        Leaderboard.workspace_id == workspace_id, Leaderboard.deleted_at.is_(None)
    )


async def fetch_leaderboard(
    session: ReadSession, workspace_id: UUID, leaderboard_id: UUID, *, for_update: bool = False
) -> Leaderboard:
    """Return one leaderboard within a session that is already open.

    Raises:
        NotFoundError: The workspace has no such leaderboard.
    """
    statement = _visible(workspace_id).where(Leaderboard.id == leaderboard_id)
    row = await session.scalar(
        statement.with_for_update(key_share=True) if for_update else statement
    )
    if row is None:
        raise NotFoundError(f"leaderboard {leaderboard_id} does not exist")
    return row


def _write_list(columns: Columns, shape: SliceShape) -> AnySelect:
    own = read_columns(Leaderboard, columns, always=("id", shape.order.column))
    statement = select(*own).where(
        own_workspace(Leaderboard.workspace_id), Leaderboard.deleted_at.is_(None)
    )
    return slice_statement(statement, Leaderboard, shape)


@requires(Scope.LEADERBOARDS_READ)
async def list_leaderboards(
    ctx: Context, request: PageRequest, columns: Columns = None
) -> Page[Row]:
    """Return a slice of the workspace's leaderboards."""
    query = kept_query(_write_list, columns, slice_shape(request))
    values = slice_values(request)
    rows = await ctx.database.fetch(query, workspace_id=ctx.workspace_id, **values)
    return cut_page(rows, request)


@requires(Scope.LEADERBOARDS_READ)
async def list_leaderboards_by_offset(
    ctx: Context, *, limit: int, offset: int
) -> tuple[Sequence[Leaderboard], int]:
    """Return at most *limit* leaderboards behind *offset* others, newest first, and their total."""
    async with ctx.database.read() as session:
        statement = _visible(ctx.workspace_id).order_by(Leaderboard.id.desc())
        rows = (await session.scalars(statement.limit(limit).offset(offset))).all()
        total = await session.scalar(
            select(func.count()).select_from(_visible(ctx.workspace_id).subquery())
        )
    return rows, total or 0


@requires(Scope.LEADERBOARDS_READ)
async def count_leaderboards(ctx: Context) -> int:
    """Return how many leaderboards the workspace has."""
    async with ctx.database.read() as session:
        total = await session.scalar(
            select(func.count()).select_from(_visible(ctx.workspace_id).subquery())
        )
    return total or 0


@requires(Scope.LEADERBOARDS_READ)
async def find_leaderboards(
    ctx: Context, leaderboard_ids: Sequence[UUID], columns: Columns = None
) -> list[Row | None]:
    """Return leaderboards by their ids; None where there is none."""
    return await ctx.loaders.get(LeaderboardById).load_many(leaderboard_ids, columns)


@requires(Scope.LEADERBOARDS_READ)
async def get_leaderboard(ctx: Context, leaderboard_id: UUID, columns: Columns = None) -> Row:
    """Return one leaderboard.

    Raises:
        NotFoundError: The workspace has no such leaderboard.
    """
    row = await ctx.loaders.get(LeaderboardById).load(leaderboard_id, columns)
    if row is None:
        raise NotFoundError(f"leaderboard {leaderboard_id} does not exist")
    return row


@requires(Scope.LEADERBOARDS_WRITE)
async def get_changed_leaderboard(ctx: Context, leaderboard_id: UUID, columns: Columns) -> Row:
    """Return a leaderboard to who has just changed something of it, and may perhaps not read.

    Raises:
        NotFoundError: The workspace has no such leaderboard.
    """
    ctx.forget()
    row = await ctx.loaders.get(LeaderboardById).load(leaderboard_id, columns)
    if row is None:
        raise NotFoundError(f"leaderboard {leaderboard_id} does not exist")
    return row


@requires(Scope.LEADERBOARDS_WRITE)
async def create_leaderboard(
    ctx: Context, new: NewLeaderboard, *, id: UUID | None = None
) -> Leaderboard:
    """Create a leaderboard.

    Args:
        ctx: Who asks.
        new: What it is to be.
        id: Chosen by the caller so that a repeat returns the same leaderboard.

    Raises:
        InvalidDatasetError: The dataset's first rows can't be used.
        InvalidInputError: OpenRouter has no such judge.
        IntegrationMissingError: The judge needs a key, and none is saved.
        UpstreamError: The hub or the catalogue can't be read just now.
    """
    if new.dataset_url is not None:
        await check_dataset(ctx, new.dataset_url, needs_expected=new.eval_type == "exact")
    if new.judge_model is not None:
        await require_model(ctx, new.judge_model, field="judge_model")
    row = Leaderboard(
        id=id or new_id(),
        workspace_id=ctx.workspace_id,
        name=new.name,
        system_prompt=new.system_prompt,
        dataset_type=new.dataset_type,
        dataset_url=new.dataset_url,
        push=push_settings(new.pushed()) if new.dataset_type == "PUSH" else None,
        eval_type=new.eval_type,
        evaluation=new.evaluation.stored(),
        judge_provider=new.judge_provider or ("openrouter" if new.eval_type == "judge" else None),
        judge_model=new.judge_model,
        judge_auto=new.judge_auto,
        model_selection="ranking_winner",
        promotion=new.promotion.stored(),
        serving=new.serving.stored(),
    )
    async with ctx.database.write() as session:
        made = await session.get(Leaderboard, row.id)
        if made is not None:
            return made
        await name_leaderboard(session, row, new.slug)
        session.add(row)
        await session.flush()
        await session.refresh(row)
    return row


@requires(Scope.LEADERBOARDS_WRITE)
async def update_leaderboard(
    ctx: Context, leaderboard_id: UUID, changes: LeaderboardChanges
) -> Leaderboard:
    """Change what *changes* names; runs under way keep what they started with.

    Raises:
        NotFoundError: The workspace has no such leaderboard.
        InvalidDatasetError: The new dataset URL is not a dataset file.
        InvalidInputError: The selected candidate is not on this leaderboard, or the dataset is
            given settings of another kind of dataset.
        ConflictError: Manual selection is asked for with no candidate selected, or another
            leaderboard has the slug.
    """
    if changes.judge_model is not None:
        await require_model(ctx, changes.judge_model, field="judge_model")
    if changes.dataset_url is not None:
        async with ctx.database.read() as session:
            board = await fetch_leaderboard(session, ctx.workspace_id, leaderboard_id)
        eval_type = changes.eval_type or board.eval_type
        await check_dataset(ctx, changes.dataset_url, needs_expected=eval_type == "exact")
    given = changes.model_dump(mode="json", include=set(changes.model_fields_set))
    async with ctx.database.write() as session:
        row = await fetch_leaderboard(session, ctx.workspace_id, leaderboard_id, for_update=True)
        chosen_before = (row.model_selection, row.selected_candidate_id)
        if "selected_leaderboard_model_id" in given:
            del given["selected_leaderboard_model_id"]
            row.selected_candidate_id = await _selectable(
                session, leaderboard_id, changes.selected_leaderboard_model_id
            )
        for name in STORED_WHOLE & given.keys():
            given[name] = getattr(changes, name).stored()
        if changes.slug is not None:
            await name_leaderboard(session, row, given.pop("slug"))
        pushed = {name: given.pop(name) for name in PushFields.model_fields.keys() & given.keys()}
        for name, value in given.items():
            setattr(row, name, value)
        if given.get("dataset_type") == "PUSH" and "dataset_url" not in given:
            row.dataset_url = None
        _change_dataset(row, pushed)
        _check_judge(row)
        if row.model_selection == "manual" and row.selected_candidate_id is None:
            raise ConflictError(
                "model_selection manual needs selected_leaderboard_model_id, which is not set"
            )
        row.updated_at = datetime.now(UTC)
        chosen = (row.model_selection, row.selected_candidate_id)
        if changes.selected_leaderboard_model_id is not None or chosen != chosen_before:
            await select_production(session, ctx, row)
    return row


def _change_dataset(board: Leaderboard, pushed: Mapping[str, Any]) -> None:
    """Have *board*'s dataset be of one kind, with the settings of that kind."""
    kept = board.push or {} if board.dataset_type == "PUSH" else {}
    settings = {name: value for name, value in {**kept, **pushed}.items() if value is not None}
    try:
        check_dataset_type(board.dataset_type, board.dataset_url, settings)
    except RuleError as error:
        raise error.told() from error
    board.push = push_settings(settings) if board.dataset_type == "PUSH" else None


def _check_judge(board: Leaderboard) -> None:
    try:
        check_judge(board.eval_type, board.judge_model, is_auto=board.judge_auto)
        promotion = Promotion.model_validate(board.promotion)
        check_score_guardrail(board.eval_type, promotion.rollout)
    except RuleError as error:
        raise error.told() from error
    if board.eval_type == "judge" and board.judge_provider is None:
        board.judge_provider = "openrouter"


async def _selectable(
    session: ReadSession, leaderboard_id: UUID, candidate_id: UUID | None
) -> UUID | None:
    """Return *candidate_id* if it may be pinned on the leaderboard."""
    if candidate_id is None:
        return None
    statement = select(Candidate.id).where(
        Candidate.id == candidate_id,
        Candidate.leaderboard_id == leaderboard_id,
        Candidate.removed_at.is_(None),
    )
    if await session.scalar(statement) is None:
        raise InvalidInputError(
            f"selected_leaderboard_model_id: {candidate_id} is not a model of this leaderboard"
        )
    return candidate_id


@requires(Scope.LEADERBOARDS_WRITE)
async def delete_leaderboard(ctx: Context, leaderboard_id: UUID) -> None:
    """Delete a leaderboard: nobody sees it again, and its runs stop.

    Raises:
        NotFoundError: The workspace has no such leaderboard.
    """
    async with ctx.database.write() as session:
        row = await fetch_leaderboard(session, ctx.workspace_id, leaderboard_id, for_update=True)
        row.deleted_at = datetime.now(UTC)
        unfinished = await session.scalars(
            select(Run.id).where(Run.leaderboard_id == leaderboard_id, Run.status.in_(UNFINISHED))
        )
        run_ids = unfinished.all()
    # Each by itself, its row before the leaderboard's. Should the server die in between, their
    # shards and reviews find the leaderboard gone.
    for run_id in run_ids:
        async with ctx.database.write() as session:
            run = await lock_run(session, run_id)
            if run is not None and run.status in UNFINISHED:
                await finish_run(ctx, session, run, "failed", error="the leaderboard was deleted")
