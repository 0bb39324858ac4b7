"""Taking in traces that clients report: how old they may be, and storing many at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from db.base import instant_of
from db.models import Trace, TraceText
from db.writing import StatementWriter
from engine.instants import rfc3339
from resolvers.context import Context
from resolvers.trace_storage import STORE, TraceStore, storing_values

# Clocks differ.
MOST_AHEAD: Final = timedelta(minutes=5)
_ABSENT: Final[Mapping[str, Any]] = dict.fromkeys(
    column.key for entity in (Trace, TraceText) for column in entity.__table__.columns
)


@dataclass(slots=True)
class TraceBatch:
    """Reported traces on their way to be stored, all of them or none.

    Attributes:
        traces: Each a mapping of every column of `Trace` and `TraceText`.
        size_bytes: About how much they are.
        stored: Those that were not stored before, once they are.
    """

    traces: Sequence[Mapping[str, Any]]
    size_bytes: int
    stored: frozenset[UUID] = frozenset()


async def store_batches(
    writer: StatementWriter, traces: TraceStore, batches: Sequence[TraceBatch]
) -> None:
    """Store batches in one statement, and tell each what of it is new.

    Of what is reported twice at the same time, the first counts.

    Raises:
        asyncpg.PostgresError: The database refused them.
        OSError: It can't be reached, or went away: whether they are stored is not known.
    """
    unique: dict[UUID, Mapping[str, Any]] = {}
    for batch in batches:
        for trace in batch.traces:
            unique.setdefault(trace["id"], trace)
    # In one order for everybody, so that nobody waits for who waits for him.
    storable = await traces.prepare([unique[each] for each in sorted(unique)])
    rows = await writer.fetch(STORE, storing_values(storable))
    stored = {row.id for row in rows}
    for batch in batches:
        batch.stored = frozenset(stored.intersection(trace["id"] for trace in batch.traces))
        stored -= batch.stored


def find_time_fault(ctx: Context, name: str, started_at: datetime) -> str | None:
    """Return why a trace of that time can't be taken; None when it can.

    Args:
        ctx: Who reports it.
        name: What the client calls the time.
        started_at: When the call began.
    """
    days, now = ctx.trace_retention_days, datetime.now(UTC)
    if started_at > now + MOST_AHEAD:
        minutes = MOST_AHEAD // timedelta(minutes=1)
        return f"{name}: {rfc3339(started_at)} is more than {minutes} minutes in the future"
    if started_at < now - timedelta(days=days):
        return f"{name}: {rfc3339(started_at)} is longer ago than the {days} days that are kept"
    return None


def reported_trace(ctx: Context, trace_id: UUID, **given: Any) -> dict[str, Any]:
    """Return the columns of a trace that the caller reports.

    Args:
        ctx: Who reports it.
        trace_id: Its id, whose instant is when the call began.
        given: What is known of it.
    """
    return {
        **_ABSENT,
        **given,
        "id": trace_id,
        "workspace_id": ctx.workspace_id,
        "token_id": ctx.principal.token_id,
        "source": "manual",
        "created_at": instant_of(trace_id),
    }
