"""Mutations about model calls that were made elsewhere."""

from typing import Annotated

import strawberry

from compiled_graphql.selection import selected_names
from db.records import Row
from resolvers import reported_traces, traces
from resolvers.inputs import NewTrace
from resolvers.reported_traces import AddedTrace
from schema.context import Info
from schema.fields import resolved
from schema.inputs.added_trace import AddTraceInput
from schema.inputs.fields import given_fields
from schema.scalars import read_optional_id
from schema.types.trace import Trace

LEADERBOARD_ID = frozenset({"leaderboard_id"})


async def added_trace(root: strawberry.Parent[AddedTrace], info: Info) -> Row:
    """Return the trace."""
    return await traces.get_trace(info.context.ctx, root.trace_id, selected_names(info, "Trace"))


@strawberry.type(description="What came of adding a trace.")
class AddTracePayload:
    """Over `resolvers.reported_traces.AddedTrace`."""

    trace_id: strawberry.ID = strawberry.field(description="The trace's id.")
    is_new: bool = strawberry.field(
        description="False when one with the same id and startedAt was stored before, which stays."
    )
    trace: Trace = resolved(added_trace, "As it is stored.")


async def add_trace(
    info: Info,
    input: Annotated[AddTraceInput, strawberry.argument(description="What is known of it.")],
) -> AddedTrace:
    """Store a model call that was made elsewhere."""
    leaderboard_id = read_optional_id("leaderboardId", input.leaderboard_id)
    new = NewTrace.model_validate(given_fields(input, without=LEADERBOARD_ID))
    (added,) = await reported_traces.add_traces(info.context.ctx, leaderboard_id, [new])
    return added
