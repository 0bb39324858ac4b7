"""/v1/leaderboard/{leaderboard_id}/dataset: pushing rows, push tokens, how the dataset stands."""

from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Body, Query, Request, Response

from resolvers import dataset_status, datasets, leaderboards, push, push_tokens
from resolvers.errors import InvalidInputError
from resolvers.inputs import NewPushToken, RevokedPushTokens
from rest_compat.dataset_shapes import (
    DatasetStatusShape,
    MadePushTokenShape,
    PushReceiptShape,
    PushTokenShape,
    RevokedPushTokensShape,
    SnapshotShape,
)
from rest_compat.deps import Ctx, NewId, RepeatableRoute

router = APIRouter(tags=["datasets"], route_class=RepeatableRoute)

DATASET = "/v1/leaderboard/{leaderboard_id}/dataset"
ROW = {
    "type": "object",
    "description": "A row: one of input, prompt, question, query and messages says what goes in; "
    "one of output, response, completion, answer and expected, what should come out; one of id, "
    "example_id and trace_id, which row it is. Also rubric, metadata and tags. Other fields are "
    "passed over.",
}
ROWS = {
    "type": "array",
    "description": "Rows; what is not one is rejected by itself, and the others are taken.",
    "items": {},
    "minItems": 1,
    "maxItems": push.MAX_ROWS,
}
PUSH_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "anyOf": [
                        ROW,
                        ROWS,
                        *(
                            {"type": "object", "required": [name], "properties": {name: ROWS}}
                            for name in ("rows", "events", "samples")
                        ),
                    ]
                },
                "example": {"rows": [{"id": "1", "input": "What is 2 + 2?", "output": "4"}]},
            }
        },
    }
}


@router.post(
    f"{DATASET}/push",
    operation_id="pushRows",
    status_code=HTTPStatus.ACCEPTED,
    response_model=PushReceiptShape,
    openapi_extra=PUSH_BODY,
)
@router.post(
    "/api/leaderboards/{leaderboard_id}/dataset/push",
    operation_id="pushRowsAlias",
    status_code=HTTPStatus.ACCEPTED,
    response_model=PushReceiptShape,
    openapi_extra=PUSH_BODY,
)
async def push_rows(ctx: Ctx, request: Request, leaderboard_id: UUID, new_id: NewId) -> Response:
    """Take rows into a dataset; those that the answer calls accepted are stored."""
    body = await request.body()
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInputError(f"the body is not valid JSON: {error}") from error
    receipt = await push.push_rows(ctx, leaderboard_id, payload, id=new_id, size_bytes=len(body))
    # As it is: made of the shape, FastAPI would check it by the shape again.
    return Response(
        PushReceiptShape.of(receipt).model_dump_json(),
        HTTPStatus.ACCEPTED,
        media_type="application/json",
    )


@router.get(f"{DATASET}/status", operation_id="getDatasetStatus")
async def get_status(ctx: Ctx, leaderboard_id: UUID) -> DatasetStatusShape:
    """Return how a dataset stands: its rows, quotas, consolidation, newest snapshot and tokens."""
    board = await leaderboards.get_leaderboard(ctx, leaderboard_id)
    status = await dataset_status.get_dataset_status(ctx, leaderboard_id)
    (snapshot,) = await datasets.find_latest_snapshots(ctx, [leaderboard_id])
    (tokens,) = await push_tokens.list_push_tokens(ctx, [leaderboard_id])
    return DatasetStatusShape.of(
        board,
        status,
        None if snapshot is None else SnapshotShape.model_validate(snapshot),
        [PushTokenShape.model_validate(token) for token in tokens],
    )


@router.post(f"{DATASET}/token", operation_id="createPushToken", status_code=HTTPStatus.CREATED)
async def create_token(ctx: Ctx, leaderboard_id: UUID, body: NewPushToken) -> MadePushTokenShape:
    """Create a token that pushes rows to this leaderboard; its secret is shown this once."""
    made = await push_tokens.create_push_token(ctx, leaderboard_id, body)
    shown = PushTokenShape.model_validate(made.token)
    return MadePushTokenShape(**shown.model_dump(), secret=made.secret)


@router.delete(f"{DATASET}/tokens", operation_id="revokePushTokens")
async def revoke_tokens(
    ctx: Ctx,
    leaderboard_id: UUID,
    token_id: Annotated[UUID | None, Query(description="One of them; else all.")] = None,
    body: Annotated[RevokedPushTokens | None, Body()] = None,
) -> RevokedPushTokensShape:
    """Revoke the leaderboard's push tokens, or the one that query or body names."""
    named = token_id or (body.token_id if body is not None else None)
    revoked = await push_tokens.revoke_push_tokens(ctx, leaderboard_id, named)
    return RevokedPushTokensShape(revoked=len(revoked))
