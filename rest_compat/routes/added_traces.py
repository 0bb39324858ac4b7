"""POST /v1/leaderboard/{leaderboard_id}/traces, and its alias under /api."""

import asyncio
from http import HTTPStatus
from typing import Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Request

from resolvers import reported_traces
from resolvers.errors import BodyTooLargeError
from resolvers.inputs import MAX_TRACES, NewTrace, NewTraces
from rest_compat.deps import Ctx, NewId, RepeatableRoute
from rest_compat.problems import not_an_object, not_json
from rest_compat.trace_shapes import AddedTraceShape, AddedTracesShape

router = APIRouter(tags=["traces"], route_class=RepeatableRoute)

# To check so much takes a few milliseconds.
SMALL_BYTES = 64 * 1024
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "anyOf": [
                        {"$ref": "#/components/schemas/NewTrace"},
                        {"$ref": "#/components/schemas/NewTraces"},
                    ]
                },
                "example": {"input": "What is 2 + 2?", "output": "4", "model": "gpt-4o"},
            }
        },
    }
}


@router.post(
    "/v1/leaderboard/{leaderboard_id}/traces",
    operation_id="addTraces",
    status_code=HTTPStatus.CREATED,
    openapi_extra=BODY,
)
@router.post(
    "/api/leaderboards/{leaderboard_id}/traces",
    operation_id="addTracesAlias",
    status_code=HTTPStatus.CREATED,
    openapi_extra=BODY,
)
async def add_traces(
    ctx: Ctx, request: Request, leaderboard_id: UUID, new_id: NewId
) -> AddedTracesShape:
    """Store model calls that were made elsewhere, all of them or none."""
    body = await request.body()
    if len(body) > SMALL_BYTES:
        reported = await asyncio.to_thread(_read, body)
    else:
        reported = _read(body)
    added = await reported_traces.add_traces(ctx, leaderboard_id, reported, id=new_id)
    new_count = sum(each.is_new for each in added)
    return AddedTracesShape(
        leaderboard_id=leaderboard_id,
        added=new_count,
        duplicates=len(added) - new_count,
        traces=[AddedTraceShape.model_validate(each) for each in added],
    )


def _read(body: bytes) -> list[NewTrace]:
    """Return the traces in a body.

    Raises:
        InvalidInputError: It is no JSON object.
        ValidationError: A trace breaks a rule.
        BodyTooLargeError: There are too many.
    """
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise not_json(error.msg) from error
    if not isinstance(payload, dict):
        raise not_an_object()
    if "traces" not in payload:
        return [NewTrace.model_validate(payload)]
    traces = payload["traces"]
    if isinstance(traces, list) and len(traces) > MAX_TRACES:
        raise BodyTooLargeError(f"a request has {MAX_TRACES} traces at most, not {len(traces)}")
    return NewTraces.model_validate(payload).traces
