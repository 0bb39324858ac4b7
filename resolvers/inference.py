"""Inference: requests served by the model in production."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import select

from db.base import new_id
from db.models import Candidate, Leaderboard, Trace
from db.records import Row
from engine.prompts import render_prompt
from providers.base import ProviderError
from resolvers.answer_streams import AnswerStream
from resolvers.auth import Scope, requires
from resolvers.budgets import Budget, find_budget
from resolvers.call_storage import EndedCall
from resolvers.context import Context
from resolvers.errors import (
    InvalidInputError,
    Standing,
    UnsupportedOptionError,
    UpstreamError,
)
from resolvers.failures import describe
from resolvers.idempotency import Claim, find_result, keep_result
from resolvers.inference_request import ModelRequest
from resolvers.reservations import TokenState
from resolvers.serving import ServingBoard
from resolvers.serving_calls import Served, ServingCall

log = logging.getLogger("gero.calls")

MAX_LISTED = 1_000
# Who failed, when nobody stood in.
ALONE = "the model in production failed"


@dataclass(slots=True)
class InferenceAnswer:
    """What the model in production answered.

    Attributes:
        candidate: Who answered.
        model: The provider's name for it, or else the leaderboard's.
        completion: The endpoint's own chat completion, when it sent one.
        budget: The token's budget after this call; None when it has none.
        limits: The token's limits, as they were when the call began; None when it has none.
        failed: The models that failed before this one was asked, with the reasons.
    """

    trace_id: UUID
    leaderboard_id: UUID
    candidate: Row | Candidate
    model: str
    provider: str
    output: str
    completion: dict[str, Any] | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_usd: Decimal | None
    latency_ms: float
    budget: Budget | None
    limits: TokenState | None = None
    failed: Sequence[tuple[str, str]] = ()


@requires(Scope.LEADERBOARDS_INFERENCE)
async def infer(
    ctx: Context,
    leaderboard: UUID | str,
    request: ModelRequest,
    *,
    claim: Claim | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> InferenceAnswer:
    """Serve a request; its trace and its charge are stored before this returns.

    When the caller is cancelled the model is hung up on, and what that may have cost is settled.

    Args:
        ctx: Who asks.
        leaderboard: Whose model in production serves: its id, or its slug.
        request: What is asked.
        claim: The right to do the work of a request that may be repeated; its id is the trace's.
        metadata: Kept on the trace.

    Raises:
        UnsupportedOptionError: Streaming is asked for.
        InvalidInputError: There is no input.
        NotFoundError: The workspace has no such leaderboard.
        RankingNotReadyError: No ranking is complete.
        BudgetExceededError: The token's budget can't cover the call.
        RateLimitedError: The token has had its requests or tokens of this minute.
        UnavailableError: The server has as many calls under way as it can hold.
        UpstreamError: The model failed; the trace says how.
    """
    if request.stream:
        raise UnsupportedOptionError(
            "stream: true is not supported on this route", details={"field": "stream"}
        )
    board = await ctx.services.boards.get(ctx, leaderboard)
    messages = _messages(board, request)
    trace_id = new_id() if claim is None else claim.resource_id
    if claim is not None and (answered := await _answered_before(ctx, board.id, claim)) is not None:
        return answered
    async with ServingCall(ctx, board, request, messages, trace_id, metadata or {}) as call:
        call.is_repeatable = claim is not None
        served = await call.ask()
        if claim is not None:
            await _keep_for_repeats(ctx, claim, call, served)
        ended = await call.end(served)
    if claim is not None:  # whoever took over meanwhile may have stored another answer under it
        other = await _answered_before(ctx, board.id, claim, than=ended)
        if other is not None:
            return other
    return _answer(call, served, ended)


@requires(Scope.LEADERBOARDS_INFERENCE)
async def open_answer_stream(
    ctx: Context,
    leaderboard: UUID | str,
    request: ModelRequest,
    *,
    metadata: Mapping[str, Any] | None = None,
) -> AnswerStream:
    """Serve a request in parts, of which the first has come when this returns.

    Its trace and its charge are stored before the last of it is given. The caller reads
    `AnswerStream.chunks` in a block of it, and may leave that or be cancelled: then the model is
    hung up on, and what had come is settled.

    Args:
        ctx: Who asks.
        leaderboard: Whose model in production serves: its id, or its slug.
        request: What is asked.
        metadata: Kept on the trace.

    Raises:
        AppError: As `infer`; a model that fails later breaks off the stream.
    """
    board = await ctx.services.boards.get(ctx, leaderboard)
    messages = _messages(board, request)
    async with ServingCall(ctx, board, request, messages, new_id(), metadata or {}) as call:
        stream = AnswerStream(call)
        served = await stream.open()
        if served is None:
            call.is_read = True
            return stream
        ended = await call.end(served)
    raise _failure(call, served, ended)


async def _keep_for_repeats(ctx: Context, claim: Claim, call: ServingCall, served: Served) -> None:
    """Keep an answer, of which the trace has the text alone, and that without what is redacted."""
    answer = served.outcome.answer
    if answer is None:
        return
    kept = {
        "latency_ms": served.outcome.latency_ms,  # which tells whose it is
        "output": answer.output,
        "completion": answer.completion,
    }
    try:
        await keep_result(ctx, claim, orjson.dumps(kept).decode())
    except asyncio.CancelledError as left:
        try:
            await call.end(served)  # it is paid for, and known
        finally:
            raise left
    except Exception as error:  # noqa: BLE001 - it is paid for, and is stored all the same
        log.warning("call %s is not kept for its repeats: %s", call.id, describe(error))


async def _answered_before(
    ctx: Context, leaderboard_id: UUID, claim: Claim, *, than: EndedCall | None = None
) -> InferenceAnswer | None:
    """Return the answer of a call whose trace was stored before its server died.

    Args:
        ctx: Who asks.
        leaderboard_id: Whose production answered.
        claim: Its resource is the trace, for every repeat.
        than: The call that has ended since, whose own trace is no answer of before.

    Raises:
        UpstreamError: That call had failed.
    """
    trace_id = claim.resource_id
    async with ctx.database.read() as session:
        trace = await session.scalar(
            select(Trace).where(Trace.id == trace_id, Trace.workspace_id == ctx.workspace_id)
        )
        if trace is None or (than is not None and trace.latency_ms == than.trace["latency_ms"]):
            return None
        token_id = ctx.principal.token_id
        budget = await find_budget(session, token_id) if token_id else None
        if trace.status != "ok":
            reason, _, message = (trace.error or "").partition(": ")
            error = _failed_call(trace_id, message, reason=reason)
            error.standing = Standing(trace_id, budget, None)
            raise error
        candidate = (
            await session.scalars(select(Candidate).where(Candidate.id == trace.candidate_id))
        ).one()
    result = await find_result(ctx, claim)
    kept: dict[str, Any] = {} if result is None else orjson.loads(result)
    if kept.get("latency_ms") != trace.latency_ms:  # of another who held the claim
        kept = {}
    return InferenceAnswer(
        trace_id=trace_id,
        leaderboard_id=leaderboard_id,
        candidate=candidate,
        model=candidate.model_id or candidate.display_name,
        provider=candidate.provider,
        output=kept.get("output", trace.output or ""),
        completion=kept.get("completion"),
        prompt_tokens=trace.prompt_tokens,
        completion_tokens=trace.completion_tokens,
        cost_usd=trace.cost_usd,
        latency_ms=trace.latency_ms,
        budget=budget,
    )


def _messages(board: ServingBoard, request: ModelRequest) -> Sequence[Mapping[str, Any]]:
    if request.messages is not None:
        return request.messages
    if request.text is None or not request.text.strip():
        raise InvalidInputError(
            "input: is required (or prompt, question, query, messages), and must not be blank"
        )
    return [{"role": "user", "content": render_prompt(board.system_prompt, request.text)}]


def _answer(call: ServingCall, served: Served, ended: EndedCall) -> InferenceAnswer:
    answer = served.outcome.answer
    if answer is None:
        raise _failure(call, served, ended)
    model = served.model
    # By position: names cost as much again, of what is made for each call.
    return InferenceAnswer(
        call.id,
        call.board.id,
        model.candidate,
        model.name,
        model.target.provider,
        answer.output,
        answer.completion,
        answer.prompt_tokens,
        answer.completion_tokens,
        answer.cost_usd,
        served.outcome.latency_ms,
        ended.budget or call.budget(),
        call.reservations[0].state if call.reservations else None,
        [(each.name, error.summary) for each, error in call.failed] if call.failed else (),
    )


@requires(Scope.LEADERBOARDS_INFERENCE)
async def list_served(ctx: Context) -> Sequence[Leaderboard]:
    """Return the workspace's leaderboards that have a model in production, oldest first."""
    statement = (
        select(Leaderboard)
        .where(
            Leaderboard.workspace_id == ctx.workspace_id,
            Leaderboard.deleted_at.is_(None),
            Leaderboard.production_candidate_id.is_not(None),
        )
        .order_by(Leaderboard.id)
        .limit(MAX_LISTED)
    )
    async with ctx.database.read() as session:
        return (await session.scalars(statement)).all()


def explain_break(trace_id: UUID, error: ProviderError) -> UpstreamError:
    """Return what is told of an answer that breaks off in the middle."""
    return _upstream_error(trace_id, error)


def _failure(call: ServingCall, served: Served, ended: EndedCall) -> UpstreamError:
    failed = call.failures()
    if call.failed and call.failed[-1][0] is served.model:  # and there was no room for another
        failed.pop()
    who = f"{len(failed) + 1} models failed, {served.model.name} at last" if failed else ALONE
    error = _upstream_error(call.id, served.outcome.error, who=who)
    if failed:
        error.details["failed"] = failed
    error.standing = call.standing(ended)
    return error


def _upstream_error(
    trace_id: UUID, error: ProviderError | None, *, who: str = ALONE
) -> UpstreamError:
    if error is None:
        raise RuntimeError("a call ended with neither an answer nor an error")
    wait = error.retry_after_seconds
    return _failed_call(
        trace_id,
        str(error),
        who=who,
        reason=error.code.value,
        status=error.status,
        body=error.answered,
        retry_after_seconds=None if wait is None else round(wait),
    )


def _failed_call(
    trace_id: UUID,
    message: str,
    *,
    reason: str,
    who: str = ALONE,
    status: int | None = None,
    body: Any = None,
    retry_after_seconds: int | None = None,
) -> UpstreamError:
    return UpstreamError(
        f"{who}: {message}",
        details={
            "reason": reason,
            "upstream_status": status,
            "upstream_body": body,
            "trace_id": str(trace_id),
        },
        retry_after_seconds=retry_after_seconds,
    )
