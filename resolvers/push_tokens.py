"""Push token use cases: credentials that push rows to one leaderboard, and do nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import select, update

from db.base import new_id
from db.models import PushToken
from db.records import Row
from resolvers.auth import Scope, requires
from resolvers.columns import Columns
from resolvers.context import Context
from resolvers.credentials import PUSH_TOKEN_PREFIX, new_token_secret
from resolvers.errors import ConflictError, NotFoundError
from resolvers.inputs import NewPushToken
from resolvers.leaderboards import fetch_leaderboard
from resolvers.loaders.datasets import PushTokensByLeaderboard

# Of one leaderboard, those that are revoked not counted.
MAX_TOKENS = 100


@dataclass(frozen=True, slots=True)
class MadePushToken:
    """A push token just made; the only time that its secret is known.

    Attributes:
        secret: The whole token, which starts with `hpd_`.
    """

    token: PushToken
    secret: str


@requires(Scope.LEADERBOARDS_WRITE)
async def create_push_token(ctx: Context, leaderboard_id: UUID, new: NewPushToken) -> MadePushToken:
    """Create a token that pushes rows to a leaderboard.

    Raises:
        NotFoundError: The workspace has no such leaderboard.
        ConflictError: Its dataset is read from a URL, or it has `MAX_TOKENS` tokens.
    """
    secret = new_token_secret(PUSH_TOKEN_PREFIX)
    async with ctx.database.write() as session:
        board = await fetch_leaderboard(session, ctx.workspace_id, leaderboard_id, for_update=True)
        if board.dataset_type != "PUSH":
            raise ConflictError(f"leaderboard {leaderboard_id} reads its dataset from a URL")
        of_board = (PushToken.leaderboard_id == leaderboard_id) & PushToken.revoked_at.is_(None)
        present = await session.scalars(select(PushToken.id).where(of_board).limit(MAX_TOKENS))
        if len(present.all()) >= MAX_TOKENS:
            raise ConflictError(
                f"leaderboard {leaderboard_id} has {MAX_TOKENS} push tokens: revoke one first"
            )
        token = PushToken(
            id=new_id(),
            workspace_id=ctx.workspace_id,
            leaderboard_id=leaderboard_id,
            public_id=secret.public_id,
            name=new.name,
            secret_sha256=secret.secret_sha256,
        )
        session.add(token)
        await session.flush()
        await session.refresh(token)
    return MadePushToken(token, secret.token)


@requires(Scope.LEADERBOARDS_READ)
async def list_push_tokens(
    ctx: Context, leaderboard_ids: Sequence[UUID], columns: Columns = None
) -> list[Sequence[Row]]:
    """Return the push tokens of each leaderboard, those that are revoked too, newest first."""
    return await ctx.loaders.get(PushTokensByLeaderboard).load_many(leaderboard_ids, columns)


@requires(Scope.LEADERBOARDS_WRITE)
async def revoke_push_tokens(
    ctx: Context, leaderboard_id: UUID, token_id: UUID | None = None
) -> Sequence[UUID]:
    """Revoke a leaderboard's push tokens, or one of them: within a second they are refused.

    Returns:
        Those that were not revoked before.

    Raises:
        NotFoundError: The workspace has no such leaderboard, or the leaderboard no such token.
    """
    async with ctx.database.write() as session:
        await fetch_leaderboard(session, ctx.workspace_id, leaderboard_id)
        named = [PushToken.leaderboard_id == leaderboard_id]
        if token_id is not None:
            named.append(PushToken.id == token_id)
            if await session.scalar(select(PushToken.id).where(*named)) is None:
                raise NotFoundError(
                    f"push token {token_id} does not exist on leaderboard {leaderboard_id}"
                )
        revoked = await session.scalars(
            update(PushToken)
            .where(*named, PushToken.revoked_at.is_(None))
            .values(revoked_at=datetime.now(UTC))
            .returning(PushToken.id)
        )
        return revoked.all()
