"""The Trace object type."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

import strawberry
from strawberry.scalars import JSON

from compiled_graphql.selection import selected_names
from db.records import Row
from resolvers import candidates, feedback, leaderboards, runs
from schema.context import Info
from schema.enums import CallStatus, CostSource, TraceSource
from schema.fields import batched, referred, resolved
from schema.types.refs import CandidateRef, LeaderboardRef, RunRef


def metadata(root: strawberry.Parent[Row]) -> JSON:
    """Return what is known of the call besides."""
    return JSON(root.trace_metadata)


@strawberry.type(description="What somebody said of a model call; it is never changed.")
class Feedback:
    """Over rows of `db.models.TraceFeedback`."""

    id: strawberry.ID = strawberry.field(description="Its id.")
    score: float | None = strawberry.field(description="How good the answer was, 0 to 1.")
    correction: str | None = strawberry.field(description="What it should have been.")
    comment: str | None = strawberry.field(description="What else they said.")
    created_at: datetime = strawberry.field(description="When they said it.")


async def feedback_of(roots: Sequence[Row], info: Info) -> Sequence[Sequence[Row]]:
    """Return what people said."""
    columns = selected_names(info, "Feedback")
    return await feedback.list_feedback(info.context.ctx, [root.id for root in roots], columns)


@strawberry.type(description="A model call: what went in, what came out, what it cost.")
class Trace:
    """Over rows of `db.models.Trace`."""

    id: strawberry.ID = strawberry.field(description="Its id.")
    source: TraceSource = strawberry.field(description="What it was made for.")
    status: CallStatus = strawberry.field(description="How it ended.")
    provider: str | None = strawberry.field(description="Who served the model.")
    model: str | None = strawberry.field(description="The model that was called.")
    input: str | None = strawberry.field(description="What was asked.")
    messages: JSON | None = strawberry.field(description="What the model was sent.")
    output: str | None = strawberry.field(description="What it answered.")
    expected: str | None = strawberry.field(description="What it should have answered, in a run.")
    score: float | None = strawberry.field(description="The answer's score, in a run.")
    error: str | None = strawberry.field(description="Why it failed: a code and a message.")
    latency_ms: float = strawberry.field(description="Request sent to answer read.")
    prompt_tokens: int | None = strawberry.field(description="Tokens sent.")
    completion_tokens: int | None = strawberry.field(description="Tokens generated.")
    cost_usd: Decimal | None = strawberry.field(description="US dollars; null when unknown.")
    cost_source: CostSource | None = strawberry.field(
        description="Who says what it cost; null of old calls, and of those that a client reports."
    )
    price_version: int | None = strawberry.field(
        description="Which of the candidate's prices held; null outside production."
    )
    first_byte_ms: float | None = strawberry.field(
        description="Request sent to the first of the answer, where it was streamed."
    )
    token_id: strawberry.ID | None = strawberry.field(description="The API token it is charged to.")
    metadata: JSON = resolved(metadata, "What is known of it besides.", needs=["trace_metadata"])
    created_at: datetime = strawberry.field(
        description="When it was taken from a caller, or recorded."
    )
    feedback: list[Feedback] = batched(feedback_of, "What people said of it, the latest first.")
    run: RunRef | None = referred(runs.find_runs, "Run", "run_id", "The run it belongs to.")
    leaderboard: LeaderboardRef | None = referred(
        leaderboards.find_leaderboards,
        "Leaderboard",
        "leaderboard_id",
        "Its leaderboard; null once that is deleted.",
    )
    candidate: CandidateRef | None = referred(
        candidates.find_candidates, "CandidateModel", "candidate_id", "Who was called."
    )
