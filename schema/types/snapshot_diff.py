"""The SnapshotDiff object type, and what it consists of."""

from collections.abc import Awaitable, Callable
from typing import Any

import strawberry

from compiled_graphql.selection import selected_names
from resolvers import snapshot_diffs
from resolvers.paging import CountedPage, read_page
from resolvers.snapshot_diffs import ComparedSnapshots
from resolvers.snapshot_rows import ROW_ORDER
from schema.context import Info
from schema.fields import resolved
from schema.paging import After, Before, Connection, First, Last, Slice, counted_slice
from schema.types.dataset import DatasetRow, DatasetSnapshot


def rows_by(list_page: Callable[..., Awaitable[CountedPage[Any]]]) -> Callable[..., Any]:
    """Return the resolver of one of the lists of rows.

    Args:
        list_page: Takes a context, the compared snapshots, what is asked for and the columns that
            are wanted.
    """

    async def resolve(
        root: strawberry.Parent[ComparedSnapshots],
        info: Info,
        *,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Slice:
        request = read_page(
            first=first, after=after, last=last, before=before, of="DatasetRow", order=ROW_ORDER
        )
        columns = selected_names(info, "DatasetRow")
        return counted_slice(await list_page(info.context.ctx, root, request, columns))

    return resolve


@strawberry.type(description="A row that both snapshots have, and that says something else now.")
class ChangedRow:
    """Over `resolvers.snapshot_diffs.ChangedRow`."""

    before: DatasetRow = strawberry.field(description="As it is in the first.")
    after: DatasetRow = strawberry.field(description="As it is in the second.")


@strawberry.type(
    description="How a snapshot differs from another one of its leaderboard. A row is the same "
    "row where its key is the same; of several with one key the first is compared with the first."
)
class SnapshotDiff:
    """Over `resolvers.snapshot_diffs.ComparedSnapshots`."""

    a: DatasetSnapshot = strawberry.field(description="The first.")
    b: DatasetSnapshot = strawberry.field(description="The second.")
    added_count: int = strawberry.field(description="Rows that the second alone has.")
    removed_count: int = strawberry.field(description="Rows that the first alone has.")
    changed_count: int = strawberry.field(
        description="Rows that both have, and that say something else in the second."
    )
    unchanged_count: int = strawberry.field(description="Rows that both have alike.")
    added: Connection[DatasetRow] = resolved(
        rows_by(snapshot_diffs.list_added_rows), "Rows that the second alone has, in its order."
    )
    removed: Connection[DatasetRow] = resolved(
        rows_by(snapshot_diffs.list_removed_rows), "Rows that the first alone has, in its order."
    )
    changed: Connection[ChangedRow] = resolved(
        rows_by(snapshot_diffs.list_changed_rows),
        "Rows that have changed, in the second's order.",
    )
