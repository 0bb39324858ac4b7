"""The Improvement and ProposedChange object types."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import strawberry
from strawberry.scalars import JSON

from compiled_graphql.selection import selected_names
from db.records import Row
from resolvers import datasets, improvements, runs
from resolvers.paging import OLDEST_FIRST, read_page
from schema.context import Info
from schema.enums import ChangeDecision, ChangeKind, EditField, ImprovementStatus
from schema.fields import batched, referred
from schema.inputs.dataset import ChangeFilterInput, read_change_filter
from schema.paging import After, Before, Connection, First, Last, Slice, slice_of
from schema.types.dataset import DatasetRow, DatasetSnapshot
from schema.types.refs import RunRef


async def rows_of(roots: Sequence[Row], info: Info) -> Sequence[Any]:
    """Return the rows that changes are about."""
    places = [(root.improvement_id, root.position) for root in roots]
    columns = selected_names(info, "DatasetRow")
    return await datasets.find_result_rows(info.context.ctx, places, columns)


@strawberry.type(description="What one field of a row is proposed to be, and why.")
class ProposedChange:
    """Over rows of `db.models.ProposedChange`."""

    id: strawberry.ID = strawberry.field(description="Its id.")
    kind: ChangeKind = strawberry.field(description="Why.")
    field: EditField = strawberry.field(description="Which field of the row.")
    old: JSON | None = strawberry.field(description="What it is.")
    new: JSON | None = strawberry.field(description="What it is to be.")
    evidence: JSON = strawberry.field(description="What the answers were.")
    decision: ChangeDecision = strawberry.field(description="What became of it.")
    position: int = strawberry.field(description="The row's place in the run's snapshot, from 0.")
    row: DatasetRow | None = batched(
        rows_of, "The row, as the run used it.", needs=["improvement_id", "position"]
    )


@strawberry.type(description="How many changes of one kind there are.")
class ChangeCount:
    """Over rows of `resolvers.loaders.improvements.KindCountsByImprovement`."""

    kind: ChangeKind = strawberry.field(description="The kind.")
    decision: ChangeDecision = strawberry.field(description="What became of them.")
    count: int = strawberry.field(description="How many.")


async def counts_of(roots: Sequence[Row], info: Info) -> Sequence[Sequence[Row]]:
    """Return how many changes of each kind there are."""
    return await improvements.list_kind_counts(info.context.ctx, [root.id for root in roots])


async def changes_of(
    roots: Sequence[Row],
    info: Info,
    *,
    first: First = None,
    after: After = None,
    last: Last = None,
    before: Before = None,
    filter: Annotated[
        ChangeFilterInput | None, strawberry.argument(description="Which changes.")
    ] = None,
) -> Sequence[Slice]:
    """Return a slice of each one's changes."""
    ctx, ids = info.context.ctx, [root.id for root in roots]
    request = read_page(
        first=first, after=after, last=last, before=before, of="ProposedChange", order=OLDEST_FIRST
    )
    where = read_change_filter(filter)
    columns = selected_names(info, "ProposedChange")
    pages = await improvements.list_changes(ctx, ids, request, where, columns)
    return [
        slice_of(page, improvements.count_changes, ctx, key, where)
        for page, key in zip(pages, ids, strict=True)
    ]


@strawberry.type(description="What a run proposes to change about a dataset.")
class Improvement:
    """Over rows of `db.models.Improvement`."""

    id: strawberry.ID = strawberry.field(description="Its run's id.")
    status: ImprovementStatus = strawberry.field(description="Where it stands.")
    created_at: datetime = strawberry.field(description="When it was proposed.")
    decided_at: datetime | None = strawberry.field(
        description="When the last of its changes was decided."
    )
    counts: list[ChangeCount] = batched(counts_of, "How many changes there are of each kind.")
    changes: Connection[ProposedChange] = batched(changes_of, "The changes, in order of rows.")
    run: RunRef | None = referred(runs.find_runs, "Run", "id", "The run.")
    snapshot: DatasetSnapshot | None = referred(
        datasets.find_snapshots, "DatasetSnapshot", "snapshot_id", "The snapshot it is about."
    )
