"""Candidate use cases: the models that a leaderboard compares, and how each is called."""

from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy import func, select

from db.base import new_id
from db.models import Candidate, Dataset, Run, RunCandidate
from db.records import Row
from db.session import ReadSession
from providers.base import CatalogueModel, ChatTarget, ProviderError
from resolvers.auth import Scope, requires
from resolvers.candidate_changes import note_prices
from resolvers.catalogue import model_headers, require_model
from resolvers.columns import Columns
from resolvers.context import Context
from resolvers.errors import ConflictError, InvalidInputError, NotFoundError
from resolvers.inputs import NewCandidate
from resolvers.leaderboards import fetch_leaderboard
from resolvers.loaders.candidates import CandidateById, CandidatesByLeaderboard
from resolvers.production import change_production, find_winner
from resolvers.rollout_rows import let_go_of_candidate
from resolvers.run_lifecycle import UNFINISHED

MAX_CANDIDATES = 200
HEADER_OF_METHOD = {"x-api-key": "X-API-Key", "x-drgero-api-key": "X-Dr.Gero-API-Key"}


@requires(Scope.LEADERBOARDS_READ)
async def list_candidates(
    ctx: Context, leaderboard_ids: Sequence[UUID], columns: Columns = None
) -> list[Sequence[Row]]:
    """Return each leaderboard's candidates, in the order they were added."""
    return await ctx.loaders.get(CandidatesByLeaderboard).load_many(leaderboard_ids, columns)


@requires(Scope.LEADERBOARDS_READ)
async def list_candidates_by_offset(
    ctx: Context, leaderboard_id: UUID, *, limit: int, offset: int
) -> tuple[Sequence[Row], int]:
    """Return at most *limit* candidates behind *offset* others, and their total.

    Raises:
        NotFoundError: The workspace has no such leaderboard.
    """
    async with ctx.database.read() as session:
        await fetch_leaderboard(session, ctx.workspace_id, leaderboard_id)
    (rows,) = await list_candidates(ctx, [leaderboard_id])
    return rows[offset : offset + limit], len(rows)


@requires(Scope.LEADERBOARDS_READ)
async def find_candidates(
    ctx: Context, candidate_ids: Sequence[UUID | None], columns: Columns = None
) -> list[Row | None]:
    """Return candidates by their ids, removed ones too; None where there is none."""
    return await ctx.loaders.get(CandidateById).load_many(candidate_ids, columns)


@requires(Scope.LEADERBOARDS_WRITE)
async def add_candidate(
    ctx: Context, leaderboard_id: UUID, new: NewCandidate, *, id: UUID | None = None
) -> Candidate:
    """Add a candidate model to a leaderboard.

    Args:
        ctx: Who asks.
        leaderboard_id: Where to.
        new: The model and how to call it.
        id: Chosen by the caller so that a repeat returns the same candidate.

    Raises:
        NotFoundError: The workspace has no such leaderboard.
        IntegrationMissingError: An OpenRouter model is asked for, and no key is saved.
        InvalidInputError: OpenRouter has no such model, or the endpoint's address is refused.
        ConflictError: The leaderboard has as many candidates as it can, or its pushed dataset has
            too few rows.
        UpstreamError: OpenRouter's catalogue can't be read.
    """
    async with ctx.database.read() as session:
        board = await fetch_leaderboard(session, ctx.workspace_id, leaderboard_id)
        if board.dataset_type == "PUSH":
            await _check_rows(ctx, session, leaderboard_id)
    model = None
    if new.provider == "openrouter":
        model = await require_model(ctx, new.model_id or "", field="model_id")
    else:
        await _check_endpoint(ctx, new.endpoint_url or "")
    row = _candidate_row(ctx, leaderboard_id, new, model, id or new_id())
    async with ctx.database.write() as session:
        await fetch_leaderboard(session, ctx.workspace_id, leaderboard_id, for_update=True)
        made = await session.get(Candidate, row.id)
        if made is not None:
            return made
        present = await session.scalar(
            select(func.count())
            .select_from(Candidate)
            .where(Candidate.leaderboard_id == leaderboard_id, Candidate.removed_at.is_(None))
        )
        if (present or 0) >= MAX_CANDIDATES:
            raise ConflictError(f"a leaderboard has at most {MAX_CANDIDATES} models")
        session.add(row)
        await session.flush()
        note_prices(session, row)
        await session.refresh(row)
    return row


async def _check_rows(ctx: Context, session: ReadSession, leaderboard_id: UUID) -> None:
    """Check that a pushed dataset has the rows that ranking models on it takes."""
    needed = ctx.services.limits.push_rows_before_models
    dataset = await session.get(Dataset, leaderboard_id)
    accepted = 0 if dataset is None else dataset.last_sequence
    if accepted < needed:
        raise ConflictError(
            f"leaderboard {leaderboard_id} has {accepted} rows, and takes models from {needed} on: "
            "push more first",
            details={"accepted_rows": accepted, "needed_rows": needed},
        )


async def _check_endpoint(ctx: Context, url: str) -> None:
    try:
        await ctx.services.chat.check_endpoint(url)
    except ProviderError as error:
        raise InvalidInputError(f"endpoint_url: {error} (got {url!r})") from error


def _candidate_row(
    ctx: Context,
    leaderboard_id: UUID,
    new: NewCandidate,
    model: CatalogueModel | None,
    candidate_id: UUID,
) -> Candidate:
    """Build the row, with the catalogue's prices where the caller states none."""
    box = None
    if new.auth_token is not None:
        secret = new.auth_token.get_secret_value()
        box = ctx.services.vault.seal(secret, owner=_owner(candidate_id))
    name = new.display_name or new.model_id or urlsplit(new.endpoint_url or "").path.strip("/")
    input_price, output_price = new.input_price_per_million_usd, new.output_price_per_million_usd
    if model is not None:
        name = new.display_name or model.name
        input_price = model.input_price_per_million_usd if input_price is None else input_price
        output_price = model.output_price_per_million_usd if output_price is None else output_price
    return Candidate(
        id=candidate_id,
        workspace_id=ctx.workspace_id,
        leaderboard_id=leaderboard_id,
        provider=new.provider,
        model_id=new.model_id,
        display_name=name or str(new.endpoint_url),
        endpoint_url=new.endpoint_url,
        auth_method=new.auth_method,
        auth_header_name=new.auth_header_name,
        auth_token_box=box,
        params=new.params,
        input_price_per_million_usd=input_price,
        output_price_per_million_usd=output_price,
        timeout_seconds=new.timeout_seconds,
        first_byte_timeout_seconds=new.first_byte_timeout_seconds,
    )


def _owner(candidate_id: UUID) -> str:
    return f"candidate/{candidate_id}/auth_token"


@requires(Scope.LEADERBOARDS_WRITE)
async def remove_candidate(ctx: Context, leaderboard_id: UUID, candidate_id: UUID) -> Candidate:
    """Take a candidate off a leaderboard; rankings that it is in keep it.

    Raises:
        NotFoundError: The leaderboard has no such candidate.
        ConflictError: It is pinned for production, or in a run under way.
    """
    async with ctx.database.write() as session:
        board = await fetch_leaderboard(session, ctx.workspace_id, leaderboard_id, for_update=True)
        row = await session.get(Candidate, candidate_id)
        if row is None or row.leaderboard_id != leaderboard_id or row.removed_at is not None:
            raise NotFoundError(f"model {candidate_id} is not on leaderboard {leaderboard_id}")
        if board.selected_candidate_id == candidate_id:
            raise ConflictError(
                f"model {candidate_id} is the pinned selection; select another one first"
            )
        run_id = await _active_run(session, candidate_id)
        if run_id is not None:
            raise ConflictError(
                f"model {candidate_id} is in run {run_id}, which is not finished",
                details={"run_id": str(run_id)},
            )
        row.removed_at = datetime.now(UTC)
        await let_go_of_candidate(session, leaderboard_id, candidate_id)
        if board.production_candidate_id == candidate_id:
            await session.flush()
            successor = await find_winner(session, leaderboard_id)
            await change_production(session, ctx, board, successor, cause="removal")
    return row


async def _active_run(session: ReadSession, candidate_id: UUID) -> UUID | None:
    statement = (
        select(Run.id)
        .join(RunCandidate, RunCandidate.run_id == Run.id)
        .where(RunCandidate.candidate_id == candidate_id, Run.status.in_(UNFINISHED))
        .limit(1)
    )
    return await session.scalar(statement)


async def chat_target(
    ctx: Context, how: Row | RunCandidate, candidate: Row | Candidate
) -> ChatTarget:
    """Return how to call *candidate*, as *how* says (itself, or as a run fixed it).

    Raises:
        IntegrationMissingError: It is an OpenRouter model, and no key is saved.
    """
    return ChatTarget(
        provider=how.provider,
        model_id=how.model_id,
        url=how.endpoint_url,
        headers=await _credential(ctx, how, candidate),
        params=how.params,
        timeout_seconds=how.timeout_seconds,
        input_price_per_million_usd=how.input_price_per_million_usd,
        output_price_per_million_usd=how.output_price_per_million_usd,
        first_byte_timeout_seconds=candidate.first_byte_timeout_seconds,
    )


async def _credential(
    ctx: Context, how: Row | RunCandidate, candidate: Row | Candidate
) -> dict[str, str]:
    if how.provider == "openrouter":
        return await model_headers(ctx, how.model_id or "")
    if candidate.auth_token_box is None:
        return {}
    secret = ctx.services.vault.open(candidate.auth_token_box, owner=_owner(candidate.id))
    if how.auth_method == "bearer":
        return {"Authorization": f"Bearer {secret}"}
    if how.auth_method == "authorization_raw":
        return {"Authorization": secret}
    if how.auth_method == "custom_header":
        return {str(how.auth_header_name): secret}
    return {HEADER_OF_METHOD[str(how.auth_method)]: secret}
