"""/v1/leaderboard/{leaderboard_id}/inference, and its alias under /api."""

from functools import lru_cache
from uuid import UUID

import orjson
from fastapi import APIRouter
from starlette.responses import Response

from resolvers import inference
from resolvers.errors import InvalidInputError
from resolvers.inference_request import InferenceRequest
from rest_compat.completions import FIELDS, answer_headers, completion_of
from rest_compat.direct import DirectAnswer, DirectRoute, Posted
from rest_compat.shapes import InferenceShape

router = APIRouter(tags=["inference"], route_class=DirectRoute)
INFER = "/v1/leaderboard/{leaderboard_id}/inference"
ALIAS = "/api/leaderboards/{leaderboard_id}/inference"
PATHS = r"/v1/leaderboard/(?P<leaderboard_id>[^/]+)/inference"
# Of leaderboards, as paths write them.
KNOWN_IDS = 1_024
ALIASES = r"/api/leaderboards/(?P<leaderboard_id>[^/]+)/inference"
# As `model_validate`, which looks at its own options first.
_read_request = InferenceRequest.__pydantic_validator__.validate_python


@router.post(INFER, operation_id="infer", name="infer")
@router.post(ALIAS, operation_id="inferAlias", name="infer")
async def infer(leaderboard_id: UUID, body: InferenceRequest) -> InferenceShape:  # type: ignore[empty-body]
    """Answer with the model in production; the trace is stored before the answer is sent."""


async def answer_inference(posted: Posted) -> Response:
    """Answer an inference."""
    answer = await inference.infer(
        posted.ctx,
        _read_id(posted.path["leaderboard_id"]),
        _read_request(posted.body),
        claim=posted.claim,
        metadata={"request_id": posted.ctx.request_id},
    )
    completion = completion_of(answer)
    body = {name: value for name, value in completion.items() if name in FIELDS}
    body["output"] = answer.output
    body["trace_id"] = answer.trace_id
    body["leaderboard_id"] = answer.leaderboard_id
    body["cost_usd"] = None if answer.cost_usd is None else float(answer.cost_usd)
    body["latency_ms"] = answer.latency_ms
    # An id of the driver's own kind is left to `str`.
    return DirectAnswer(orjson.dumps(body, default=str), answer_headers(answer))


@lru_cache(maxsize=KNOWN_IDS)
def _read_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        message = f"Input should be a valid UUID (got {text!r})"
        raise InvalidInputError(
            f"leaderboard_id: {message}",
            details={"fields": [{"field": "leaderboard_id", "message": message}]},
        ) from error
