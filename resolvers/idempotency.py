"""Answering a repeated request as it was answered before, and doing its work once."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, and_, case, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from db.base import new_id
from db.models import IdempotencyKey, PushBatch
from resolvers.auth import SYSTEM, credentialed, requires
from resolvers.context import Context
from resolvers.errors import IdempotencyConflictError, InvalidInputError
from resolvers.failures import describe

log = logging.getLogger("gero")

MAX_KEY_CHARACTERS = 255
POLL_SECONDS = 0.05
FAILURE = 400
# A claim is renewed so often before it would end that one renewal may fail.
RENEWALS = 3
KEPT = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What the first request was answered."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to do a request's work.

    Attributes:
        resource_id: The id that the new object must have. After a crash it is
            the same again, so that an object made before the crash is found.
        holder_id: Tells it from a claim of before or after it: who has lost it ends none.
    """

    key: str
    resource_id: UUID
    holder_id: UUID


@credentialed
async def claim_key(ctx: Context, key: str, fingerprint: bytes) -> Claim | StoredAnswer:
    """Return the answer that *key* was given, or the right to work on it.

    While another request holds the right, this waits for its answer, or for its failure, which
    whoever comes later is not given. A holder that died loses it after
    `idempotency_claim_seconds`; one that is alive keeps it with `keeping_claim`.

    Args:
        ctx: Who asks; keys of different workspaces are strangers.
        key: The client's.
        fingerprint: Tells whether it is the same request.

    Raises:
        InvalidInputError: The key is empty or too long.
        IdempotencyConflictError: The key was used with another request.
    """
    if not 1 <= len(key) <= MAX_KEY_CHARACTERS:
        raise InvalidInputError(f"Idempotency-Key: must have 1 to {MAX_KEY_CHARACTERS} characters")
    while True:
        claim = await _try_claim(ctx, key, fingerprint)
        if claim is not None:
            return claim
        answer = await _await_answer(ctx, key, fingerprint)
        if answer is not None:
            return answer


async def _await_answer(ctx: Context, key: str, fingerprint: bytes) -> StoredAnswer | None:
    """Wait for the holder's answer; None when there is none to wait for any longer.

    Raises:
        IdempotencyConflictError: The key was used with another request.
    """
    holders = set()  # that were waited for
    while True:
        row = await _find(ctx, key)
        if row is None:
            return None  # its holder was refused and let go of it
        if _is_failure(row) and row.holder_id not in holders:
            return None  # it failed before this came
        holders.add(row.holder_id)
        if row.fingerprint != fingerprint:
            raise IdempotencyConflictError(
                f"Idempotency-Key {key!r} was used before, with another request"
            )
        if row.answer_status is not None:
            return StoredAnswer(row.answer_status, row.answer_headers or {}, _opened(ctx, row))
        if row.claimed_until < datetime.now(UTC):
            return None
        await asyncio.sleep(POLL_SECONDS)


def _is_failure(row: IdempotencyKey) -> bool:
    return row.answer_status is not None and row.answer_status >= FAILURE


def _opened(ctx: Context, row: IdempotencyKey) -> bytes:
    body: bytes = row.answer_body or b""
    if not body.startswith(b"v1."):
        return body  # kept by a server that did not seal answers yet
    return ctx.services.vault.open(body.decode(), owner=_owner(ctx, row.key)).encode()


def _owner(ctx: Context, key: str) -> str:
    return f"idempotency_key:{ctx.workspace_id}:{key}"


async def _try_claim(ctx: Context, key: str, fingerprint: bytes) -> Claim | None:
    """Take a key that is new, or whose holder died or failed."""
    now = datetime.now(UTC)
    holder_id = new_id()
    claiming = insert(IdempotencyKey).values(
        workspace_id=ctx.workspace_id,
        key=key,
        fingerprint=fingerprint,
        resource_id=new_id(),
        holder_id=holder_id,
        claimed_until=now + _lease(ctx),
    )
    is_orphan = and_(
        IdempotencyKey.answer_status.is_(None),
        IdempotencyKey.claimed_until < now,
        IdempotencyKey.fingerprint == fingerprint,
    )
    given = claiming.excluded
    statement = claiming.on_conflict_do_update(
        index_elements=["workspace_id", "key"],
        set_={
            "holder_id": given.holder_id,
            "claimed_until": given.claimed_until,
            "fingerprint": given.fingerprint,
            # What an orphan had made is found by its id; what failed is tried anew, with another.
            "resource_id": case((is_orphan, IdempotencyKey.resource_id), else_=given.resource_id),
            "answer_body": case((is_orphan, IdempotencyKey.answer_body), else_=None),
            "answer_status": None,
            "answer_headers": None,
            # What is answered now is kept for a day from now.
            "created_at": case((is_orphan, IdempotencyKey.created_at), else_=func.now()),
        },
        where=is_orphan | (IdempotencyKey.answer_status >= FAILURE),
    ).returning(IdempotencyKey.resource_id)
    async with ctx.database.write() as session:
        resource_id = await session.scalar(statement)
    return None if resource_id is None else Claim(key, resource_id, holder_id)


def _lease(ctx: Context) -> timedelta:
    return timedelta(seconds=ctx.services.limits.idempotency_claim_seconds)


@asynccontextmanager
async def keeping_claim(ctx: Context, claim: Claim) -> AsyncIterator[None]:
    """Hold *claim* while the block runs, however long that is."""
    done = asyncio.Event()
    renewing = asyncio.create_task(_renew_until(done, ctx, claim))
    try:
        yield
    finally:
        done.set()
        await renewing


async def _renew_until(done: asyncio.Event, ctx: Context, claim: Claim) -> None:
    pause = _lease(ctx).total_seconds() / RENEWALS
    while True:
        try:
            await asyncio.wait_for(done.wait(), pause)
        except TimeoutError:
            await _renew(ctx, claim)
        else:
            return


async def _renew(ctx: Context, claim: Claim) -> None:
    try:
        async with ctx.database.write() as session:
            await session.execute(
                update(IdempotencyKey)
                .where(_held(ctx, claim))
                .values(claimed_until=datetime.now(UTC) + _lease(ctx))
            )
    except Exception as error:  # noqa: BLE001 - the work goes on without
        log.warning("request %s could not renew its claim: %s", ctx.request_id, describe(error))


def _works_on(ctx: Context, claim: Claim) -> ColumnElement[bool]:
    """Return the condition that a key stands for the work that *claim* is of, whoever does it."""
    return and_(
        IdempotencyKey.workspace_id == ctx.workspace_id,
        IdempotencyKey.key == claim.key,
        IdempotencyKey.resource_id == claim.resource_id,
    )


def _held(ctx: Context, claim: Claim) -> ColumnElement[bool]:
    """Return the condition that a key is one's own, and not answered yet."""
    return and_(
        _works_on(ctx, claim),
        IdempotencyKey.holder_id == claim.holder_id,
        IdempotencyKey.answer_status.is_(None),
    )


async def _find(ctx: Context, key: str) -> IdempotencyKey | None:
    async with ctx.database.read() as session:
        return await session.scalar(
            select(IdempotencyKey).where(
                IdempotencyKey.workspace_id == ctx.workspace_id, IdempotencyKey.key == key
            )
        )


@credentialed
async def keep_result(ctx: Context, claim: Claim, result: str) -> None:
    """Remember, sealed, what the request's work has come to, for who takes over before it ends."""
    sealed = ctx.services.vault.seal(result, owner=_owner(ctx, claim.key))
    async with ctx.database.write() as session:
        await session.execute(
            update(IdempotencyKey).where(_held(ctx, claim)).values(answer_body=sealed.encode())
        )


@credentialed
async def find_result(ctx: Context, claim: Claim) -> str | None:
    """Return what the work of a claim of before has come to, if it got so far."""
    row = await _find(ctx, claim.key)
    if row is None or row.answer_body is None or row.answer_status is not None:
        return None
    return _opened(ctx, row).decode()


@credentialed
async def keep_answer(ctx: Context, claim: Claim, answer: StoredAnswer) -> None:
    """Remember what the request was answered, sealed: an answer may show a new secret."""
    # Whoever holds the key: what was made by one claim is found by the next, also if that fails.
    is_mine = _works_on(ctx, claim) & (
        IdempotencyKey.answer_status.is_(None) | (IdempotencyKey.answer_status >= FAILURE)
    )
    await _keep(ctx, claim, answer, is_mine)


@credentialed
async def keep_failure(ctx: Context, claim: Claim, failure: StoredAnswer) -> None:
    """Remember how the request failed, for those that wait for it; who comes later tries anew."""
    await _keep(ctx, claim, failure, _held(ctx, claim))


async def _keep(
    ctx: Context, claim: Claim, answer: StoredAnswer, where: ColumnElement[bool]
) -> None:
    body = ctx.services.vault.seal(answer.body.decode(), owner=_owner(ctx, claim.key))
    async with ctx.database.write() as session:
        await session.execute(
            update(IdempotencyKey)
            .where(where)
            .values(
                answer_status=answer.status,
                answer_headers=answer.headers,
                answer_body=body.encode(),
            )
        )


@credentialed
async def release_key(ctx: Context, claim: Claim) -> None:
    """Let go of a key whose request was refused, so that a repeat is a fresh try."""
    async with ctx.database.write() as session:
        await session.execute(delete(IdempotencyKey).where(_held(ctx, claim)))


@credentialed
async def yield_claim(ctx: Context, claim: Claim) -> None:
    """Let a repeat take over at once a request that failed, and may have done its work.

    As after a crash, what was made is found by the claim's id. That is so when the database went
    away: who sees a commit fail can't know whether it was made.
    """
    async with ctx.database.write() as session:
        await session.execute(
            update(IdempotencyKey).where(_held(ctx, claim)).values(claimed_until=datetime.now(UTC))
        )


@requires(SYSTEM)
async def forget_old_answers(ctx: Context) -> None:
    """Delete the answers that are older than a day."""
    async with ctx.database.write() as session:
        await session.execute(
            delete(IdempotencyKey).where(IdempotencyKey.created_at < func.now() - KEPT)
        )
        await session.execute(delete(PushBatch).where(PushBatch.created_at < func.now() - KEPT))
