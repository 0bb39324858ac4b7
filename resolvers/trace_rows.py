"""Making rows of traces: what production was asked becomes what models are compared on."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, bindparam, select

from db.models import Trace
from db.records import Row
from engine.instants import rfc3339
from resolvers.auth import Scope, requires
from resolvers.columns import kept_query
from resolvers.context import Context
from resolvers.errors import NotFoundError
from resolvers.inputs import RowsFromTraces
from resolvers.leaderboards import fetch_leaderboard
from resolvers.loaders.base import own_workspace
from resolvers.loaders.traces import FeedbackByTrace
from resolvers.paging import AnySelect
from resolvers.push import MAX_ROWS, PushReceipt, push_rows
from resolvers.where import TraceFilter

COLUMNS = (
    Trace.id,
    Trace.source,
    Trace.model,
    Trace.input,
    Trace.messages,
    Trace.output,
    Trace.created_at,
)


@requires(Scope.LEADERBOARDS_WRITE)
async def create_rows_from_traces(
    ctx: Context, leaderboard_id: UUID, asked: RowsFromTraces, where: TraceFilter
) -> Sequence[PushReceipt]:
    """Push rows made of a leaderboard's traces into its dataset.

    A row's id is its trace's, so that a trace becomes a row once. Failed calls are passed over.

    Args:
        ctx: Who asks.
        leaderboard_id: Whose traces, and whose dataset.
        asked: Which of the traces, and what rows expect.
        where: Which traces.

    Returns:
        What was taken, a receipt for each 1,000 rows.

    Raises:
        NotFoundError: The workspace has no such leaderboard, or not one of the traces that are
            named.
        ConflictError: Its dataset is read from a URL.
    """
    async with ctx.database.read() as session:
        await fetch_leaderboard(session, ctx.workspace_id, leaderboard_id)
    where = replace(where, leaderboard_id=leaderboard_id, status="ok")
    query = kept_query(_write_traces, where.shape(), asked.trace_ids is not None)
    values: dict[str, Any] = {**where.values(), "row_limit": asked.limit}
    if asked.trace_ids is not None:
        values |= {"trace_ids": asked.trace_ids, "row_limit": len(asked.trace_ids)}
    traces = await ctx.database.fetch(query, workspace_id=ctx.workspace_id, **values)
    _check_named(asked.trace_ids, traces)
    rows = await _rows_of(ctx, asked, traces)
    receipts = []
    while batch := list(islice(rows, MAX_ROWS)):
        receipts.append(await push_rows(ctx, leaderboard_id, batch))
    return receipts


def _write_traces(where: TraceFilter, is_named: bool) -> AnySelect:  # noqa: FBT001 - a shape
    statement: AnySelect = where.narrow(
        select(*COLUMNS).where(own_workspace(Trace.workspace_id)), Trace
    )
    if is_named:
        named = bindparam("trace_ids", type_=ARRAY(Uuid()))
        statement = statement.where(Trace.id == named.any_())
    newest_first = statement.order_by(Trace.created_at.desc(), Trace.id.desc())
    return newest_first.limit(bindparam("row_limit"))


def _check_named(named: Sequence[UUID] | None, found: Sequence[Row]) -> None:
    missing = set(named or ()) - {trace.id for trace in found}
    if missing:
        raise NotFoundError(
            f"trace {min(missing)} does not exist on this leaderboard, is not admitted by the "
            "filter, or failed"
        )


async def _rows_of(
    ctx: Context, asked: RowsFromTraces, traces: Sequence[Row]
) -> Iterator[dict[str, Any]]:
    said: Sequence[Sequence[Row]] = [()] * len(traces)
    if asked.expected == "feedback":
        ids = [trace.id for trace in traces]
        said = await ctx.loaders.get(FeedbackByTrace).load_many(ids)
    made = (_row_of(asked, trace, each) for trace, each in zip(traces, said, strict=True))
    return (row for row in made if row is not None)


def _row_of(asked: RowsFromTraces, trace: Row, said: Sequence[Row]) -> dict[str, Any] | None:
    row: dict[str, Any] = {
        "id": str(trace.id),
        "input": trace.input,
        "tags": list(asked.tags),
        "metadata": _origin(trace),
    }
    if trace.input is None:
        row["messages"] = trace.messages
    if asked.expected == "output":
        row["output"] = trace.output
    elif asked.expected == "feedback":
        row["output"] = _wanted(trace, said, asked.min_score)
        if row["output"] is None:
            return None
    return row


def _origin(trace: Row) -> Mapping[str, Any]:
    return {
        "trace_id": str(trace.id),
        "source": trace.source,
        "model": trace.model,
        "created_at": rfc3339(trace.created_at),
    }


def _wanted(trace: Row, said: Sequence[Row], min_score: float) -> str | None:
    """Return what a person said should be answered: the latest word that tells."""
    for each in said:
        if each.correction is not None:
            correction: str = each.correction
            return correction
        if each.score is not None:
            output: str | None = trace.output
            return output if each.score >= min_score else None
    return None
