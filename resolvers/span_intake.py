"""Taking in spans over OTLP: decoded off the event loop, stored before they are acknowledged."""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ARRAY, Text, Uuid, bindparam, or_, select

from db.models import Leaderboard
from engine.inflate import Coding, InflateError, OversizeError, inflate
from engine.otlp import LEADERBOARD, ReadSpans, SpanTrace, read_spans, trace_uuid
from engine.otlp_spans import OtlpError
from engine.otlp_wire import OtlpEncoding, decode_request
from resolvers.admission import Admission
from resolvers.auth import Scope, requires
from resolvers.columns import kept_query
from resolvers.context import Context, Limits
from resolvers.errors import BodyTooLargeError, InvalidInputError
from resolvers.loaders.base import own_workspace
from resolvers.paging import AnySelect
from resolvers.redactors import count_characters
from resolvers.trace_intake import TraceBatch, find_time_fault, reported_trace

# A body of empty spans takes a hundred times its size when it is decoded, and nothing is gained
# by decoding more at once than there are processors for it; small ones don't wait for one large.
DECODED_AT_ONCE: Final = 2
# Those that wait hold their bodies, of a few megabytes each.
MAX_REQUESTS: Final = 16
# To hand so many to the driver takes some 10 ms, in which nobody else is served.
STORED_AT_ONCE: Final = 250
MAX_REASONS: Final = 5
SHOWN_CHARACTERS: Final = 100
COLUMNS: Final = (
    "status",
    "provider",
    "model",
    "input",
    "messages",
    "output",
    "error",
    "latency_ms",
    "prompt_tokens",
    "completion_tokens",
    "cost_usd",
)


@dataclass(frozen=True, slots=True)
class SpanRoom:
    """How many requests a process takes in at once, and how many of them it decodes."""

    admission: Admission = field(default_factory=lambda: Admission(MAX_REQUESTS))
    decoding: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(DECODED_AT_ONCE))


@dataclass(frozen=True, slots=True)
class SpanRequest:
    """A trace request as it was posted.

    Attributes:
        coding: How *body* is compressed; None when it is not.
        leaderboard: To which leaderboard, by its id or slug, calls belong that don't say so
            themselves; None for none.
    """

    body: bytes
    encoding: OtlpEncoding
    coding: Coding | None
    leaderboard: str | None


@dataclass(frozen=True, slots=True)
class SpanReceipt:
    """What became of a trace request; what it does not reject is stored.

    Attributes:
        rejected_count: Spans that are, or may be, model calls and were not taken.
        message: Why; empty when there are none.
    """

    rejected_count: int
    message: str


@requires(Scope.LEADERBOARDS_WRITE)
async def take_spans(ctx: Context, request: SpanRequest) -> SpanReceipt:
    """Store the model calls among the spans of a request, each once however often it is sent.

    Raises:
        InvalidInputError: The body can't be read; `details` name the field.
        BodyTooLargeError: It is too large, once it is inflated.
        UnavailableError: As many requests as there is room for are under way.
    """
    room = ctx.services.span_room
    room.admission.enter()
    try:
        async with room.decoding:
            read = await asyncio.to_thread(_read, request, ctx.services.limits)
        boards = await _find_boards(ctx, request, read.traces)
        batches, reasons = await asyncio.to_thread(_batches_of, ctx, request, read.traces, boards)
        await asyncio.gather(*[await ctx.services.trace_batches.offer(each) for each in batches])
    finally:
        room.admission.leave()
    told = [*filter(None, [read.message]), *reasons[:MAX_REASONS]]
    return SpanReceipt(read.rejected_count + len(reasons), "; ".join(told))


def _read(request: SpanRequest, limits: Limits) -> ReadSpans:
    body, max_bytes = request.body, limits.otlp_max_bytes
    try:
        if request.coding is not None:
            body = inflate(body, request.coding, max_bytes=max_bytes)
        if len(body) > max_bytes:
            raise BodyTooLargeError(f"the body is over the limit of {max_bytes} bytes")
        wire = decode_request(body, request.encoding, max_spans=limits.otlp_max_spans)
    except OversizeError as error:
        raise BodyTooLargeError(str(error)) from error
    except InflateError as error:
        raise InvalidInputError(str(error)) from error
    except OtlpError as error:
        fields = [{"field": error.field, "message": error.reason}]
        raise InvalidInputError(str(error), details={"fields": fields}) from error
    return read_spans(wire)


async def _find_boards(
    ctx: Context, request: SpanRequest, spans: Iterable[SpanTrace]
) -> Mapping[str, UUID]:
    """Return the leaderboards of the workspace that are named, by their names."""
    named = {span.leaderboard or request.leaderboard for span in spans} - {None}
    ids: dict[str, UUID] = {}
    slugs: list[str] = []
    for name in filter(None, named):
        with suppress(ValueError):
            ids[name] = UUID(name)
            continue
        slugs.append(name)
    if not named:
        return {}
    query = kept_query(_write_boards)
    rows = await ctx.database.fetch(
        query, workspace_id=ctx.workspace_id, ids=list(ids.values()), slugs=slugs
    )
    known = {row.id for row in rows}
    return {row.slug: row.id for row in rows} | {
        name: each for name, each in ids.items() if each in known
    }


def _write_boards() -> AnySelect:
    return select(Leaderboard.id, Leaderboard.slug).where(
        own_workspace(Leaderboard.workspace_id),
        Leaderboard.deleted_at.is_(None),
        or_(
            Leaderboard.id == bindparam("ids", type_=ARRAY(Uuid())).any_(),
            Leaderboard.slug == bindparam("slugs", type_=ARRAY(Text())).any_(),
        ),
    )


def _batches_of(
    ctx: Context, request: SpanRequest, spans: Iterable[SpanTrace], boards: Mapping[str, UUID]
) -> tuple[list[TraceBatch], list[str]]:
    """Return the traces that can be taken, and why others can't."""
    traces: list[dict[str, Any]] = []
    reasons: list[str] = []
    for span in spans:
        name = span.leaderboard or request.leaderboard
        fault = find_time_fault(ctx, "startTimeUnixNano", span.started_at)
        if name is not None and name not in boards:
            fault = f"{LEADERBOARD}: the workspace has no leaderboard {name[:SHOWN_CHARACTERS]!r}"
        if fault is not None:
            reasons.append(f"span {span.span_id}: {fault}")
        else:
            traces.append(_trace_of(ctx, span, boards[name] if name is not None else None))
    parts = [
        traces[start : start + STORED_AT_ONCE] for start in range(0, len(traces), STORED_AT_ONCE)
    ]
    return [TraceBatch(part, sum(map(count_characters, part))) for part in parts], reasons


def _trace_of(ctx: Context, span: SpanTrace, leaderboard_id: UUID | None) -> dict[str, Any]:
    return reported_trace(
        ctx,
        trace_uuid(ctx.workspace_id, span.trace_id, span.span_id, span.started_at),
        **{name: getattr(span, name) for name in COLUMNS},
        leaderboard_id=leaderboard_id,
        trace_metadata={
            **span.metadata,
            "otel.trace_id": span.trace_id,
            "otel.span_id": span.span_id,
        },
    )
