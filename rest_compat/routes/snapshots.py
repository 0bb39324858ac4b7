"""/v1/leaderboard/{leaderboard_id}/dataset: consolidating it, and downloading what came of it."""

import re
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response, StreamingResponse

from resolvers import consolidation, due_datasets, exports
from resolvers.context import Context
from resolvers.downloads import Download
from resolvers.exports import Export, ExportFormat, ExportSplit
from rest_compat.dataset_shapes import (
    ConsolidationShape,
    DueDatasetShape,
    DueDatasetsShape,
    SnapshotShape,
)
from rest_compat.deps import Ctx, RepeatableRoute, operator_context
from rest_compat.routes.pushes import DATASET
from rest_compat.streaming import begun, gzipped, takes_gzip

router = APIRouter(tags=["datasets"], route_class=RepeatableRoute)
operators = APIRouter(tags=["datasets"])

JSON_LINES = "application/x-ndjson"
# Source: IANA's registry of media types.
PARQUET = "application/vnd.apache.parquet"
LEAKING_ROWS = "X-Dr.Gero-Leaking-Rows"
SKIPPED_ROWS = "X-Dr.Gero-Skipped-Rows"
# One range of bytes, as players and download managers ask for; of several the whole is sent, and
# of numbers that no size comes near to.
RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
DOWNLOAD: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The rows, one JSON object a line, or a Parquet file. `ETag` names their "
        "bytes; that of all rows as jsonl is the content's SHA-256.",
        "content": {
            JSON_LINES: {"schema": {"type": "string"}},
            PARQUET: {"schema": {"type": "string", "format": "binary"}},
        },
    },
    206: {"description": "The bytes that `Range` asks for, of all rows as jsonl."},
    304: {"description": "The client has it: `If-None-Match` names it."},
    416: {"description": "`Range` lies behind the last byte."},
}


@router.post(f"{DATASET}/consolidate", operation_id="consolidateDataset")
async def consolidate(ctx: Ctx, leaderboard_id: UUID) -> ConsolidationShape:
    """Make a snapshot of the pending rows and edits now; with nothing pending, say so."""
    made = await consolidation.consolidate_dataset(ctx, leaderboard_id)
    return ConsolidationShape(
        status="consolidated" if made.is_new else "nothing_pending",
        snapshot=None if made.snapshot is None else SnapshotShape.model_validate(made.snapshot),
    )


@router.get(
    DATASET,
    operation_id="downloadDataset",
    responses=DOWNLOAD,
    response_class=StreamingResponse,
)
async def download(
    ctx: Ctx,
    request: Request,
    leaderboard_id: UUID,
    snapshot: Annotated[
        int | None, Query(ge=1, le=2**31 - 1, description="Its number; the newest when left out.")
    ] = None,
    format: Annotated[
        ExportFormat,
        Query(
            description="`jsonl`: the rows as they are stored. `openai`: examples for fine-tuning "
            "a chat model. `parquet`: a table."
        ),
    ] = ExportFormat.JSONL,
    split: Annotated[
        ExportSplit,
        Query(
            description="Rows of both sides, or of one; the training side is without rows that "
            "are near to a validation row."
        ),
    ] = ExportSplit.ALL,
) -> Response:
    """Stream a snapshot's rows, as JSON lines or in another format: the same bytes for ever."""
    export = await exports.open_export(ctx, leaderboard_id, snapshot, format=format, split=split)
    if format is ExportFormat.JSONL and split is ExportSplit.ALL:
        return await _stored_lines(request, export.download)
    return await _made_file(ctx, request, export)


async def _stored_lines(request: Request, found: Download) -> Response:
    """Answer with the lines as they are stored, which have a size and can be read in parts."""
    tag = found.snapshot.content_sha256
    headers = {"ETag": f'"{tag}"', "Accept-Ranges": "bytes", "Vary": "Accept-Encoding"}
    if _knows(request.headers.get("if-none-match", ""), tag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    size = found.snapshot.size_bytes
    part = _asked_range(request, tag, size)
    if part is not None:
        return await _part(found, part, size, headers)
    chunks = await begun(found.stream())
    if takes_gzip(request):
        headers |= {"Content-Encoding": "gzip", "ETag": f'W/"{tag}"'}
        chunks = gzipped(chunks)
    else:
        headers["Content-Length"] = str(size)
    return StreamingResponse(chunks, headers=headers, media_type=JSON_LINES)


async def _made_file(ctx: Context, request: Request, export: Export) -> Response:
    """Answer with a file that is made while it is sent.

    Nobody waits for a million rows before the first byte, and no disk has to hold them. What
    goes wrong after the first bytes breaks the answer off, and a Parquet file without its end
    is none.
    """
    headers = {"ETag": f'"{export.tag}"', "Accept-Ranges": "none", "Vary": "Accept-Encoding"}
    if _knows(request.headers.get("if-none-match", ""), export.tag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    rows = await export.read(ctx)
    counts = {LEAKING_ROWS: rows.leaking_row_count, SKIPPED_ROWS: rows.skipped_row_count}
    headers |= {name: str(count) for name, count in counts.items() if count is not None}
    chunks = await begun(rows.chunks)
    if export.format is ExportFormat.PARQUET:  # which is compressed
        return StreamingResponse(chunks, headers=headers, media_type=PARQUET)
    if takes_gzip(request):
        headers |= {"Content-Encoding": "gzip", "ETag": f'W/"{export.tag}"'}
        chunks = gzipped(chunks)
    return StreamingResponse(chunks, headers=headers, media_type=JSON_LINES)


def _knows(given: str, tag: str) -> bool:
    """Tell whether If-None-Match names the content, compressed or not."""
    named = {each.strip().removeprefix("W/").strip('"') for each in given.split(",")}
    return tag in named or "*" in named


def _asked_range(request: Request, tag: str, size: int) -> tuple[int, int] | None:
    """Return the bytes that are asked for, from the first up to the end; None for all of them.

    Source: RFC 9110, sections 14.1.2 and 13.1.5.
    """
    match = RANGE.fullmatch(request.headers.get("range", "").replace(" ", ""))
    condition = request.headers.get("if-range", f'"{tag}"')
    if match is None or condition != f'"{tag}"' or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        return max(size - int(last), 0), size
    return int(first), min(int(last) + 1, size) if last else size


async def _part(
    found: Download, part: tuple[int, int], size: int, headers: dict[str, str]
) -> Response:
    start, end = part
    if start >= size or start >= end:
        headers["Content-Range"] = f"bytes */{size}"
        return Response(status_code=HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers=headers)
    headers |= {
        "Content-Range": f"bytes {start}-{end - 1}/{size}",
        "Content-Length": str(end - start),
    }
    return StreamingResponse(
        await begun(found.stream(start, end)),
        status_code=HTTPStatus.PARTIAL_CONTENT,
        headers=headers,
        media_type=JSON_LINES,
    )


@operators.post("/api/push-datasets/consolidate-due", operation_id="consolidateDueDatasets")
async def consolidate_due(
    ctx: Annotated[Context, Depends(operator_context)],
) -> DueDatasetsShape:
    """Consolidate every pushed dataset that is due, once; for the deployment's own scheduler."""
    found = await due_datasets.consolidate_due_datasets(ctx)
    return DueDatasetsShape(
        consolidated=[
            SnapshotShape.model_validate(each.snapshot) for each in found if each.snapshot
        ],
        skipped=[DueDatasetShape.model_validate(each) for each in found if each.skipped],
    )
