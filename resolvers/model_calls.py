"""One call of a model, retried where that is safe, and the trace that it leaves."""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, NamedTuple, Protocol
from uuid import UUID

from db.base import instant_of
from providers.base import ChatAnswer, ChatProvider, ChatTarget, ProviderError, ProviderErrorCode
from resolvers.meters import CallMeter
from resolvers.provider_health import EndpointHealth
from resolvers.waiting import wait_for_event

BACKOFF_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 60.0
# After these the model may have answered somebody, and charged for it.
MAY_HAVE_GENERATED = {
    ProviderErrorCode.CONNECTION_LOST,
    ProviderErrorCode.TIMED_OUT,
    ProviderErrorCode.RESPONSE_TOO_LARGE,
    ProviderErrorCode.INVALID_RESPONSE,
    ProviderErrorCode.CANCELLED,
}


@dataclass(slots=True)
class CallOutcome:
    """How a call ended; one that broke off in the middle has an answer and an error.

    Attributes:
        latency_ms: Of the last attempt, request sent to answer read.
        attempts: How often the model was asked.
        first_byte_ms: Of the last attempt, request sent to the first of a streamed answer.
    """

    answer: ChatAnswer | None
    error: ProviderError | None
    latency_ms: float
    attempts: int
    first_byte_ms: float | None = None

    @property
    def cost_source(self) -> str:
        """Who says what it cost."""
        if self.answer is not None:
            return self.answer.cost_source
        return "unknown" if self.cost_usd is None else "computed"

    @property
    def cost_usd(self) -> Decimal | None:
        """What it cost in US dollars; None when that is not known."""
        if self.answer is not None:
            return self.answer.cost_usd
        error = self.error
        if error is None or not self.attempts or error.is_retryable:
            return Decimal(0)
        return None if error.code in MAY_HAVE_GENERATED else Decimal(0)


class CallProgress(Protocol):
    """Where somebody can see how far a call has come.

    Attributes:
        attempts: How often the model was asked.
        is_asking: A model is being asked, or may have generated something; between two attempts
            it is not.
    """

    attempts: int
    is_asking: bool


class CallStoppedError(Exception):
    """A call was not made again, since nobody wants its answer any more."""


async def call_model(
    chat: ChatProvider,
    target: ChatTarget,
    messages: Sequence[Mapping[str, Any]],
    params: Mapping[str, Any],
    *,
    retries: int,
    longest_wait_seconds: float = LONGEST_WAIT_SECONDS,
    stopped: asyncio.Event | None = None,
    endpoint: EndpointHealth | None = None,
    meter: CallMeter | None = None,
    progress: CallProgress | None = None,
) -> CallOutcome:
    """Ask a model, again after failures in which nothing was generated.

    Waits grow exponentially with full jitter, and are never shorter than the
    provider's Retry-After; one that asks for more than *longest_wait_seconds*
    is not asked again. Once *stopped* is set, nobody is. An *endpoint* that is to be left alone
    is waited for, before the first time too. A *meter* is told each time how it went, and
    *progress* is kept, also when the caller is cancelled.

    Raises:
        CallStoppedError: *stopped* was set while it waited to ask again.

    Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    attempts = 0
    while True:
        refusal = None
        if endpoint is not None and not endpoint.is_clear():
            refusal = await _find_refusal(endpoint)
        if refusal is not None:
            if meter is not None:
                meter.note(target, None, refusal, None)
            return CallOutcome(None, refusal, 0.0, attempts)
        if stopped is not None and stopped.is_set():
            raise CallStoppedError
        attempts += 1
        outcome = await _ask(chat, target, messages, params, attempts, endpoint, meter, progress)
        error = outcome.error
        if endpoint is not None and not (error is None and endpoint.is_clear()):
            await endpoint.note(error)
        if error is None:
            return outcome
        wait = wait_seconds(error, attempts)
        if not error.is_retryable or attempts > retries or wait > longest_wait_seconds:
            return outcome
        if await wait_for_event(stopped, wait):
            raise CallStoppedError


async def _find_refusal(endpoint: EndpointHealth) -> ProviderError | None:
    """Wait until an endpoint may be called; return why that is of no use, if it is not."""
    try:
        await endpoint.wait()
    except ProviderError as refusal:
        return refusal
    return None


async def _ask(
    chat: ChatProvider,
    target: ChatTarget,
    messages: Sequence[Mapping[str, Any]],
    params: Mapping[str, Any],
    attempts: int,
    endpoint: EndpointHealth | None,
    meter: CallMeter | None,
    progress: CallProgress | None,
) -> CallOutcome:
    answer: ChatAnswer | None = None
    error: ProviderError | None = None
    if progress is not None:
        progress.attempts = attempts
        progress.is_asking = True
    began = time.perf_counter()
    try:
        answer = await chat.complete(target, messages, params)
    except ProviderError as failure:
        error = failure
    finally:
        seconds = time.perf_counter() - began
        if answer is None and error is None:  # its caller went away meanwhile
            error = ProviderError(ProviderErrorCode.CANCELLED, "nobody waits for it")
            if endpoint is not None:
                endpoint.leave()
        if meter is not None:
            meter.note(target, answer, error, seconds)
    if progress is not None and error is not None and error.code not in MAY_HAVE_GENERATED:
        progress.is_asking = False
    return CallOutcome(answer, error, seconds * 1000, attempts)


def wait_seconds(error: ProviderError, attempts: int) -> float:
    """Return how long to wait after an attempt that failed, in seconds."""
    backoff = random.uniform(0, BACKOFF_SECONDS * 2 ** (attempts - 1))  # noqa: S311 - jitter
    return max(backoff, error.retry_after_seconds or 0.0)


class CallSubject(NamedTuple):
    """What a call was made for."""

    workspace_id: UUID
    leaderboard_id: UUID
    candidate_id: UUID
    source: Literal["run", "inference", "shadow"]
    run_id: UUID | None
    token_id: UUID | None
    model: str
    price_version: int | None = None


def trace_values(
    trace_id: UUID,
    subject: CallSubject,
    target: ChatTarget,
    outcome: CallOutcome,
    *,
    input: str | None,
    messages: Sequence[Mapping[str, Any]],
    expected: str | None = None,
    score: float | None = None,
    metadata: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the columns of the trace of a call."""
    answer, error = outcome.answer, outcome.error
    return {
        "id": trace_id,
        "workspace_id": subject.workspace_id,
        "leaderboard_id": subject.leaderboard_id,
        "run_id": subject.run_id,
        "candidate_id": subject.candidate_id,
        "token_id": subject.token_id,
        "source": subject.source,
        "status": _status(error),
        "provider": target.provider,
        "model": subject.model,
        "input": input,
        "messages": list(messages),
        "output": answer.output if answer else None,
        "expected": expected,
        "score": score,
        "error": error.summary if error else None,
        "latency_ms": outcome.latency_ms,
        "prompt_tokens": answer.prompt_tokens if answer else None,
        "completion_tokens": answer.completion_tokens if answer else None,
        "first_byte_ms": outcome.first_byte_ms,
        "cost_usd": outcome.cost_usd,
        "cost_source": outcome.cost_source,
        "price_version": subject.price_version,
        "trace_metadata": {**metadata, "attempts": outcome.attempts},
        "created_at": instant_of(trace_id),
    }


def _status(error: ProviderError | None) -> str:
    if error is None:
        return "ok"
    return "cancelled" if error.code is ProviderErrorCode.CANCELLED else "error"


@dataclass(frozen=True, slots=True)
class CallResult:
    """What came of one call of a run: the columns of its trace, and of its result.

    Attributes:
        released_usd: What it did not cost of what was set aside for it, in US dollars.
    """

    trace: dict[str, Any]
    result: dict[str, Any]
    released_usd: Decimal = Decimal(0)
