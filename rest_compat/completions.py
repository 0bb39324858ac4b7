"""Answers of production as OpenAI's chat completions, and the headers that go with them."""

import re
import time
from functools import lru_cache
from typing import Any
from uuid import UUID

import orjson
from starlette.responses import Response

from engine.instants import rfc3339
from engine.money import plain_usd
from resolvers.answer_streams import AnswerStream
from resolvers.budgets import Budget
from resolvers.errors import AppError
from resolvers.inference import InferenceAnswer
from resolvers.reservations import TokenState
from rest_compat.direct import RawHeaders
from rest_compat.problems import problem_response

# X-Dr.Gero-Token-Budget-...
BUDGET = (b"limit-usd", b"used-usd", b"remaining-usd", b"reset-at")
BUDGET_NAMES = [b"x-dr.gero-token-budget-" + name for name in BUDGET]
UNLIMITED = [(name, b"unlimited") for name in BUDGET_NAMES]
# Names of models, which are a leaderboard's few.
WRITTEN_NAMES = 1_024
# Of tokens, as they are now: the calls that are settled together share one.
WRITTEN_BUDGETS = 64
# A header that holds one is not sent, nor is the answer.
CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
# The fields of OpenAI's completions.
FIELDS = frozenset({
    "object", "id", "created", "model", "choices", "usage", "system_fingerprint", "service_tier",
})  # fmt: skip


def completion_of(answer: InferenceAnswer) -> dict[str, Any]:
    """Return the endpoint's own completion, or one made of its output; its own word counts."""
    completion = {**(answer.completion or {}), "object": "chat.completion"}
    if "id" not in completion:
        completion["id"] = f"chatcmpl-{answer.trace_id}"
    if "created" not in completion:
        completion["created"] = int(time.time())
    if "model" not in completion:
        completion["model"] = answer.model
    if "choices" not in completion:
        message = {"role": "assistant", "content": answer.output}
        completion["choices"] = [{"index": 0, "message": message, "finish_reason": "stop"}]
    if "usage" not in completion:
        completion["usage"] = usage_of(answer.prompt_tokens, answer.completion_tokens)
    return completion


def usage_of(prompt_tokens: int | None, completion_tokens: int | None) -> dict[str, int] | None:
    """Return a completion's usage, or None when it is not known."""
    if prompt_tokens is None or completion_tokens is None:
        return None
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def answer_headers(answer: InferenceAnswer) -> list[tuple[bytes, bytes]]:
    """Return the headers of an answer: who gave it, and what is left of the token's limits."""
    headers = _origin(answer.trace_id, answer.model, answer.provider)
    if answer.failed:
        headers.append(_failed(*answer.failed[-1]))
    headers += _budget_headers(answer.budget)
    headers += rate_headers(answer.limits)
    return headers


def stream_headers(stream: AnswerStream) -> list[tuple[bytes, bytes]]:
    """Return the headers of an answer that comes in parts: the limits are as it began."""
    call = stream.call
    headers = _origin(call.id, stream.model.name, stream.model.target.provider)
    if call.failed:
        model, error = call.failed[-1]
        headers.append(_failed(model.name, error.summary))
    headers += _budget_headers(call.budget())
    headers += rate_headers(call.reservations[0].state if call.reservations else None)
    return headers


def refuse_call(error: AppError, path: str = "") -> Response:
    """Return a failure as an answer, with what headers tell of where it leaves the caller."""
    response = problem_response(error, path)
    standing = error.standing
    if standing is not None:
        if standing.trace_id is not None:
            response.raw_headers.append(_trace_header(standing.trace_id))
        response.raw_headers += _budget_headers(standing.budget)
        response.raw_headers += rate_headers(standing.limits)
    return response


def _trace_header(trace_id: UUID) -> tuple[bytes, bytes]:
    # As `str` would write it, which takes longer.
    return b"x-dr.gero-trace-id", orjson.dumps(trace_id, default=str)[1:-1]


def _origin(trace_id: UUID, model: str, provider: str) -> list[tuple[bytes, bytes]]:
    return [
        _trace_header(trace_id),
        (b"x-dr.gero-selected-model", _written_name(model)),
        (b"x-dr.gero-selected-provider", provider.encode()),
    ]


def _header_value(text: str) -> bytes:
    """Return *text* as a header may have it: what names a model or a fault may be anything."""
    return CONTROLS.sub(" ", text).encode("ascii", "backslashreplace")


_written_name = lru_cache(maxsize=WRITTEN_NAMES)(_header_value)


def _failed(model: str, reason: str) -> tuple[bytes, bytes]:
    """Return who failed before another model answered, and why."""
    return b"x-dr.gero-fallback-reason", _header_value(f"{model}: {reason}")


@lru_cache(maxsize=WRITTEN_BUDGETS)
def _budget_headers(budget: Budget | None) -> RawHeaders:
    if budget is None:
        return UNLIMITED
    amounts = (budget.limit_usd, budget.used_usd, budget.remaining_usd)
    reset = rfc3339(budget.reset_at) if budget.reset_at else "never"
    values = [plain_usd(amount).encode() for amount in amounts]
    return list(zip(BUDGET_NAMES, (*values, reset.encode()), strict=True))


def rate_headers(state: TokenState | None) -> list[tuple[bytes, bytes]]:
    """Return what is left of a token's rates, in the headers that OpenAI's clients know.

    Source: https://platform.openai.com/docs/guides/rate-limits, "Rate limits in headers".
    """
    headers: list[tuple[bytes, bytes]] = []
    if state is not None:
        for kind, rate in ((b"requests", state.requests), (b"tokens", state.tokens)):
            if rate is not None:
                headers += (
                    (b"x-ratelimit-limit-" + kind, b"%d" % rate.limit),
                    (b"x-ratelimit-remaining-" + kind, b"%d" % rate.left),
                    (b"x-ratelimit-reset-" + kind, b"%.3fs" % rate.reset_seconds),
                )
    return headers
