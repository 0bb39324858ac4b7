"""Reported traces: model calls that clients tell of one by one, in our own form."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from db.base import instant_of, new_id
from engine.prompts import text_of_messages
from engine.trace_ids import derive_trace_id
from resolvers.auth import Scope, requires
from resolvers.context import Context
from resolvers.errors import InvalidInputError
from resolvers.inputs import NewTrace
from resolvers.leaderboards import fetch_leaderboard
from resolvers.redactors import count_characters
from resolvers.trace_intake import TraceBatch, find_time_fault, reported_trace

KEPT = (
    "output",
    "expected",
    "provider",
    "model",
    "error",
    "latency_ms",
    "prompt_tokens",
    "completion_tokens",
    "cost_usd",
    "score",
)


@dataclass(frozen=True, slots=True)
class AddedTrace:
    """A trace that is stored now.

    Attributes:
        is_new: Whether it was not stored before.
    """

    trace_id: UUID
    is_new: bool


@requires(Scope.LEADERBOARDS_WRITE)
async def add_traces(
    ctx: Context,
    leaderboard_id: UUID | None,
    reported: Sequence[NewTrace],
    *,
    id: UUID | None = None,
) -> list[AddedTrace]:
    """Store model calls that were made elsewhere, all of them or none.

    Args:
        ctx: Who reports them.
        leaderboard_id: To which leaderboard they belong; None for none.
        reported: What is told of them.
        id: Chosen by the caller so that a repeat makes the same traces.

    Returns:
        Each of them, in order; they are stored when this returns.

    Raises:
        InvalidInputError: One is too old, or of the future.
        NotFoundError: The workspace has no such leaderboard.
    """
    seed = id or new_id()
    traces = [_trace_of(ctx, seed, place, each) for place, each in enumerate(reported)]
    if leaderboard_id is not None:
        async with ctx.database.read() as session:
            await fetch_leaderboard(session, ctx.workspace_id, leaderboard_id)
        traces = [{**trace, "leaderboard_id": leaderboard_id} for trace in traces]
    batch = TraceBatch(traces, sum(map(count_characters, traces)))
    await (await ctx.services.trace_batches.offer(batch))
    unseen = set(batch.stored)
    added = []
    for trace in traces:
        added.append(AddedTrace(trace["id"], trace["id"] in unseen))
        unseen.discard(trace["id"])  # the second of two that are the same is not new
    return added


def _trace_of(ctx: Context, seed: UUID, place: int, reported: NewTrace) -> dict[str, Any]:
    started_at = reported.started_at or instant_of(seed)
    fault = find_time_fault(ctx, "started_at", started_at)
    if fault is not None:
        problem = {"field": "started_at", "message": fault}
        raise InvalidInputError(fault, details={"index": place, "fields": [problem]})
    messages = reported.messages
    text = reported.input
    if text is None and messages is not None:
        text = text_of_messages(messages)
    return reported_trace(
        ctx,
        _id_of(ctx, seed, place, reported),
        **{name: getattr(reported, name) for name in KEPT},
        input=text,
        messages=messages,
        status=reported.status or ("ok" if reported.error is None else "error"),
        trace_metadata=reported.metadata,
    )


def _id_of(ctx: Context, seed: UUID, place: int, reported: NewTrace) -> UUID:
    started_at = reported.started_at or instant_of(seed)
    if reported.id is not None:
        content = ctx.workspace_id.bytes + reported.id.encode()
        return derive_trace_id(b"named trace", content, started_at)
    return derive_trace_id(b"placed trace", seed.bytes + place.to_bytes(4, "big"), started_at)
