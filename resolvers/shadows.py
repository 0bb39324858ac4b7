"""Shadow use cases: trying a challenger on production's requests, without answering any."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import update

from db.base import new_id
from db.models import Shadow
from db.records import Row
from resolvers.auth import Scope, requires
from resolvers.columns import Columns
from resolvers.context import Context
from resolvers.errors import ConflictError, NotFoundError
from resolvers.inputs import NewShadow
from resolvers.leaderboards import fetch_leaderboard
from resolvers.loaders.rollouts import LatestShadowByLeaderboard
from resolvers.rollouts import fetch_entrant


@requires(Scope.LEADERBOARDS_READ)
async def find_latest_shadows(
    ctx: Context, leaderboard_ids: Sequence[UUID], columns: Columns = None
) -> list[Row | None]:
    """Return each leaderboard's newest shadow, which may have ended; None where there was none."""
    return await ctx.loaders.get(LatestShadowByLeaderboard).load_many(leaderboard_ids, columns)


@requires(Scope.LEADERBOARDS_WRITE)
async def start_shadow(ctx: Context, leaderboard_id: UUID, new: NewShadow) -> Shadow:
    """Have a share of production's requests go to a challenger too; one that runs gives way.

    Raises:
        NotFoundError: The workspace has no such leaderboard.
        InvalidInputError: The challenger is not on it.
        ConflictError: The challenger is in production, or nobody is; or what it charges is not
            known, so that no budget can be kept.
    """
    async with ctx.database.write() as session:
        board = await fetch_leaderboard(session, ctx.workspace_id, leaderboard_id, for_update=True)
        challenger = await fetch_entrant(
            session, leaderboard_id, new.challenger_id, field="challenger_id"
        )
        serving = board.production_candidate_id
        if serving is None:
            raise ConflictError(f"leaderboard {leaderboard_id} has no model in production")
        if serving == challenger.id:
            raise ConflictError(f"model {serving} is in production: it can't be its own shadow")
        prices = (challenger.input_price_per_million_usd, challenger.output_price_per_million_usd)
        if None in prices:
            raise ConflictError(
                f"what model {challenger.id} charges is not known, so that no budget can be kept: "
                "add it with input_price_per_million_usd and output_price_per_million_usd"
            )
        shadow = Shadow(
            id=new_id(),
            workspace_id=board.workspace_id,
            leaderboard_id=board.id,
            challenger_id=challenger.id,
            status="running",
            share=new.share,
            budget_usd=new.budget_usd,
            ends_at=new.ends_at,
            token_id=ctx.principal.token_id,
            user_id=ctx.principal.user_id,
        )
        await session.execute(
            update(Shadow)
            .where(Shadow.leaderboard_id == leaderboard_id, Shadow.status == "running")
            .values(
                status="stopped",
                reason=f"shadow {shadow.id} took its place",
                finished_at=datetime.now(UTC),
            )
        )
        session.add(shadow)
        await session.flush()
        await session.refresh(shadow)
    return shadow


@requires(Scope.LEADERBOARDS_WRITE)
async def stop_shadow(ctx: Context, shadow_id: UUID) -> Shadow:
    """End a shadow: no further request goes to its challenger.

    Raises:
        NotFoundError: The workspace has no such shadow.
        ConflictError: It has ended.
    """
    async with ctx.database.write() as session:
        found = await session.get(Shadow, shadow_id, with_for_update={"key_share": True})
        if found is None or found.workspace_id != ctx.workspace_id:
            raise NotFoundError(f"shadow {shadow_id} does not exist")
        if found.status != "running":
            raise ConflictError(
                f"shadow {shadow_id} is {found.status}: {found.reason}",
                details={"status": found.status},
            )
        found.status, found.reason = "stopped", "somebody stopped it"
        found.finished_at = datetime.now(UTC)
    return found
