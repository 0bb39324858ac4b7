"""How long traces are kept: what is too old to be taken, and what is a retention."""

from datetime import UTC, datetime, timedelta
from typing import Final

from db.base import first_id_at
from engine.instants import rfc3339
from resolvers.context import Context
from resolvers.errors import InvalidInputError

# Clocks differ, and a trace belongs to the day that its own tells.
MOST_AHEAD: Final = timedelta(days=1)


def check_trace_time(ctx: Context, name: str, made_at: datetime) -> None:
    """Check that a trace that a client sends is of a time that traces are kept of.

    Args:
        ctx: Who sends it.
        name: What the client calls the time, for the message.
        made_at: When the trace was made.

    Raises:
        InvalidInputError: It is older than the workspace keeps traces, or more than a day ahead.
    """
    if first_id_at(made_at) < ctx.oldest_trace_id:
        raise InvalidInputError(
            f"{name}: {rfc3339(made_at)} is longer ago than the {ctx.trace_retention_days} days "
            "that the workspace keeps traces"
        )
    if made_at > datetime.now(UTC) + MOST_AHEAD:
        raise InvalidInputError(f"{name}: {rfc3339(made_at)} is more than a day ahead")
