"""Inputs about traces."""

from datetime import datetime
from typing import Any

import strawberry

from resolvers.where import TraceFilter
from schema.enums import CallStatus, TraceSource
from schema.scalars import read_optional_id


@strawberry.input(description="Which traces; what is left out does not matter.")
class TraceFilterInput:
    """`resolvers.traces.TraceFilter`."""

    source: TraceSource | None = strawberry.field(default=None, description="Made for this.")
    status: CallStatus | None = strawberry.field(default=None, description="Ended like this.")
    run_id: strawberry.ID | None = strawberry.field(default=None, description="Of this run.")
    candidate_id: strawberry.ID | None = strawberry.field(
        default=None, description="Of this candidate."
    )
    leaderboard_id: strawberry.ID | None = strawberry.field(
        default=None, description="Of this leaderboard."
    )
    since: datetime | None = strawberry.field(
        default=None, description="Made at this instant or later."
    )
    until: datetime | None = strawberry.field(default=None, description="Made before this instant.")


def read_trace_filter(given: TraceFilterInput | None) -> TraceFilter:
    """Return the filter that was given."""
    if given is None:
        return TraceFilter()
    source: Any = given.source.value if given.source else None
    status: Any = given.status.value if given.status else None
    return TraceFilter(
        source=source,
        status=status,
        run_id=read_optional_id("runId", given.run_id),
        candidate_id=read_optional_id("candidateId", given.candidate_id),
        leaderboard_id=read_optional_id("leaderboardId", given.leaderboard_id),
        since=given.since,
        until=given.until,
    )
