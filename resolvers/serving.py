"""Who serves a leaderboard's production, and how: read once, and kept until it changes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Text, Uuid, bindparam, cast, false, func, select

from db.changes import ChangeFeed
from db.models import Candidate, Leaderboard, Ranking, RankingEntry
from db.records import Row
from engine.rollouts import Arm
from providers.base import ChatTarget
from resolvers.candidates import chat_target
from resolvers.change_cache import ChangeCache
from resolvers.columns import kept_query, read_columns
from resolvers.context import Context
from resolvers.errors import IntegrationMissingError, NotFoundError, RankingNotReadyError
from resolvers.inputs import Serving
from resolvers.loaders.base import own_workspace
from resolvers.model_calls import CallSubject
from resolvers.paging import AnySelect
from resolvers.provider_health import EndpointHealth
from resolvers.rollout_plan import RolloutPlan, ShadowPlan, load_plans

REMEMBERED_BOARDS = 10_000
# After a failure in which nothing was generated.
RETRIES = 1
LONGEST_WAIT_SECONDS = 2.0
# Of the names that OpenAI's clients call leaderboards by.
MODEL_PREFIX = "leaderboard/"


def read_reference(model: str) -> UUID | str:
    """Return the id or slug that a client's name for a leaderboard holds.

    Raises:
        NotFoundError: It is no such name.
    """
    reference = model.removeprefix(MODEL_PREFIX)
    if reference == model or not reference:
        raise NotFoundError(
            f"the model {model!r} does not exist: name it leaderboard/<id or slug>",
            details={"field": "model"},
        )
    try:
        return UUID(reference)
    except ValueError:
        return reference


@dataclass(frozen=True, slots=True)
class ServingModel:
    """A model that may serve, ready to be called.

    Attributes:
        name: The provider's name for it, or else the leaderboard's.
        subject: Of its calls, whichever token they are made with.
        health: Of its endpoint; calls don't wait for one that is ill.
    """

    name: str
    subject: CallSubject
    candidate: Row
    target: ChatTarget
    health: EndpointHealth


@dataclass(frozen=True, slots=True)
class ServingBoard:
    """What a call of a leaderboard's production needs to know.

    Attributes:
        models: Who serves, and then who stands in for it, in this order.
        longest_seconds: After so long all of them have been asked.
        rollout: Of whom a share of the requests is served by instead, with `canary`.
        shadow: Of whom a share of the requests is asked besides, with `challenger`.
    """

    id: UUID
    workspace_id: UUID
    system_prompt: str
    settings: Serving
    models: Sequence[ServingModel]
    longest_seconds: float
    rollout: RolloutPlan | None
    canary: ServingModel | None
    shadow: ShadowPlan | None
    challenger: ServingModel | None

    def models_of(self, arm: Arm | None) -> Sequence[ServingModel]:
        """Return who serves a request, and then who stands in for it, in this order.

        The model in production stands in for a canary, whether or not others would: callers
        shall not be worse off for being tried it on. Nobody stands in for itself.
        """
        canary = self.canary
        if arm is not Arm.CANARY or canary is None:
            return self.models
        return (canary, *(m for m in self.models if m.candidate.id != canary.candidate.id))


class ServingBoards:
    """Finds how leaderboards are served.

    Args:
        feed: Tells of changes.
    """

    def __init__(self, feed: ChangeFeed) -> None:
        self._boards: ChangeCache[tuple[UUID, UUID | str], ServingBoard] = ChangeCache(
            feed, max_entries=REMEMBERED_BOARDS
        )

    async def get(self, ctx: Context, reference: UUID | str) -> ServingBoard:
        """Return how a leaderboard of the caller's workspace is served.

        Args:
            ctx: Who asks.
            reference: The leaderboard's id, or its slug.

        Raises:
            NotFoundError: The workspace has no such leaderboard.
            RankingNotReadyError: Nobody is in production.
            IntegrationMissingError: The model in production needs a key, and none is saved.
        """
        key = (ctx.workspace_id, reference)
        board = self._boards.find(key)
        if board is None:
            read_at = self._boards.now
            board = await _read_board(ctx, reference)
            names = (f"leaderboard:{board.id}", f"workspace:{board.workspace_id}")
            self._boards.remember(key, board, names=names, read_at=read_at)
        return board


async def _read_board(ctx: Context, reference: UUID | str) -> ServingBoard:
    is_id = isinstance(reference, UUID)
    query = kept_query(_write_board, is_id)
    rows = await ctx.database.fetch(query, workspace_id=ctx.workspace_id, reference=reference)
    if not rows:
        raise NotFoundError(f"leaderboard {reference} does not exist")
    board = rows[0]
    candidates = await ctx.database.fetch(
        kept_query(_write_candidates), workspace_id=ctx.workspace_id, leaderboard_id=board.id
    )
    settings = Serving.model_validate(board.serving)
    production = next((c for c in candidates if c.id == board.production_candidate_id), None)
    if production is None:
        raise RankingNotReadyError(
            f"leaderboard {board.id} has no model in production, for want of a completed ranking "
            "with a model that may serve: run it first"
        )
    ranked = [each for each in candidates if each.rank is not None and each.id != production.id]
    standing_in = await _callable(ctx, ranked[: settings.fallback_models])
    models = (await _model(ctx, production), *standing_in)
    async with ctx.database.read() as session:
        rollout, shadow = await load_plans(session, board.id)
    canary = await _find(ctx, candidates, rollout.canary_candidate_id if rollout else None)
    called = (*models, canary) if canary else models
    seconds = sum(model.target.timeout_seconds * (1 + RETRIES) for model in called)
    return ServingBoard(
        id=board.id,
        workspace_id=ctx.workspace_id,
        system_prompt=board.system_prompt,
        settings=settings,
        models=models,
        longest_seconds=seconds + len(called) * LONGEST_WAIT_SECONDS,
        rollout=rollout if canary else None,
        canary=canary,
        shadow=shadow,
        challenger=await _find(ctx, candidates, shadow.challenger_id if shadow else None),
    )


async def _find(
    ctx: Context, candidates: Sequence[Row], candidate_id: UUID | None
) -> ServingModel | None:
    """Return one of the candidates, if it is there and can be called."""
    found = await _callable(ctx, [each for each in candidates if each.id == candidate_id])
    return found[0] if found else None


async def _model(ctx: Context, candidate: Row) -> ServingModel:
    target = await chat_target(ctx, candidate, candidate)
    name = candidate.model_id or candidate.display_name
    subject = CallSubject(
        workspace_id=ctx.workspace_id,
        leaderboard_id=candidate.leaderboard_id,
        candidate_id=candidate.id,
        source="inference",
        run_id=None,
        token_id=None,
        model=name,
        price_version=candidate.price_version,
    )
    return ServingModel(
        name=name,
        subject=subject,
        candidate=candidate,
        target=target,
        health=ctx.services.health.of(ctx.workspace_id, target, serves=True),
    )


async def _callable(ctx: Context, candidates: Sequence[Row]) -> tuple[ServingModel, ...]:
    """Return those that can be called, as a model without its key can't."""
    found = []
    for candidate in candidates:
        try:
            found.append(await _model(ctx, candidate))
        except IntegrationMissingError:
            continue
    return tuple(found)


def _write_board(is_id: bool) -> AnySelect:  # noqa: FBT001 - a shape
    asked = (
        Leaderboard.id == bindparam("reference", type_=Uuid())
        if is_id
        else Leaderboard.slug == bindparam("reference", type_=Text())
    )
    names = frozenset({"id", "system_prompt", "serving", "production_candidate_id"})
    return select(*read_columns(Leaderboard, names)).where(
        asked, own_workspace(Leaderboard.workspace_id), Leaderboard.deleted_at.is_(None)
    )


def _write_candidates() -> AnySelect:
    """Select a leaderboard's candidates with their ranks, of those whom the ranking lets serve."""
    board_id: Any = bindparam("leaderboard_id", type_=Uuid())
    latest = (
        select(Ranking.id, Ranking.decision)
        .where(Ranking.leaderboard_id == board_id)
        .order_by(Ranking.completed_at.desc(), Ranking.id.desc())
        .limit(1)
        .subquery()
    )
    # Whom the promotion's limits kept from production is not let in by another door.
    refused = latest.c.decision["refused"].has_key(cast(RankingEntry.candidate_id, Text))
    ranks = (
        select(RankingEntry.candidate_id, RankingEntry.rank)
        .join(latest, RankingEntry.ranking_id == latest.c.id)
        .where(func.coalesce(refused, false()).is_(False))
        .subquery()
    )
    return (
        select(*read_columns(Candidate, None), ranks.c.rank)
        .join(ranks, ranks.c.candidate_id == Candidate.id, isouter=True)
        .where(
            own_workspace(Candidate.workspace_id),
            Candidate.leaderboard_id == board_id,
            Candidate.removed_at.is_(None),
        )
        .order_by(ranks.c.rank)
    )
