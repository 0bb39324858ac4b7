"""/v1/leaderboard/{leaderboard_id}/inference, and its alias under /api."""

import time
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Response

from engine.instants import rfc3339
from engine.money import plain_usd
from resolvers import inference
from resolvers.budgets import Budget
from resolvers.inference import InferenceAnswer
from resolvers.inference_request import InferenceRequest
from rest_compat.deps import Ctx, NewId, RepeatableRoute
from rest_compat.shapes import InferenceShape

router = APIRouter(tags=["inference"], route_class=RepeatableRoute)


@router.post(
    "/v1/leaderboard/{leaderboard_id}/inference",
    operation_id="infer",
    response_model=InferenceShape,
)
@router.post(
    "/api/leaderboards/{leaderboard_id}/inference",
    operation_id="inferAlias",
    response_model=InferenceShape,
)
async def infer(
    ctx: Ctx, leaderboard_id: UUID, body: InferenceRequest, response: Response, new_id: NewId
) -> dict[str, Any]:
    """Answer with the model in production; the trace is stored before the answer is sent."""
    answer = await inference.infer(
        ctx, leaderboard_id, body, id=new_id, metadata={"request_id": ctx.request_id}
    )
    response.headers.update(_headers(answer))
    return _completion(answer)


def _completion(answer: InferenceAnswer) -> dict[str, Any]:
    """Return the endpoint's own completion, or one made of its output, with our fields."""
    model = answer.candidate.model_id or answer.candidate.display_name
    known = (answer.prompt_tokens, answer.completion_tokens)
    message = {"role": "assistant", "content": answer.output}
    made = {
        "id": f"chatcmpl-{answer.trace_id}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": None
        if None in known
        else {
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": answer.completion_tokens,
            "total_tokens": sum(filter(None, known)),
        },
    }
    own = {name: value for name, value in (answer.completion or {}).items() if name in made}
    return {
        **made,
        **own,
        "object": "chat.completion",
        "output": answer.output,
        "trace_id": answer.trace_id,
        "leaderboard_id": answer.leaderboard_id,
        "cost_usd": answer.cost_usd,
        "latency_ms": answer.latency_ms,
    }


def _headers(answer: InferenceAnswer) -> dict[str, str]:
    model = answer.candidate.model_id or answer.candidate.display_name
    return {
        "X-Dr.Gero-Trace-Id": str(answer.trace_id),
        # Header values are Latin-1; a model's name may be anything.
        "X-Dr.Gero-Selected-Model": model.encode("ascii", "backslashreplace").decode(),
        "X-Dr.Gero-Selected-Provider": answer.candidate.provider,
        **_budget_headers(answer.budget),
    }


def _budget_headers(budget: Budget | None) -> dict[str, str]:
    prefix = "X-Dr.Gero-Token-Budget"
    if budget is None:
        names = ("Limit-Usd", "Used-Usd", "Remaining-Usd", "Reset-At")
        return {f"{prefix}-{name}": "unlimited" for name in names}
    return {
        f"{prefix}-Limit-Usd": plain_usd(budget.limit_usd),
        f"{prefix}-Used-Usd": plain_usd(budget.used_usd),
        f"{prefix}-Remaining-Usd": plain_usd(budget.remaining_usd),
        f"{prefix}-Reset-At": rfc3339(budget.reset_at) if budget.reset_at else "never",
    }
