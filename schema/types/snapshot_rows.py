"""What snapshots hold and leave out: the DroppedRow object type, and how lists of rows are read."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import strawberry

from compiled_graphql.selection import selected_names
from db.records import Row
from resolvers import dropped_rows, snapshot_rows
from resolvers.dropped_rows import DROPPED_ORDER
from resolvers.errors import AppError
from resolvers.paging import read_page
from resolvers.snapshot_rows import ROW_ORDER
from schema.context import Info
from schema.enums import DropReason
from schema.inputs.snapshot import SnapshotRowFilterInput, read_row_filter
from schema.paging import After, Before, First, Last, Slice, counted_slices


async def rows_of(
    roots: Sequence[Row],
    info: Info,
    *,
    first: First = None,
    after: After = None,
    last: Last = None,
    before: Before = None,
    filter: Annotated[
        SnapshotRowFilterInput | None, strawberry.argument(description="Which rows.")
    ] = None,
) -> Sequence[Slice | AppError]:
    """Return a slice of each snapshot's rows."""
    request = read_page(
        first=first, after=after, last=last, before=before, of="DatasetRow", order=ROW_ORDER
    )
    pages = await snapshot_rows.list_snapshot_rows(
        info.context.ctx,
        [root.id for root in roots],
        request,
        read_row_filter(filter),
        selected_names(info, "DatasetRow"),
    )
    return counted_slices(pages)


async def dropped_rows_of(
    roots: Sequence[Row],
    info: Info,
    *,
    first: First = None,
    after: After = None,
    last: Last = None,
    before: Before = None,
) -> Sequence[Slice | AppError]:
    """Return a slice of the rows that each snapshot leaves out."""
    request = read_page(
        first=first, after=after, last=last, before=before, of="DroppedRow", order=DROPPED_ORDER
    )
    pages = await dropped_rows.list_dropped_rows(
        info.context.ctx,
        [root.id for root in roots],
        request,
        is_read=bool(selected_names(info, "DroppedRow")),
    )
    return counted_slices(pages)


def dropped_counts(root: strawberry.Parent[Row]) -> Sequence["DroppedCount"]:
    """Return how many rows it leaves out, by reason."""
    counts: Mapping[str, int] = root.dropped
    return [
        DroppedCount(reason=DropReason(reason), count=count)
        for reason, count in sorted(counts.items())
    ]


def download_url(root: strawberry.Parent[Row], info: Info) -> str | None:
    """Return where its rows are downloaded."""
    if root.index_sha256 is None:
        return None
    path = f"/v1/leaderboard/{root.leaderboard_id}/dataset?snapshot={root.number}"
    return f"{info.context.base_url}{path}"


def is_labelled(root: strawberry.Parent[Any]) -> bool:
    """Return whether it has an expected output."""
    return root.expected is not None


@strawberry.type(description="How many rows a snapshot leaves out for a reason.")
class DroppedCount:
    """An item of `db.models.DatasetSnapshot.dropped`."""

    reason: DropReason = strawberry.field(description="The reason.")
    count: int = strawberry.field(description="How many.")


@strawberry.type(description="A row that a snapshot leaves out.")
class DroppedRow:
    """Over `resolvers.dropped_rows.DroppedRow`."""

    key: str = strawberry.field(description="Who it is, in every snapshot: 32 hex digits.")
    external_id: str | None = strawberry.field(description="The id that its source gave it.")
    reason: DropReason = strawberry.field(description="Why it is left out.")
    of: str | None = strawberry.field(
        description="The key of the row that it is near to, of a near-duplicate."
    )
    similarity: float | None = strawberry.field(
        description="How near, from the dataset's threshold to 1."
    )
