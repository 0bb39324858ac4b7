"""API token use cases."""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from sqlalchemy import select

from db.base import USD_PLACES, new_id
from db.models import ApiToken
from engine.instants import rfc3339
from resolvers.auth import ADMIN, WILDCARDS, Scope, requires
from resolvers.context import Context
from resolvers.credentials import new_token_secret
from resolvers.errors import ConflictError, InvalidInputError, NotFoundError

LIFETIMES = {
    "1h": timedelta(hours=1),
    "1d": timedelta(days=1),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
    "90d": timedelta(days=90),
    "180d": timedelta(days=180),
    "1y": timedelta(days=365),
}
RESET_INTERVALS = ("none", "daily", "weekly", "monthly")
MAX_NAME_CHARACTERS = 200
MAX_BUDGET_USD = 1_000_000_000
MAX_RATE = 1_000_000_000
MAX_LISTED = 1_000


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token just made; the only time that it is known whole."""

    id: UUID
    token: str
    expires_at: datetime | None


@requires(ADMIN)
async def create_api_token(
    ctx: Context,
    *,
    name: str,
    scopes: list[str],
    expires_in: str | None,
    budget_limit_usd: Decimal | None,
    budget_reset_interval: str,
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
) -> NewToken:
    """Create an API token of the caller's workspace.

    Args:
        ctx: Whose workspace it is for.
        name: For people.
        scopes: At least one; `*` grants everything.
        expires_in: One of `LIFETIMES`, or None for a token that does not expire.
        budget_limit_usd: The most its calls may cost in one window, in US dollars.
        budget_reset_interval: One of `RESET_INTERVALS`.
        requests_per_minute: Calls of production at most; None for no limit.
        tokens_per_minute: What these may send and generate; None for no limit.

    Raises:
        InvalidInputError: A value is out of its bounds.
    """
    _check(name, scopes, expires_in, budget_limit_usd, budget_reset_interval)
    if budget_limit_usd is not None:
        budget_limit_usd = round(budget_limit_usd, USD_PLACES)  # of 0E-99999 too, which is 0
    _check_rate("requests_per_minute", requests_per_minute)
    _check_rate("tokens_per_minute", tokens_per_minute)
    secret = new_token_secret()
    now = datetime.now(UTC)
    row = ApiToken(
        id=new_id(),
        workspace_id=ctx.workspace_id,
        public_id=secret.public_id,
        name=name.strip(),
        secret_sha256=secret.secret_sha256,
        scopes=scopes,
        expires_at=None if expires_in is None else now + LIFETIMES[expires_in],
        budget_limit_usd=budget_limit_usd,
        budget_reset_interval=budget_reset_interval,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
    )
    async with ctx.database.write() as session:
        session.add(row)
    return NewToken(id=row.id, token=secret.token, expires_at=row.expires_at)


@requires(ADMIN)
async def list_api_tokens(ctx: Context, *, limit: int) -> Sequence[ApiToken]:
    """Return the workspace's API tokens, newest first, revoked ones too; at most `MAX_LISTED`."""
    statement = (
        select(ApiToken)
        .where(ApiToken.workspace_id == ctx.workspace_id)
        .order_by(ApiToken.created_at.desc(), ApiToken.id.desc())
        .limit(min(limit, MAX_LISTED))
    )
    async with ctx.database.read() as session:
        return (await session.scalars(statement)).all()


@requires(ADMIN)
async def revoke_api_token(ctx: Context, reference: str) -> ApiToken:
    """Revoke an API token: from now on it is refused.

    Args:
        ctx: Whose workspace it is of.
        reference: Its id, or its public id.

    Raises:
        NotFoundError: The workspace has no such token.
        ConflictError: It was revoked before.
    """
    named = ApiToken.public_id == reference
    with suppress(ValueError):
        named = ApiToken.id == UUID(reference)
    statement = select(ApiToken).where(ApiToken.workspace_id == ctx.workspace_id, named)
    async with ctx.database.write() as session:
        token = await session.scalar(statement.with_for_update(key_share=True))
        if token is None:
            raise NotFoundError(f"there is no token {reference!r} in this workspace")
        if token.revoked_at is not None:
            raise ConflictError(
                f"token {token.public_id} was revoked before, at {rfc3339(token.revoked_at)}"
            )
        token.revoked_at = datetime.now(UTC)
    return token


def _check(
    name: str,
    scopes: list[str],
    expires_in: str | None,
    budget_limit_usd: Decimal | None,
    budget_reset_interval: str,
) -> None:
    if not 1 <= len(name.strip()) <= MAX_NAME_CHARACTERS or re.search(r"\x00", name):
        raise InvalidInputError(f"name: must have 1 to {MAX_NAME_CHARACTERS} characters")
    if not scopes:
        raise InvalidInputError("scopes: name at least one; '*' grants everything")
    known = {*Scope, *WILDCARDS}
    for scope in scopes:
        if scope not in known:
            raise InvalidInputError(f"scopes: {scope!r} is not one of {', '.join(sorted(known))}")
    if expires_in is not None and expires_in not in LIFETIMES:
        raise InvalidInputError(f"expires_in: {expires_in!r} is not one of {', '.join(LIFETIMES)}")
    _check_budget(budget_limit_usd, budget_reset_interval)


def _check_budget(budget_limit_usd: Decimal | None, budget_reset_interval: str) -> None:
    if budget_reset_interval not in RESET_INTERVALS:
        raise InvalidInputError(
            f"budget_reset_interval: {budget_reset_interval!r} is not one of "
            f"{', '.join(RESET_INTERVALS)}"
        )
    if budget_limit_usd is None and budget_reset_interval != "none":
        raise InvalidInputError(
            f"budget_reset_interval: {budget_reset_interval!r} needs a budget_limit"
        )
    if budget_limit_usd is None:
        return
    if not 0 <= budget_limit_usd <= MAX_BUDGET_USD:
        raise InvalidInputError(
            f"budget_limit: must be 0 to {MAX_BUDGET_USD} (got {budget_limit_usd})"
        )
    if budget_limit_usd != round(budget_limit_usd, USD_PLACES):
        raise InvalidInputError(
            f"budget_limit: must have {USD_PLACES} decimals at most (got {budget_limit_usd})"
        )


def _check_rate(field: str, value: int | None) -> None:
    if value is not None and not 1 <= value <= MAX_RATE:
        raise InvalidInputError(f"{field}: must be 1 to {MAX_RATE} (got {value})")
