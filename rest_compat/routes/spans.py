"""/v1/otlp/traces: spans, as OpenTelemetry's exporters send them."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from engine.otlp_wire import OtlpEncoding
from resolvers.failures import explain_failure
from resolvers.span_intake import SpanRequest, take_spans
from rest_compat.deps import build_context
from rest_compat.otlp_answers import (
    OTLP_PATHS,
    check_media_type,
    coding_of,
    encoding_of,
    failure_response,
    receipt_response,
)
from rest_compat.trace_shapes import SpansAnswer

router = APIRouter(tags=["traces"])

LEADERBOARD_HEADER = "X-Dr.Gero-Leaderboard-Id"
PATH, BASED_PATH = OTLP_PATHS
EXAMPLE = {
    "resourceSpans": [
        {
            "scopeSpans": [
                {
                    "spans": [
                        {
                            "traceId": "5b8efff798038103d269b633813fc60c",
                            "spanId": "eee19b7ec3c1b174",
                            "name": "chat gpt-4o",
                            "startTimeUnixNano": "1795680000000000000",
                            "endTimeUnixNano": "1795680001500000000",
                            "attributes": [
                                {
                                    "key": "gen_ai.operation.name",
                                    "value": {"stringValue": "chat"},
                                }
                            ],
                        }
                    ]
                }
            ]
        }
    ]
}
BINARY = {"type": "string", "format": "binary"}
DESCRIBED: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "An ExportTraceServiceRequest; compressed, if Content-Encoding says gzip "
        "or deflate.",
        "content": {
            "application/json": {"schema": {"type": "object"}, "example": EXAMPLE},
            "application/x-protobuf": {"schema": BINARY},
        },
    },
    "parameters": [
        {
            "name": LEADERBOARD_HEADER,
            "in": "header",
            "required": False,
            "description": "The leaderboard, by its id or slug, to which calls belong that have "
            "no attribute drgero.leaderboard_id.",
            "schema": {"type": "string"},
        }
    ],
}
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "What is not rejected is stored.",
        "model": SpansAnswer,
        "content": {"application/x-protobuf": {"schema": BINARY}},
    }
}


@router.post(
    PATH,
    operation_id="exportSpans",
    response_class=Response,
    responses=ANSWERS,
    openapi_extra=DESCRIBED,
)
@router.post(
    BASED_PATH,
    operation_id="exportSpansAlias",
    response_class=Response,
    responses=ANSWERS,
    openapi_extra=DESCRIBED,
)
async def export_spans(request: Request) -> Response:
    """Store the model calls among spans, over OTLP/HTTP; spans of anything else are skipped."""
    body = await request.body()
    encoding = encoding_of(request.headers)
    try:
        receipt = await _take(request, body, encoding)
    except Exception as error:  # noqa: BLE001 - told in OTLP's form, and logged
        explained = explain_failure(error, request.scope.get("request_id", ""))
        return failure_response(explained, encoding)
    return receipt_response(receipt, encoding)


async def _take(request: Request, body: bytes, encoding: OtlpEncoding) -> Any:
    ctx = await build_context(request)
    check_media_type(request.headers)
    spans = SpanRequest(
        body,
        encoding,
        coding=coding_of(request.headers),
        leaderboard=request.headers.get(LEADERBOARD_HEADER) or None,
    )
    return await take_spans(ctx, spans)
