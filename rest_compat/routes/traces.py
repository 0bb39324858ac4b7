"""/v1/leaderboard/{leaderboard_id}/traces, and its alias under /api."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from fastapi import APIRouter, Query, Request
from starlette.responses import StreamingResponse

from db.records import Row
from resolvers import traces
from resolvers.traces import TraceListing
from resolvers.where import TraceFilter
from rest_compat.deps import Ctx, Offset
from rest_compat.shapes import TraceList, TraceShape

router = APIRouter(tags=["traces"])

NDJSON = "application/x-ndjson"
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Traces, newest first: one JSON object a line, or one JSON object.",
        "content": {
            NDJSON: {"schema": {"type": "string", "description": "A TraceShape a line, as JSON."}},
            "application/json": {"schema": {"$ref": "#/components/schemas/TraceList"}},
        },
    }
}


@router.get(
    "/v1/leaderboard/{leaderboard_id}/traces",
    operation_id="listTraces",
    responses=ANSWERS,
    response_class=StreamingResponse,
)
@router.get(
    "/api/leaderboards/{leaderboard_id}/traces",
    operation_id="listTracesAlias",
    responses=ANSWERS,
    response_class=StreamingResponse,
)
async def list_traces(
    ctx: Ctx,
    request: Request,
    leaderboard_id: UUID,
    limit: Annotated[int, Query(ge=1, le=1000, description="Traces at most.")] = 100,
    offset: Offset = 0,
    source: Literal["run", "inference", "dataset", "manual"] | None = None,
    run_id: UUID | None = None,
    format: Literal["jsonl", "ndjson", "json"] = "jsonl",
    batch_limit: Annotated[int, Query(ge=1, le=100, description="UTC days to scan.")] = 25,
) -> StreamingResponse:
    """Stream a leaderboard's traces, newest first, from its newest days with traces."""
    listing = await traces.open_trace_listing(
        ctx,
        leaderboard_id,
        where=TraceFilter(source=source, run_id=run_id),
        limit=limit,
        offset=offset,
        batch_limit=batch_limit,
    )
    if format != "json":
        return StreamingResponse(_lines(listing), media_type=NDJSON)
    head = TraceList(
        leaderboard_id=leaderboard_id,
        traces_url=str(request.url.replace(query="")),
        count=0,
        limit=limit,
        offset=offset,
        batch_count=listing.batch_count,
        scanned_rows=0,
        rows=[],
    )
    return StreamingResponse(_document(listing, head), media_type="application/json")


def _encode(trace: Row) -> bytes:
    return orjson.dumps(TraceShape.model_validate(trace).model_dump(mode="json"))


async def _lines(listing: TraceListing) -> AsyncIterator[bytes]:
    async for batch in listing.batches:
        yield b"".join(_encode(trace) + b"\n" for trace in batch)


async def _document(listing: TraceListing, head: TraceList) -> AsyncIterator[bytes]:
    """Stream one JSON object; its counts come last, when they are known."""
    fields = head.model_dump(mode="json", exclude={"rows", "count", "scanned_rows"})
    yield orjson.dumps(fields)[:-1] + b',"rows":['
    count = 0
    async for batch in listing.batches:
        yield (b"," if count else b"") + b",".join(map(_encode, batch))
        count += len(batch)
    scanned = head.offset + count if count else 0
    yield b'],"count":%d,"scanned_rows":%d}' % (count, scanned)
