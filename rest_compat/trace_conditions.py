"""The query parameters that say which traces are asked for, of every route that returns some."""

from decimal import Decimal
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Depends, Query

from resolvers.inputs import TraceConditions, WrittenInstant
from resolvers.trace_filter import TraceFilter, TraceSource


def _parameter(description: str) -> object:
    return Query(description=description)


def read_trace_filter(
    source: TraceSource | None = None,
    run_id: UUID | None = None,
    status: Annotated[
        Literal["ok", "error", "cancelled"] | None, _parameter("Ended like this.")
    ] = None,
    provider: Annotated[str | None, _parameter("Served by this provider.")] = None,
    model: Annotated[str | None, _parameter("Of this model.")] = None,
    leaderboard_model_id: Annotated[UUID | None, _parameter("Of this candidate.")] = None,
    token_id: Annotated[UUID | None, _parameter("Charged to this API token.")] = None,
    since: Annotated[WrittenInstant | None, _parameter("Made at this instant or later.")] = None,
    until: Annotated[WrittenInstant | None, _parameter("Made before this instant.")] = None,
    min_latency_ms: Annotated[float | None, _parameter("Took so long or longer.")] = None,
    max_latency_ms: Annotated[float | None, _parameter("Took so long or less.")] = None,
    min_cost_usd: Annotated[Decimal | None, _parameter("Cost so much or more.")] = None,
    max_cost_usd: Annotated[Decimal | None, _parameter("Cost so much or less.")] = None,
    min_score: Annotated[float | None, _parameter("Scored so much or more, in a run.")] = None,
    max_score: Annotated[float | None, _parameter("Scored so much or less, in a run.")] = None,
    has_error: Annotated[bool | None, _parameter("Whether an error was told.")] = None,
    metadata_key: Annotated[
        str | None, _parameter("Has this key at the top of its metadata.")
    ] = None,
    metadata_value: Annotated[
        str | None,
        _parameter(
            "And this is that key's value: a string, or a number, true, false or null as JSON "
            "writes it."
        ),
    ] = None,
    search: Annotated[
        str | None,
        _parameter(
            "Has these words in the first 50,000 characters of its input or its output. Words in "
            "quotation marks follow each other, OR is between alternatives, and a minus before "
            "what must not be there."
        ),
    ] = None,
) -> TraceFilter:
    """Return the traces that the query asks for."""
    given = {
        "source": source, "run_id": run_id, "status": status, "provider": provider, "model": model,
        "candidate_id": leaderboard_model_id, "token_id": token_id, "since": since, "until": until,
        "min_latency_ms": min_latency_ms, "max_latency_ms": max_latency_ms,
        "min_cost_usd": min_cost_usd, "max_cost_usd": max_cost_usd, "min_score": min_score,
        "max_score": max_score, "has_error": has_error, "metadata_key": metadata_key,
        "metadata_value": metadata_value, "search": search,
    }  # fmt: skip
    return TraceConditions.model_validate(given).to_filter()


Conditions = Annotated[TraceFilter, Depends(read_trace_filter)]
