"""The Trace object type."""

from datetime import datetime
from decimal import Decimal
from typing import Any

import strawberry
from strawberry.scalars import JSON

from db.models import Candidate as CandidateRow
from db.models import Leaderboard as LeaderboardRow
from db.models import Run as RunRow
from db.models import Trace as TraceRow
from resolvers import candidates, leaderboards, runs, traces
from schema.context import Info
from schema.enums import CallStatus, TraceSource
from schema.fields import resolved
from schema.types.refs import CandidateRef, LeaderboardRef, RunRef


async def input_text(root: strawberry.Parent[TraceRow], info: Info) -> str | None:
    """Return what was asked."""
    return (await traces.get_trace_text(info.context.ctx, root.id)).input


async def messages(root: strawberry.Parent[TraceRow], info: Info) -> list[Any] | None:
    """Return what the model was sent."""
    return (await traces.get_trace_text(info.context.ctx, root.id)).messages


async def output(root: strawberry.Parent[TraceRow], info: Info) -> str | None:
    """Return what the model answered."""
    return (await traces.get_trace_text(info.context.ctx, root.id)).output


async def expected(root: strawberry.Parent[TraceRow], info: Info) -> str | None:
    """Return what it should have answered."""
    return (await traces.get_trace_text(info.context.ctx, root.id)).expected


def metadata(root: strawberry.Parent[TraceRow]) -> JSON:
    """Return what is known of the call besides."""
    return JSON(root.trace_metadata)


async def run(root: strawberry.Parent[TraceRow], info: Info) -> RunRow | None:
    """Return the run it belongs to."""
    if root.run_id is None:
        return None
    return await runs.find_run(info.context.ctx, root.run_id)


async def leaderboard(root: strawberry.Parent[TraceRow], info: Info) -> LeaderboardRow | None:
    """Return its leaderboard."""
    return await leaderboards.find_leaderboard(info.context.ctx, root.leaderboard_id)


async def candidate(root: strawberry.Parent[TraceRow], info: Info) -> CandidateRow | None:
    """Return who was called."""
    return await candidates.find_candidate(info.context.ctx, root.candidate_id)


@strawberry.type(description="A model call: what went in, what came out, what it cost.")
class Trace:
    """Over rows of `db.models.Trace`."""

    id: strawberry.ID = strawberry.field(description="Its id.")
    source: TraceSource = strawberry.field(description="What it was made for.")
    status: CallStatus = strawberry.field(description="How it ended.")
    provider: str = strawberry.field(description="Who served the model.")
    model: str = strawberry.field(description="The model that was called.")
    input: str | None = resolved(input_text, "What was asked.")
    messages: JSON | None = resolved(messages, "What the model was sent.")
    output: str | None = resolved(output, "What it answered.")
    expected: str | None = resolved(expected, "What it should have answered, in a run.")
    score: float | None = strawberry.field(description="The answer's score, in a run.")
    error: str | None = strawberry.field(description="Why it failed: a code and a message.")
    latency_ms: float = strawberry.field(description="Request sent to answer read.")
    prompt_tokens: int | None = strawberry.field(description="Tokens sent.")
    completion_tokens: int | None = strawberry.field(description="Tokens generated.")
    cost_usd: Decimal | None = strawberry.field(description="US dollars; null when unknown.")
    token_id: strawberry.ID | None = strawberry.field(description="The API token it is charged to.")
    metadata: JSON = resolved(metadata, "What is known of it besides.")
    created_at: datetime = strawberry.field(description="When it was answered.")
    run: RunRef | None = resolved(run, "The run it belongs to.")
    leaderboard: LeaderboardRef | None = resolved(
        leaderboard, "Its leaderboard; null once that is deleted."
    )
    candidate: CandidateRef | None = resolved(candidate, "Who was called.")
