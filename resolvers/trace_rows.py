"""Making rows of traces: what production was asked becomes what models are compared on."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, bindparam, literal_column, select

from db.models import Trace
from db.records import Row
from engine.instants import rfc3339
from resolvers.auth import Scope, requires
from resolvers.columns import kept_query, read_columns
from resolvers.context import Context
from resolvers.errors import NotFoundError
from resolvers.inputs import RowsFromTraces
from resolvers.leaderboards import fetch_leaderboard
from resolvers.loaders.traces import FeedbackByTrace, own_traces
from resolvers.paging import AnySelect, PageRequest
from resolvers.push import PushReceipt, push_rows
from resolvers.trace_filter import TraceFilter, planned_for_values
from resolvers.trace_search import read_in_spans

# Their texts may be long: so many are held, and pushed together.
TRACES_AT_ONCE = 100
AMONG_NAMED = Trace.id == bindparam("trace_ids", type_=ARRAY(Uuid())).any_()
COLUMNS = frozenset({"id", "source", "model", "input", "messages", "output", "created_at"})


@requires(Scope.LEADERBOARDS_WRITE)
async def create_rows_from_traces(
    ctx: Context, leaderboard_id: UUID, asked: RowsFromTraces, where: TraceFilter
) -> Sequence[PushReceipt]:
    """Push rows made of a leaderboard's traces into its dataset.

    A row's id is its trace's, so that a trace becomes a row once. Failed calls are passed over, and
    those of shadows, unless *where* or their ids ask for them.

    Args:
        ctx: Who asks.
        leaderboard_id: Whose traces, and whose dataset.
        asked: Which of the traces, and what rows expect.
        where: Which traces.

    Returns:
        What was taken, a receipt for each 100 traces that rows were made of.

    Raises:
        NotFoundError: The workspace has no such leaderboard, or not one of the traces that are
            named.
        ConflictError: Its dataset is read from a URL.
    """
    async with ctx.database.read() as session:
        await fetch_leaderboard(session, ctx.workspace_id, leaderboard_id)
    where = replace(where, leaderboard_id=leaderboard_id, status="ok")
    ids = await _trace_ids(ctx, asked, where)
    receipts = []
    for start in range(0, len(ids), TRACES_AT_ONCE):
        named = ids[start : start + TRACES_AT_ONCE]
        traces = await ctx.database.fetch(
            kept_query(_write_traces),
            trace_ids=named,
            texts_from=min(named),
            texts_to=max(named),
            **ctx.trace_values,
        )
        rows = await _rows_of(ctx, asked, traces)
        if rows:
            receipts.append(await push_rows(ctx, leaderboard_id, rows))
    return receipts


async def _trace_ids(ctx: Context, asked: RowsFromTraces, where: TraceFilter) -> list[UUID]:
    """Return the traces that are asked for, the newest first.

    Raises:
        NotFoundError: One that is named is not among those that *where* admits.
    """
    named = asked.trace_ids
    wanted = asked.limit if named is None else len(named)
    ids: list[UUID] = []

    async def read(part: TraceFilter) -> tuple[int, int]:
        query = kept_query(_write_ids, part.shape(), named is not None)
        values = {**part.values(), "trace_ids": named, "row_limit": wanted - len(ids)}
        found = await ctx.database.fetch(query, **ctx.trace_values, **values)
        ids.extend(trace.id for trace in found)
        return len(found), wanted - len(ids)

    await read_in_spans(where, PageRequest(), ctx.oldest_trace_id, read)
    missing = set(asked.trace_ids or ()) - set(ids)
    if missing:
        raise NotFoundError(
            f"trace {min(missing)} does not exist on this leaderboard, is not admitted by the "
            "filter, or failed"
        )
    return ids


def _write_ids(where: TraceFilter, is_named: bool) -> AnySelect:  # noqa: FBT001 - a shape
    statement: AnySelect = where.narrow(select(Trace.id).where(own_traces()), Trace)
    if is_named:
        statement = statement.where(AMONG_NAMED)
    elif where.source is None:  # nobody was answered by a shadow: it is to be asked for
        statement = statement.where(Trace.source != literal_column("'shadow'"))
    newest_first = statement.order_by(Trace.id.desc())
    return planned_for_values(newest_first.limit(bindparam("row_limit")), where)


def _write_traces() -> AnySelect:
    whole: AnySelect = select(*read_columns(Trace, COLUMNS)).where(own_traces(), AMONG_NAMED)
    return whole.order_by(Trace.id.desc())


async def _rows_of(
    ctx: Context, asked: RowsFromTraces, traces: Sequence[Row]
) -> list[dict[str, Any]]:
    said: Sequence[Sequence[Row]] = [()] * len(traces)
    if asked.expected == "feedback":
        ids = [trace.id for trace in traces]
        said = await ctx.loaders.get(FeedbackByTrace).load_many(ids)
    made = (_row_of(asked, trace, each) for trace, each in zip(traces, said, strict=True))
    return [row for row in made if row is not None]


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
    """Return what people said should be answered.

    The latest correction, whatever was scored since; without any, the answer where the latest score
    is high enough.
    """
    corrections = (each.correction for each in said if each.correction is not None)
    correction: str | None = next(corrections, None)
    if correction is not None:
        return correction
    score = next((each.score for each in said if each.score is not None), None)
    output: str | None = trace.output
    return output if score is not None and score >= min_score else None
