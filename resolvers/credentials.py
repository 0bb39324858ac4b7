"""From what a request carries to who is calling: API tokens, push tokens and user sessions."""

import hashlib
import hmac
import re
import secrets
import string
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import jwt
from sqlalchemy import Text, bindparam, select

from db.changes import ChangeFeed
from db.models import ApiToken, Leaderboard, Member, PushToken, Workspace
from db.records import Row
from db.session import Database
from engine.instants import rfc3339
from resolvers.auth import Principal, TokenLimits, expand_scopes, session_grants
from resolvers.change_cache import ChangeCache
from resolvers.columns import kept_query
from resolvers.errors import ForbiddenError, InvalidInputError, UnauthenticatedError
from resolvers.paging import AnySelect

TOKEN_PREFIX = "drgero_"  # noqa: S105 - what tokens begin with
PUSH_TOKEN_PREFIX = "hpd_"  # noqa: S105 - what push tokens begin with
PUBLIC_ID_CHARACTERS = 12
TOKEN = re.compile(
    rf"^(?:{TOKEN_PREFIX}|{PUSH_TOKEN_PREFIX})"
    rf"([A-Za-z0-9]{{{PUBLIC_ID_CHARACTERS}}})_([A-Za-z0-9_-]{{43}})$"
)
MAX_CREDENTIAL_CHARACTERS = 8_192
SESSION_LEEWAY_SECONDS = 30
NO_SECRET = bytes(32)
REMEMBERED_TOKENS = 10_000


@dataclass(frozen=True, slots=True)
class TokenSecret:
    """A new token, whole, and the parts of it that are stored."""

    token: str
    public_id: str
    secret_sha256: bytes


def new_token_secret(prefix: str = TOKEN_PREFIX) -> TokenSecret:
    """Make a token of 256 random bits behind a public id."""
    alphabet = string.ascii_letters + string.digits
    public_id = "".join(secrets.choice(alphabet) for _ in range(PUBLIC_ID_CHARACTERS))
    secret = secrets.token_urlsafe(32)
    return TokenSecret(
        token=f"{prefix}{public_id}_{secret}",
        public_id=public_id,
        secret_sha256=hashlib.sha256(secret.encode()).digest(),
    )


class SessionVerifier:
    """Checks Supabase-shaped session tokens: JWTs signed with HS256.

    Args:
        secret: The project's JWT secret.
        issuer: The `iss` that tokens must have.
        audience: The `aud` that tokens must have.
    """

    def __init__(self, *, secret: str, issuer: str, audience: str) -> None:
        self._secret = secret
        self._issuer = issuer
        self._audience = audience

    def verify(self, token: str) -> UUID:
        """Return the user whose session *token* is.

        Raises:
            UnauthenticatedError: The token is malformed, expired, or not ours.
        """
        try:
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=["HS256"],
                audience=self._audience,
                issuer=self._issuer,
                leeway=SESSION_LEEWAY_SECONDS,
                options={"require": ["exp", "iat", "sub", "aud", "iss"]},
            )
            return UUID(claims["sub"])
        except jwt.ExpiredSignatureError as error:
            raise UnauthenticatedError("the session has expired; sign in again") from error
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError) as error:
            raise UnauthenticatedError("the session token is not valid") from error


def _write_token() -> AnySelect:
    names = (
        "id",
        "workspace_id",
        "secret_sha256",
        "scopes",
        "revoked_at",
        "expires_at",
        "budget_limit_usd",
        "budget_reset_interval",
        "requests_per_minute",
        "tokens_per_minute",
    )
    asked = ApiToken.public_id == bindparam("public_id", type_=Text())
    return (
        select(*(getattr(ApiToken, name) for name in names), Workspace.trace_retention_days)
        .join(Workspace, Workspace.id == ApiToken.workspace_id)
        .where(asked)
    )


def _write_push_token() -> AnySelect:
    names = ("id", "workspace_id", "leaderboard_id", "secret_sha256", "revoked_at")
    asked = PushToken.public_id == bindparam("public_id", type_=Text())
    present = (Leaderboard.id == PushToken.leaderboard_id) & Leaderboard.deleted_at.is_(None)
    return (
        select(*(getattr(PushToken, name) for name in names))
        .join(Leaderboard, present)
        .where(asked)
    )


@dataclass(frozen=True, slots=True)
class _SeenToken:
    """A valid token, as it was read.

    Attributes:
        names: What it rests on, as `ChangeFeed` names it.
    """

    names: tuple[str, ...]
    principal: Principal
    expires_at: datetime | None


class Authenticator:
    """Turns a credential into a principal.

    Args:
        database: Where tokens are.
        sessions: Checks user sessions; None when the server accepts none.
        feed: Tells when a token is changed, so that it can be remembered till then.
    """

    def __init__(
        self, database: Database, sessions: SessionVerifier | None, feed: ChangeFeed
    ) -> None:
        self._database = database
        self._sessions = sessions
        self._seen: ChangeCache[bytes, _SeenToken] = ChangeCache(
            feed, max_entries=REMEMBERED_TOKENS
        )

    def recall(self, credential: str) -> Principal | None:
        """Return who presents a token that is remembered, and still valid; None of any other."""
        if not credential.isascii():
            return None
        token = self._seen.find(hashlib.sha256(credential.encode()).digest())
        if token is None or (token.expires_at and token.expires_at <= datetime.now(UTC)):
            return None
        return token.principal

    async def authenticate(self, credential: str, *, workspace: str | None) -> Principal:
        """Return who presents *credential*.

        Args:
            credential: An API token or a session token.
            workspace: The workspace a session means, when its user has several.

        Raises:
            UnauthenticatedError: The credential is unknown, expired or revoked.
            InvalidInputError: The workspace is not a UUID.
            ForbiddenError: The session's user is not in that workspace, or in none.
        """
        if len(credential) > MAX_CREDENTIAL_CHARACTERS:
            raise UnauthenticatedError("the credential is too long to be one")
        if not credential.isascii():
            raise UnauthenticatedError("the credential is not valid: it is not ASCII")
        if credential.startswith((TOKEN_PREFIX, PUSH_TOKEN_PREFIX)):
            return await self._by_token(credential)
        if self._sessions is not None and credential.count(".") == 2:  # noqa: PLR2004 - a JWT
            return await self._by_session(self._sessions.verify(credential), workspace)
        raise UnauthenticatedError("the credential is not valid: an API token starts with drgero_")

    async def _by_token(self, credential: str) -> Principal:
        presented = hashlib.sha256(credential.encode()).digest()
        token = self._seen.find(presented)
        if token is None:
            read_at = self._seen.now
            token = await self._read_token(credential)
            self._seen.remember(presented, token, names=token.names, read_at=read_at)
        if token.expires_at is not None and token.expires_at <= datetime.now(UTC):
            raise UnauthenticatedError(f"the API token expired at {rfc3339(token.expires_at)}")
        return token.principal

    async def _read_token(self, credential: str) -> _SeenToken:
        is_push = credential.startswith(PUSH_TOKEN_PREFIX)
        kind = "push" if is_push else "API"
        match = TOKEN.match(credential)
        public_id, secret = match.groups() if match else ("", "")
        query = kept_query(_write_push_token if is_push else _write_token)
        rows = await self._database.fetch(query, public_id=public_id)
        token = rows[0] if rows else None
        presented = hashlib.sha256(secret.encode()).digest()
        # Compared on a miss too, so that timing does not tell which ids exist.
        known = hmac.compare_digest(presented, token.secret_sha256 if token else NO_SECRET)
        if token is None or not known:
            raise UnauthenticatedError(f"the {kind} token is not valid")
        if token.revoked_at is not None:
            raise UnauthenticatedError(f"the {kind} token was revoked")
        if is_push:
            names = (f"token:{token.id}", f"leaderboard:{token.leaderboard_id}")
            return _SeenToken(names, _push_principal(token), None)
        names = (f"token:{token.id}", f"workspace:{token.workspace_id}")
        return _SeenToken(names, _token_principal(token), token.expires_at)

    async def _by_session(self, user_id: UUID, workspace: str | None) -> Principal:
        statement = (
            select(Member.workspace_id, Member.role, Workspace.trace_retention_days)
            .join(Workspace, Workspace.id == Member.workspace_id)
            .where(Member.user_id == user_id)
            .order_by(Member.created_at)
        )
        if workspace is not None:
            try:
                statement = statement.where(Member.workspace_id == UUID(workspace))
            except ValueError as error:
                raise InvalidInputError(f"X-Workspace-Id: {workspace!r} is not a UUID") from error
        async with self._database.read() as session:
            member = (await session.execute(statement.limit(1))).one_or_none()
        if member is None:
            raise ForbiddenError("the session's user is not a member of that workspace")
        return Principal(
            kind="session",
            workspace_id=member.workspace_id,
            grants=session_grants(member.role),
            user_id=user_id,
            trace_retention_days=member.trace_retention_days,
        )


def _token_principal(token: Row) -> Principal:
    return Principal(
        kind="token",
        workspace_id=token.workspace_id,
        grants=expand_scopes(token.scopes),
        token_id=token.id,
        trace_retention_days=token.trace_retention_days,
        limits=TokenLimits(
            budget_interval=None if token.budget_limit_usd is None else token.budget_reset_interval,
            requests_per_minute=token.requests_per_minute,
            tokens_per_minute=token.tokens_per_minute,
        ),
    )


def _push_principal(token: Row) -> Principal:
    return Principal(
        kind="push",
        workspace_id=token.workspace_id,
        grants=frozenset(),
        push_token_id=token.id,
        leaderboard_id=token.leaderboard_id,
    )
