"""Comparing two runs of a leaderboard: what has become better, and first of all what worse."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
from sqlalchemy import Uuid, and_, bindparam, func, select
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.orm import aliased

from db.models import DatasetRow, Run, RunResult
from db.records import Row
from engine.comparisons import PlannedComparison, compare_one
from engine.ranking import CONFIDENCE
from resolvers.auth import Scope, requires
from resolvers.columns import kept_query
from resolvers.context import Context
from resolvers.errors import InvalidInputError
from resolvers.loaders.base import own_workspace
from resolvers.loaders.runs import is_left_out
from resolvers.paging import (
    AnySelect,
    Page,
    PageRequest,
    SliceShape,
    cut_page,
    slice_shape,
    slice_statement,
    slice_values,
)
from resolvers.runs import get_run


@dataclass(frozen=True, slots=True)
class CandidateDifference:
    """One candidate in both runs, on the rows that both asked it.

    Attributes:
        score_a: Its mean in the first run, on those rows.
        score_b: Its mean in the second.
        compared: How much higher its mean is in the second, with the difference's interval and
            the two-sided p-value.
        better_count: Rows that it did better on in the second run.
        worse_count: Rows that it did worse on.
        changed_count: Rows that it answered in other words.
    """

    candidate_id: UUID
    score_a: float
    score_b: float
    compared: PlannedComparison
    better_count: int
    worse_count: int
    changed_count: int


@dataclass(frozen=True, slots=True)
class ComparedRuns:
    """Two runs of a leaderboard.

    Attributes:
        row_count: Rows that both have: the same input and expected output.
        candidates: Those that both asked, the greatest loss first.
    """

    a: Row
    b: Row
    row_count: int
    candidates: Sequence[CandidateDifference]


@requires(Scope.LEADERBOARDS_READ)
async def compare_runs(ctx: Context, a_id: UUID, b_id: UUID) -> ComparedRuns:
    """Compare run *b* with run *a*, candidate by candidate.

    Raises:
        NotFoundError: The workspace has no such run.
        InvalidInputError: The runs are of different leaderboards.
    """
    a, b = await get_run(ctx, a_id), await get_run(ctx, b_id)
    if a.leaderboard_id != b.leaderboard_id:
        raise InvalidInputError(f"b: run {b_id} is not of the leaderboard of run {a_id}")
    rows = await ctx.database.fetch(
        kept_query(_write_scores, a.snapshot_id == b.snapshot_id),
        workspace_id=ctx.workspace_id,
        a_id=a_id,
        b_id=b_id,
    )
    positions = set[int]().union(*(row.positions for row in rows))
    seed = b.dataset_size["seed"]
    differences = await asyncio.to_thread(lambda: [_difference(row, seed) for row in rows])
    differences.sort(key=lambda each: (each.compared.difference, each.candidate_id))
    return ComparedRuns(a, b, len(positions), differences)


def _difference(row: Row, seed: int) -> CandidateDifference:
    a, b = np.array(row.scores_a, dtype=float), np.array(row.scores_b, dtype=float)
    return CandidateDifference(
        candidate_id=row.candidate_id,
        score_a=float(a.mean()),
        score_b=float(b.mean()),
        compared=compare_one(b, a, seed=seed, confidence=CONFIDENCE, alternative="two-sided"),
        better_count=int((b > a).sum()),
        worse_count=int((b < a).sum()),
        changed_count=row.changed_count,
    )


@requires(Scope.LEADERBOARDS_READ)
async def list_row_differences(
    ctx: Context, a: Row, b: Row, request: PageRequest, candidate_id: UUID | None
) -> Page[Row]:
    """Return a slice of what differs between two runs, row by row, the greatest loss first."""
    query = kept_query(
        _write_rows, a.snapshot_id == b.snapshot_id, candidate_id is not None, slice_shape(request)
    )
    values: dict[str, Any] = slice_values(request)
    if candidate_id is not None:
        values["candidate_id"] = candidate_id
    rows = await ctx.database.fetch(
        query, workspace_id=ctx.workspace_id, a_id=a.id, b_id=b.id, **values
    )
    return cut_page(rows, request)


@requires(Scope.LEADERBOARDS_READ)
async def count_row_differences(ctx: Context, a: Row, b: Row, candidate_id: UUID | None) -> int:
    """Return how many rows and candidates both runs have in common."""
    query = kept_query(_write_count, a.snapshot_id == b.snapshot_id, candidate_id is not None)
    values = {} if candidate_id is None else {"candidate_id": candidate_id}
    (row,) = await ctx.database.fetch(
        query, workspace_id=ctx.workspace_id, a_id=a.id, b_id=b.id, **values
    )
    count: int = row.count
    return count


def _pairs(*, is_same_snapshot: bool) -> Any:
    """Return what both runs asked, as a subquery: a row and a candidate, in both.

    In different snapshots rows are the same that have the same content; of several alike, the
    first of each.
    """
    result_a, result_b = aliased(RunResult), aliased(RunResult)
    run_a, run_b = aliased(Run), aliased(Run)
    columns = (
        result_b.id,
        result_b.run_id,
        result_b.candidate_id,
        result_b.position,
        result_a.position.label("position_a"),
        result_a.score.label("score_a"),
        result_b.score.label("score_b"),
        (result_b.score - result_a.score).label("difference"),
        result_a.output.label("output_a"),
        result_b.output.label("output_b"),
        result_a.error.label("error_a"),
        result_b.error.label("error_b"),
    )
    joined = (
        select(*columns)
        .select_from(run_a)
        .join(result_a, result_a.run_id == run_a.id)
        .join(run_b, run_b.id == bindparam("b_id", type_=Uuid()))
        .where(
            run_a.id == bindparam("a_id", type_=Uuid()),
            own_workspace(run_a.workspace_id),
            own_workspace(run_b.workspace_id),
            _counts(result_a, run_a),
        )
    )
    same = and_(
        result_b.run_id == run_b.id,
        result_b.candidate_id == result_a.candidate_id,
        _counts(result_b, run_b),
    )
    if is_same_snapshot:
        return joined.join(result_b, and_(same, result_b.position == result_a.position)).subquery()
    first_a, first_b = _first_of_its_kind(run_a), _first_of_its_kind(run_b)
    return (
        joined.join(first_a, first_a.c.position == result_a.position)
        .join(first_b, first_b.c.content_hash == first_a.c.content_hash)
        .join(result_b, and_(same, result_b.position == first_b.c.position))
        .subquery()
    )


def _counts(result: Any, run: Any) -> Any:
    """Return the condition that a result has a score that counts in its run's ranking."""
    leaves_errors_out = run.evaluation["errors"].astext == "leave_out"
    return ~is_left_out(
        result,
        leaves_errors_out=leaves_errors_out.is_(True),
        is_judged=run.evaluation.has_key("judge") | run.evaluation.has_key("human"),
    )


def _first_of_its_kind(run: Any) -> Any:
    """Return the rows of a run's snapshot without repetitions, as a lateral subquery."""
    return (
        select(DatasetRow.content_hash, func.min(DatasetRow.position).label("position"))
        .where(DatasetRow.snapshot_id == run.snapshot_id)
        .group_by(DatasetRow.content_hash)
        .lateral()
    )


def _write_scores(is_same_snapshot: bool) -> AnySelect:  # noqa: FBT001 - a statement's shape
    pairs = _pairs(is_same_snapshot=is_same_snapshot).c
    # In one order, so that resampling repeats.
    in_order = pairs.position
    changed = func.count().filter(pairs.output_a.is_distinct_from(pairs.output_b))
    return select(
        pairs.candidate_id,
        func.array_agg(aggregate_order_by(pairs.score_a, in_order)).label("scores_a"),
        func.array_agg(aggregate_order_by(pairs.score_b, in_order)).label("scores_b"),
        func.array_agg(pairs.position).label("positions"),
        changed.label("changed_count"),
    ).group_by(pairs.candidate_id)


def _write_rows(is_same_snapshot: bool, is_of_one: bool, shape: SliceShape) -> AnySelect:  # noqa: FBT001
    pairs = _pairs(is_same_snapshot=is_same_snapshot).c
    statement: AnySelect = select(*pairs)
    return slice_statement(_narrow(statement, pairs, is_of_one=is_of_one), pairs, shape)


def _write_count(is_same_snapshot: bool, is_of_one: bool) -> AnySelect:  # noqa: FBT001
    pairs = _pairs(is_same_snapshot=is_same_snapshot).c
    statement: AnySelect = select(func.count(pairs.id).label("count"))
    return _narrow(statement, pairs, is_of_one=is_of_one)


def _narrow(statement: AnySelect, pairs: Any, *, is_of_one: bool) -> AnySelect:
    if not is_of_one:
        return statement
    return statement.where(pairs.candidate_id == bindparam("candidate_id", type_=Uuid()))
