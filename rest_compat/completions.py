"""Answers of production as OpenAI's chat completions, and the headers that go with them."""

import re
import time
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from db.models import Candidate
from db.records import Row
from engine.instants import rfc3339
from engine.money import plain_usd
from resolvers.answer_streams import AnswerStream
from resolvers.budgets import Budget
from resolvers.inference import InferenceAnswer
from resolvers.reservations import Rate, TokenState

BUDGET_PREFIX = "X-Dr.Gero-Token-Budget"
BUDGET_NAMES = ("Limit-Usd", "Used-Usd", "Remaining-Usd", "Reset-At")
UNLIMITED = {f"{BUDGET_PREFIX}-{name}": "unlimited" for name in BUDGET_NAMES}
# A header that holds one is not sent, nor is the answer.
CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
# The fields of a completion that the endpoint's own word counts for.
OWN_FIELDS = ("id", "created", "model", "choices", "usage", "system_fingerprint", "service_tier")


def completion_of(answer: InferenceAnswer) -> dict[str, Any]:
    """Return the endpoint's own completion, or one made of its output."""
    given = answer.completion or {}
    own = {name: given[name] for name in OWN_FIELDS if name in given}
    if "choices" not in own:
        message = {"role": "assistant", "content": answer.output}
        own["choices"] = [{"index": 0, "message": message, "finish_reason": "stop"}]
    if "usage" not in own:
        own["usage"] = usage_of(answer.prompt_tokens, answer.completion_tokens)
    return {
        "id": f"chatcmpl-{answer.trace_id}",
        "created": int(time.time()),
        "model": model_name(answer.candidate),
        **own,
        "object": "chat.completion",
    }


def usage_of(prompt_tokens: int | None, completion_tokens: int | None) -> dict[str, int] | None:
    """Return a completion's usage, or None when it is not known."""
    if prompt_tokens is None or completion_tokens is None:
        return None
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def model_name(candidate: Row | Candidate) -> str:
    """Return the provider's name for a model, or else the leaderboard's."""
    name: str = candidate.model_id or candidate.display_name
    return name


def answer_headers(answer: InferenceAnswer) -> dict[str, str]:
    """Return the headers of an answer: who gave it, and what is left of the token's limits."""
    return {
        **_origin(answer.trace_id, answer.candidate),
        **_failed(answer.failed),
        **_budget_headers(answer.budget),
        **rate_headers(answer.limits),
    }


def stream_headers(stream: AnswerStream) -> dict[str, str]:
    """Return the headers of an answer that comes in parts: the limits are as it began."""
    call = stream.call
    state = call.reservations[0].state if call.reservations else None
    failed = [(model.name, error.summary) for model, error in call.failed]
    return {
        **_origin(call.id, stream.model.candidate),
        **_failed(failed),
        **_budget_headers(call.budget()),
        **rate_headers(state),
    }


def _origin(trace_id: UUID, candidate: Row | Candidate) -> dict[str, str]:
    return {
        "X-Dr.Gero-Trace-Id": str(trace_id),
        "X-Dr.Gero-Selected-Model": _header_value(model_name(candidate)),
        "X-Dr.Gero-Selected-Provider": candidate.provider,
    }


def _header_value(text: str) -> str:
    """Return *text* as a header may have it: what names a model or a fault may be anything."""
    return CONTROLS.sub(" ", text).encode("ascii", "backslashreplace").decode()


def _failed(failed: Any) -> dict[str, str]:
    """Return who failed before another model answered, and why."""
    if not failed:
        return {}
    model, reason = failed[-1]
    return {"X-Dr.Gero-Fallback-Reason": _header_value(f"{model}: {reason}")}


def _budget_headers(budget: Budget | None) -> Mapping[str, str]:
    if budget is None:
        return UNLIMITED
    return {
        f"{BUDGET_PREFIX}-Limit-Usd": plain_usd(budget.limit_usd),
        f"{BUDGET_PREFIX}-Used-Usd": plain_usd(budget.used_usd),
        f"{BUDGET_PREFIX}-Remaining-Usd": plain_usd(budget.remaining_usd),
        f"{BUDGET_PREFIX}-Reset-At": rfc3339(budget.reset_at) if budget.reset_at else "never",
    }


def rate_headers(state: TokenState | None) -> dict[str, str]:
    """Return what is left of a token's rates, in the headers that OpenAI's clients know.

    Source: https://platform.openai.com/docs/guides/rate-limits, "Rate limits in headers".
    """
    if state is None:
        return {}
    rates = {"requests": state.requests, "tokens": state.tokens}
    return {
        name: value
        for kind, rate in rates.items()
        if rate is not None
        for name, value in _rate_headers(kind, rate)
    }


def _rate_headers(kind: str, rate: Rate) -> list[tuple[str, str]]:
    return [
        (f"X-RateLimit-Limit-{kind.capitalize()}", str(rate.limit)),
        (f"X-RateLimit-Remaining-{kind.capitalize()}", str(rate.left)),
        (f"X-RateLimit-Reset-{kind.capitalize()}", f"{rate.reset_seconds:.3f}s"),
    ]
