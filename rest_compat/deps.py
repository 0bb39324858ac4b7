"""What the routes share: the caller's context, and answering repeats alike."""

import hashlib
import hmac
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from typing_extensions import override

from resolvers.auth import SYSTEM_PRINCIPAL, Principal, demand_caller
from resolvers.context import Context, Services
from resolvers.credentials import Authenticator
from resolvers.errors import AppError, NotFoundError, UnauthenticatedError, UpstreamError
from resolvers.failures import describe
from resolvers.idempotency import (
    Claim,
    StoredAnswer,
    claim_key,
    keep_answer,
    keep_failure,
    keeping_claim,
    release_key,
    yield_claim,
)
from rest_compat.problems import problem_response

log = logging.getLogger("gero")

# In small letters, as servers have them.
TOKEN_HEADERS = ("x-api-key", "x-dr.gero-api-key", "x-dr.gero-push-token")
# All that tell who calls.
CALLER_HEADERS = ("authorization", *TOKEN_HEADERS, "x-workspace-id")
OPERATOR_HEADER = "X-Cron-Secret"
KEY_HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotent-Replayed"
# Belong to one answer, and are made anew for a repeat.
UNKEPT_HEADERS = frozenset({"content-length", "x-request-id"})
CLIENT_ERROR = 400
# After any other error it is not known what was done.
REFUSALS = (AppError, ValidationError, RequestValidationError, HTTPException)


def find_credential(headers: Mapping[str, str]) -> str | None:
    """Return the credential in a request's *headers*, in whichever of its forms it came.

    Args:
        headers: By their names in small letters.

    Raises:
        UnauthenticatedError: The Authorization header is not a Bearer one.
    """
    authorization = headers.get("authorization")
    if authorization is not None:
        scheme, _, credential = authorization.partition(" ")
        if scheme.casefold() != "bearer" or not credential.strip():
            raise UnauthenticatedError("Authorization: must be 'Bearer' and a credential")
        return credential.strip()
    return next((value for name in TOKEN_HEADERS if (value := headers.get(name))), None)


async def authenticate(connection: HTTPConnection, headers: Mapping[str, str]) -> Principal | None:
    """Return who calls, as *headers* tell; see `identify`."""
    return await identify(connection.app.state.authenticator, headers)


async def identify(authenticator: Authenticator, headers: Mapping[str, str]) -> Principal | None:
    """Return who calls, as *headers* tell; None when they carry no credential.

    Raises:
        UnauthenticatedError: The credential is not valid, or is so no longer.
        InvalidInputError: The workspace that is asked for is not a UUID.
        ForbiddenError: It does not open the workspace that is asked for.
    """
    credential = find_credential(headers)
    if credential is None:
        return None
    caller = authenticator.recall(credential)
    if caller is not None:
        return caller
    return await authenticator.authenticate(credential, workspace=headers.get("x-workspace-id"))


async def build_context(request: Request) -> Context:
    """Return the request's context, built once."""
    present: Context | None = getattr(request.state, "ctx", None)
    if present is not None:
        return present
    services: Services = request.app.state.services
    caller = await authenticate(request, request.headers)
    ctx = Context(services, caller, request.scope.get("request_id", ""))
    request.state.ctx = ctx
    return ctx


def demand_operator(request: Request) -> None:
    """Check that *request* carries the deployment's own secret.

    Raises:
        NotFoundError: The deployment has none, and so no routes for operators.
        UnauthenticatedError: There is no secret in it, or another.
    """
    secret: str | None = request.app.state.cron_secret
    if not secret:
        raise NotFoundError("operators' routes are off: GERO_CRON_SECRET is not set")
    given = request.headers.get(OPERATOR_HEADER) or find_credential(request.headers) or ""
    if not hmac.compare_digest(given.encode(), secret.encode()):
        raise UnauthenticatedError(
            f"this needs the operator's secret, as 'Authorization: Bearer' or '{OPERATOR_HEADER}'"
        )


def operator_context(request: Request) -> Context:
    """Return the context of what the deployment itself asks for.

    Raises:
        NotFoundError: The deployment has no secret, and so no routes for operators.
        UnauthenticatedError: The request does not carry it.
    """
    demand_operator(request)
    services: Services = request.app.state.services
    return Context(services, SYSTEM_PRINCIPAL, request.scope.get("request_id", ""))


Ctx = Annotated[Context, Depends(build_context)]
Limit = Annotated[int, Query(ge=1, le=200, description="Items at most.")]
Offset = Annotated[int, Query(ge=0, le=10_000_000, description="Items to pass over first.")]


def new_resource_id(request: Request) -> UUID | None:
    """Return the id that a repeatable request's new object must have, if it is one."""
    claim: Claim | None = getattr(request.state, "claim", None)
    return None if claim is None else claim.resource_id


NewId = Annotated[UUID | None, Depends(new_resource_id)]


class RepeatableRoute(APIRoute):
    """A route whose POST creates or spends: it honours `Idempotency-Key`.

    The first successful answer is kept for a day. A refused request keeps
    nothing, so its repeat is a fresh try; the failure of a provider is shared
    by those that waited for it alone; one that failed otherwise may have done
    its work, which its repeat finds. Other methods take no key: a read must show
    what is there now, and the rest come to the same when repeated.
    """

    @override
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_once(request: Request) -> Response:
            key = request.headers.get(KEY_HEADER)
            if key is None or request.method != "POST":
                return await handle(request)
            ctx = await build_context(request)

            async def answer(claim: Claim) -> Response:
                request.state.claim = claim
                return await handle(request)

            where = f"{request.url.path}?{request.url.query}"
            return await answer_once(
                ctx, key, where, await request.body(), answer, problem_response
            )

        return handle_once


async def answer_once(
    ctx: Context,
    key: str,
    where: str,
    body: bytes,
    answer: Callable[[Claim], Awaitable[Response]],
    refuse: Callable[[AppError], Response],
) -> Response:
    """Answer a POST that bears an `Idempotency-Key`, or give it the answer that it was given.

    Args:
        ctx: Who asks.
        key: The client's.
        where: Path and query.
        body: What is posted.
        answer: Does the work.
        refuse: Writes a failure, for those that wait for it.
    """
    claim = await claim_key(ctx, key, _fingerprint(ctx, where, body))
    if isinstance(claim, StoredAnswer):
        return Response(claim.body, claim.status, {**claim.headers, REPLAYED_HEADER: "true"})
    try:
        async with keeping_claim(ctx, claim):
            response = await answer(claim)
        await _keep(ctx, claim, response)
    except UpstreamError as error:
        await _share_failure(ctx, claim, refuse(error))
        raise
    except REFUSALS:
        await release_key(ctx, claim)
        raise
    except BaseException:
        await yield_claim(ctx, claim)
        raise
    return response


def _fingerprint(ctx: Context, where: str, body: bytes) -> bytes:
    """Tell requests apart, also by who sends them: an answer is shown to its own caller alone."""
    caller = demand_caller(ctx)
    head = f"{caller.token_id or caller.push_token_id or caller.user_id}\nPOST {where}\n".encode()
    return hashlib.sha256(head + body).digest()


async def _keep(ctx: Context, claim: Claim, response: Response) -> None:
    if response.status_code >= CLIENT_ERROR:
        await release_key(ctx, claim)
        return
    await keep_answer(ctx, claim, _stored(response))


async def _share_failure(ctx: Context, claim: Claim, response: Response) -> None:
    try:
        await keep_failure(ctx, claim, _stored(response))
    except Exception as error:  # noqa: BLE001 - who waits takes over, and finds it by its trace
        log.warning("request %s could not share its failure: %s", ctx.request_id, describe(error))


def _stored(response: Response) -> StoredAnswer:
    headers = {
        name: value for name, value in response.headers.items() if name not in UNKEPT_HEADERS
    }
    return StoredAnswer(response.status_code, headers, bytes(response.body))
