"""Who is calling, what each use case demands of them, and the check."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, Literal, ParamSpec, TypeVar
from uuid import UUID

from resolvers.errors import ForbiddenError, UnauthenticatedError

if TYPE_CHECKING:
    from resolvers.context import Context

P = ParamSpec("P")
R = TypeVar("R")


class Scope(StrEnum):
    """What a principal can be granted."""

    LEADERBOARDS_READ = "leaderboards:read"
    LEADERBOARDS_WRITE = "leaderboards:write"
    LEADERBOARDS_RUN = "leaderboards:run"
    LEADERBOARDS_INFERENCE = "leaderboards:inference"
    MODELS_READ = "models:read"
    MODELS_WRITE = "models:write"
    MODELS_FINE_TUNE = "models:fine-tune"


# Granted beside the published scopes, never to an API token.
ADMIN = "workspace:admin"
SYSTEM = "system"

WILDCARDS = {"*", "leaderboards:*", "models:*"}


def expand_scopes(scopes: list[str]) -> frozenset[str]:
    """Return the grants that *scopes* stand for; an empty list stands for all of them."""
    if not scopes or "*" in scopes:
        return frozenset(Scope)
    return frozenset(
        granted
        for granted in Scope
        if granted in scopes or f"{granted.partition(':')[0]}:*" in scopes
    )


@dataclass(frozen=True, slots=True)
class TokenLimits:
    """What bounds the calls of a token.

    Attributes:
        budget_interval: How often its budget begins anew; None when it has none.
    """

    budget_interval: str | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None

    @property
    def has_rates(self) -> bool:
        """Whether its calls a minute are limited."""
        return self.requests_per_minute is not None or self.tokens_per_minute is not None


NO_LIMITS = TokenLimits()


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller.

    Attributes:
        workspace_id: The one workspace whose rows the caller can reach.
        grants: Scopes, with wildcards expanded.
        token_id: The API token used, if one was.
        user_id: The session's user, if it is a session.
        limits: What bounds the token's calls.
        push_token_id: The push token used, if one was; it grants nothing by itself.
        leaderboard_id: The one leaderboard that a push token pushes to.
        trace_retention_days: What the workspace has chosen; None for the deployment's own.
    """

    kind: Literal["token", "session", "system", "push"]
    workspace_id: UUID
    grants: frozenset[str]
    token_id: UUID | None = None
    user_id: UUID | None = None
    limits: TokenLimits = NO_LIMITS
    push_token_id: UUID | None = None
    leaderboard_id: UUID | None = None
    trace_retention_days: int | None = None


# What the deployment's own work may do; it is within no workspace until it says which.
SYSTEM_PRINCIPAL = Principal(
    kind="system", workspace_id=UUID(int=0), grants=frozenset({*Scope, ADMIN, SYSTEM})
)


def session_grants(role: str) -> frozenset[str]:
    """Return what a workspace member's *role* may do."""
    scopes: frozenset[str] = frozenset(Scope)
    return scopes | {ADMIN} if role in {"owner", "admin"} else scopes


UseCase = Callable[Concatenate["Context", P], Awaitable[R]]


def requires(grant: str) -> Callable[[UseCase[P, R]], UseCase[P, R]]:
    """Guard a use case with *grant*, whichever edge it is called from.

    Raises:
        UnauthenticatedError: From the use case, when nobody is signed in.
        ForbiddenError: From the use case, when the caller lacks *grant*.
    """

    def decorate(use_case: UseCase[P, R]) -> UseCase[P, R]:
        @wraps(use_case)
        def guarded(ctx: "Context", /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[R]:
            demand(ctx, grant)
            return use_case(ctx, *args, **kwargs)

        guarded.required_grant = grant  # type: ignore[attr-defined]
        return guarded

    return decorate


def demand_caller(ctx: "Context") -> Principal:
    """Return the caller.

    Raises:
        UnauthenticatedError: Nobody is signed in.
    """
    if ctx.caller is None:
        raise UnauthenticatedError(
            "no credential: send an API token (drgero_...) as 'Authorization: Bearer', "
            "'X-API-Key' or 'X-Dr.Gero-API-Key', or a session token as 'Authorization: Bearer'"
        )
    return ctx.caller


def demand(ctx: "Context", grant: str) -> None:
    """Check that the caller has *grant*.

    Raises:
        UnauthenticatedError: Nobody is signed in.
        ForbiddenError: The caller lacks *grant*.
    """
    caller = demand_caller(ctx)
    if grant not in caller.grants:
        held = sorted(caller.grants & set(Scope))
        raise ForbiddenError(
            f"this needs {grant}, which the credential does not grant",
            details={"required": grant, "granted": held},
        )


def demand_full_access(ctx: "Context", what: str) -> None:
    """Check that the caller may look behind the scenes of its workspace.

    Args:
        ctx: The request's.
        what: What is asked for, for the message.

    Raises:
        UnauthenticatedError: Nobody is signed in.
        ForbiddenError: The caller is neither an owner's or admin's session nor a token for all.
    """
    caller = demand_caller(ctx)
    is_full_token = caller.kind == "token" and caller.grants >= set(Scope)
    if not is_full_token and ADMIN not in caller.grants:
        raise ForbiddenError(
            f"{what} needs a token with the scope *, or a session of an owner or an admin",
            details={"required": "*", "granted": sorted(caller.grants & set(Scope))},
        )


def demand_push(ctx: "Context", leaderboard_id: UUID) -> None:
    """Check that the caller may push rows to a leaderboard.

    Raises:
        UnauthenticatedError: Nobody is signed in.
        ForbiddenError: The caller neither may write leaderboards nor has this one's push token.
    """
    caller = demand_caller(ctx)
    if caller.kind != "push":
        demand(ctx, Scope.LEADERBOARDS_WRITE)
    elif caller.leaderboard_id != leaderboard_id:
        raise ForbiddenError(
            f"the push token is for leaderboard {caller.leaderboard_id} alone",
            details={"leaderboard_id": str(caller.leaderboard_id)},
        )


def signed_in(use_case: UseCase[P, R]) -> UseCase[P, R]:
    """Guard a use case that every caller of the workspace may use, whatever its scopes.

    Raises:
        UnauthenticatedError: From the use case, when nobody is signed in.
        ForbiddenError: From the use case, when the caller has but a push token.
    """

    @wraps(use_case)
    async def guarded(ctx: "Context", /, *args: P.args, **kwargs: P.kwargs) -> R:
        if demand_caller(ctx).kind == "push":
            raise ForbiddenError("a push token pushes rows to its dataset, and opens nothing else")
        return await use_case(ctx, *args, **kwargs)

    guarded.required_grant = None  # type: ignore[attr-defined]
    return guarded


def credentialed(use_case: UseCase[P, R]) -> UseCase[P, R]:
    """Guard a use case that every credential opens, a push token too.

    Raises:
        UnauthenticatedError: From the use case, when there is no credential.
    """

    @wraps(use_case)
    async def guarded(ctx: "Context", /, *args: P.args, **kwargs: P.kwargs) -> R:
        demand_caller(ctx)
        return await use_case(ctx, *args, **kwargs)

    guarded.required_grant = None  # type: ignore[attr-defined]
    return guarded
