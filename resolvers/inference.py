"""Inference: one request served by the model in production."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import select

from db.base import new_id
from db.models import Candidate, Leaderboard, Trace
from db.records import Row
from engine.prompts import render_prompt, text_of_messages
from providers.base import ProviderError
from resolvers.auth import Scope, requires
from resolvers.budgets import Budget, Hold, find_budget, hold_budget, settle_budget
from resolvers.call_bounds import bound_call
from resolvers.candidates import chat_target
from resolvers.context import Context
from resolvers.errors import InvalidInputError, UnsupportedOptionError, UpstreamError
from resolvers.inference_request import InferenceRequest
from resolvers.leaderboards import fetch_leaderboard
from resolvers.model_calls import CallOutcome, CallSubject, call_model, trace_values
from resolvers.production import require_production_candidate

RETRIES = 1
LONGEST_WAIT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class InferenceAnswer:
    """What the model in production answered.

    Attributes:
        completion: The endpoint's own chat completion, when it sent one.
        budget: The token's budget after this call; None when it has none.
    """

    trace_id: UUID
    leaderboard_id: UUID
    candidate: Row | Candidate
    output: str
    completion: dict[str, Any] | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_usd: Decimal | None
    latency_ms: float
    budget: Budget | None


@requires(Scope.LEADERBOARDS_INFERENCE)
async def infer(
    ctx: Context,
    leaderboard_id: UUID,
    request: InferenceRequest,
    *,
    id: UUID | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> InferenceAnswer:
    """Serve a request; its trace and its charge are stored before this returns.

    Args:
        ctx: Who asks.
        leaderboard_id: Whose model in production serves.
        request: What is asked.
        id: The trace's id, chosen by the caller.
        metadata: Kept on the trace.

    Raises:
        UnsupportedOptionError: Streaming is asked for.
        InvalidInputError: There is no input.
        NotFoundError: The workspace has no such leaderboard.
        RankingNotReadyError: No ranking is complete.
        BudgetExceededError: The token's budget can't cover the call.
        UpstreamError: The model failed; the trace says how.
    """
    if request.stream:
        raise UnsupportedOptionError(
            "stream: true is not supported on this route", details={"field": "stream"}
        )
    async with ctx.database.read() as session:
        board = await fetch_leaderboard(session, ctx.workspace_id, leaderboard_id)
    messages = _messages(board, request)
    if id is not None and (answered := await _answered_before(ctx, leaderboard_id, id)) is not None:
        return answered
    candidate = await require_production_candidate(ctx, board)
    call = _Call(id or new_id(), board, candidate, messages, request, metadata or {})
    return await _serve(ctx, call)


@dataclass(frozen=True, slots=True)
class _Call:
    """A request, and who serves it."""

    trace_id: UUID
    board: Leaderboard
    candidate: Row
    messages: Sequence[Mapping[str, Any]]
    request: InferenceRequest
    metadata: Mapping[str, Any]


async def _serve(ctx: Context, call: _Call) -> InferenceAnswer:
    """Hold the budget, call the model, store what came of it, and only then answer."""
    target = await chat_target(ctx, call.candidate, call.candidate)
    params: Mapping[str, Any] = call.request.params
    hold = None
    token_id = ctx.principal.token_id
    if token_id is not None and ctx.principal.has_budget:
        limits = ctx.services.limits
        bounded = bound_call(
            target, call.messages, params, default_max_tokens=limits.default_max_tokens
        )
        params = bounded.params
        async with ctx.database.write() as session:
            hold = await hold_budget(
                session, token_id, bounded.most_usd, seconds=limits.hold_seconds
            )
    outcome = await call_model(
        ctx.services.chat,
        target,
        call.messages,
        params,
        retries=RETRIES,
        longest_wait_seconds=LONGEST_WAIT_SECONDS,
    )
    subject = CallSubject(
        workspace_id=ctx.workspace_id,
        leaderboard_id=call.board.id,
        candidate_id=call.candidate.id,
        source="inference",
        run_id=None,
        token_id=ctx.principal.token_id,
        model=call.candidate.model_id or call.candidate.display_name,
    )
    values = trace_values(
        call.trace_id,
        subject,
        target,
        outcome,
        input=text_of_messages(call.messages) if call.request.text is None else call.request.text,
        messages=call.messages,
        metadata=call.metadata,
    )
    budget = await _store(ctx, values, hold, outcome)
    return _answer(call.trace_id, call.board, call.candidate, outcome, budget)


async def _answered_before(
    ctx: Context, leaderboard_id: UUID, trace_id: UUID
) -> InferenceAnswer | None:
    """Return the answer of a call whose trace was stored before its server died.

    Raises:
        UpstreamError: That call had failed.
    """
    async with ctx.database.read() as session:
        trace = await session.scalar(
            select(Trace).where(Trace.id == trace_id, Trace.workspace_id == ctx.workspace_id)
        )
        if trace is None:
            return None
        if trace.status != "ok":
            reason, _, message = (trace.error or "").partition(": ")
            raise _failed_call(trace_id, message, reason=reason)
        candidate = (
            await session.scalars(select(Candidate).where(Candidate.id == trace.candidate_id))
        ).one()
        token_id = ctx.principal.token_id
        budget = await find_budget(session, token_id) if token_id else None
    return InferenceAnswer(
        trace_id=trace_id,
        leaderboard_id=leaderboard_id,
        candidate=candidate,
        output=trace.output or "",
        completion=None,
        prompt_tokens=trace.prompt_tokens,
        completion_tokens=trace.completion_tokens,
        cost_usd=trace.cost_usd,
        latency_ms=trace.latency_ms,
        budget=budget,
    )


def _messages(board: Leaderboard, request: InferenceRequest) -> Sequence[Mapping[str, Any]]:
    if request.messages is not None:
        return request.messages
    if request.text is None or not request.text.strip():
        raise InvalidInputError(
            "input: is required (or prompt, question, query, messages), and must not be blank"
        )
    return [{"role": "user", "content": render_prompt(board.system_prompt, request.text)}]


async def _store(
    ctx: Context, values: dict[str, Any], hold: Hold | None, outcome: CallOutcome
) -> Budget | None:
    """Store the trace and settle the budget, in one transaction."""
    async with ctx.database.write() as session:
        await ctx.services.traces.store(session, [values])
        if hold is None:
            return None
        return await settle_budget(session, hold, outcome.cost_usd)


def _answer(
    trace_id: UUID,
    board: Leaderboard,
    candidate: Row,
    outcome: CallOutcome,
    budget: Budget | None,
) -> InferenceAnswer:
    if outcome.answer is None:
        raise _upstream_error(trace_id, outcome.error)
    return InferenceAnswer(
        trace_id=trace_id,
        leaderboard_id=board.id,
        candidate=candidate,
        output=outcome.answer.output,
        completion=outcome.answer.completion,
        prompt_tokens=outcome.answer.prompt_tokens,
        completion_tokens=outcome.answer.completion_tokens,
        cost_usd=outcome.answer.cost_usd,
        latency_ms=outcome.latency_ms,
        budget=budget,
    )


def _upstream_error(trace_id: UUID, error: ProviderError | None) -> UpstreamError:
    if error is None:
        raise RuntimeError("a call ended with neither an answer nor an error")
    wait = error.retry_after_seconds
    return _failed_call(
        trace_id,
        str(error),
        reason=error.code.value,
        status=error.status,
        body=error.body,
        retry_after_seconds=None if wait is None else round(wait),
    )


def _failed_call(
    trace_id: UUID,
    message: str,
    *,
    reason: str,
    status: int | None = None,
    body: str | None = None,
    retry_after_seconds: int | None = None,
) -> UpstreamError:
    return UpstreamError(
        f"the model in production failed: {message}",
        details={
            "reason": reason,
            "upstream_status": status,
            "upstream_body": body,
            "trace_id": str(trace_id),
        },
        retry_after_seconds=retry_after_seconds,
    )
