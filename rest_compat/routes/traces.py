"""/v1/leaderboard/{leaderboard_id}/traces, and its alias under /api; export and statistics."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from fastapi import APIRouter, Query, Request
from starlette.responses import StreamingResponse

from engine.instants import rfc3339
from resolvers import trace_stats, trace_streams
from resolvers.inputs import TraceStatsQuery, WrittenInstant
from resolvers.trace_filter import TraceSource
from resolvers.trace_streams import TraceListing, WholeTrace
from rest_compat.deps import Ctx, Offset
from rest_compat.shapes import TraceList, TraceShape, TraceStatsPointShape, TraceStatsShape
from rest_compat.streaming import begun, gzipped, takes_gzip
from rest_compat.trace_conditions import Conditions

router = APIRouter(tags=["traces"])

TRACES = "/v1/leaderboard/{leaderboard_id}/traces"
NDJSON = "application/x-ndjson"
# The fields of a trace, and the columns that they are read from.
COLUMNS = {
    name: str(field.validation_alias or name) for name, field in TraceShape.model_fields.items()
}
LINES = {NDJSON: {"schema": {"type": "string", "description": "A TraceShape a line, as JSON."}}}
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Traces, newest first: one JSON object a line, or one JSON object.",
        "content": {
            **LINES,
            "application/json": {"schema": {"$ref": "#/components/schemas/TraceList"}},
        },
    }
}
EXPORTED: dict[int | str, dict[str, Any]] = {
    200: {"description": "Traces: one JSON object a line.", "content": LINES}
}


@router.get(TRACES, operation_id="listTraces", responses=ANSWERS, response_class=StreamingResponse)
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
    where: Conditions,
    limit: Annotated[int, Query(ge=1, le=1000, description="Traces at most.")] = 100,
    offset: Offset = 0,
    format: Literal["jsonl", "ndjson", "json"] = "jsonl",
    batch_limit: Annotated[int, Query(ge=1, le=100, description="UTC days to scan.")] = 25,
) -> StreamingResponse:
    """Stream a leaderboard's traces, newest first, from its newest days with traces."""
    listing = await trace_streams.open_trace_listing(
        ctx,
        leaderboard_id,
        where=where,
        limit=limit,
        offset=offset,
        batch_limit=batch_limit,
    )
    if format != "json":
        return StreamingResponse(_lines(listing.batches), media_type=NDJSON)
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


@router.get(
    f"{TRACES}/export",
    operation_id="exportTraces",
    responses=EXPORTED,
    response_class=StreamingResponse,
)
async def export_traces(
    ctx: Ctx,
    request: Request,
    leaderboard_id: UUID,
    where: Conditions,
    order: Annotated[
        Literal["newest_first", "oldest_first"], Query(description="Which comes first.")
    ] = "newest_first",
) -> StreamingResponse:
    """Stream all traces of a leaderboard that the query admits."""
    batches = await trace_streams.open_trace_export(
        ctx, leaderboard_id, where=where, oldest_first=order == "oldest_first"
    )
    chunks = await begun(_lines(batches))
    headers = {"Vary": "Accept-Encoding"}
    if takes_gzip(request):
        headers["Content-Encoding"] = "gzip"
        chunks = gzipped(chunks)
    return StreamingResponse(chunks, headers=headers, media_type=NDJSON)


@router.get(f"{TRACES}/stats", operation_id="getTraceStats")
async def get_stats(
    ctx: Ctx,
    leaderboard_id: UUID,
    since: Annotated[
        WrittenInstant | None,
        Query(description="From the hour, or the UTC day, that this is in; a day before `until`."),
    ] = None,
    until: Annotated[
        WrittenInstant | None,
        Query(description="To the end of the hour, or the UTC day, under way then; now."),
    ] = None,
    interval: Annotated[Literal["hour", "day"], Query(description="What a point spans.")] = "hour",
    by: Annotated[
        Literal["none", "model", "source"], Query(description="What else tells points apart.")
    ] = "none",
    source: TraceSource | None = None,
    model: str | None = None,
) -> TraceStatsShape:
    """Return what a leaderboard's traces come to, by the hour or the day."""
    query = TraceStatsQuery.model_validate(
        {
            "since": since, "until": until, "interval": interval, "by": by, "source": source,
            "model": model,
        }
    )  # fmt: skip
    points = await trace_stats.get_leaderboard_stats(ctx, leaderboard_id, query)
    return TraceStatsShape(
        leaderboard_id=leaderboard_id,
        interval=interval,
        by=by,
        points=[TraceStatsPointShape.model_validate(point) for point in points],
    )


def encode_trace(trace: WholeTrace) -> bytes:
    """Return a trace as TraceShape writes it, in half the time: its fields are columns as they are.

    Exports are millions of them.
    """
    fields = {name: trace[column] for name, column in COLUMNS.items()}
    return orjson.dumps(fields, default=_plain, option=orjson.OPT_PASSTHROUGH_DATETIME)


def _plain(value: object) -> object:
    """Return what JSON has in place of *value*; the driver's ids are of its own kind."""
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, Decimal):
        return float(value)
    raise TypeError(type(value).__name__)


async def _lines(batches: AsyncIterator[Sequence[WholeTrace]]) -> AsyncIterator[bytes]:
    async for batch in batches:
        yield b"".join(encode_trace(trace) + b"\n" for trace in batch)


async def _document(listing: TraceListing, head: TraceList) -> AsyncIterator[bytes]:
    """Stream one JSON object; its counts come last, when they are known."""
    fields = head.model_dump(mode="json", exclude={"rows", "count", "scanned_rows"})
    yield orjson.dumps(fields)[:-1] + b',"rows":['
    count = 0
    async for batch in listing.batches:
        yield (b"," if count else b"") + b",".join(map(encode_trace, batch))
        count += len(batch)
    scanned = head.offset + count if count else 0
    yield b'],"count":%d,"scanned_rows":%d}' % (count, scanned)
