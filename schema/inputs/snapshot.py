"""Inputs about snapshots."""

from typing import Any

import strawberry

from resolvers.snapshot_rows import RowFilter
from schema.enums import DatasetSide


@strawberry.input(description="Which rows of a snapshot; what is left out does not matter.")
class SnapshotRowFilterInput:
    """`resolvers.snapshot_rows.RowFilter`."""

    side: DatasetSide | None = strawberry.field(
        default=None, description="On this side of the split."
    )
    labelled: bool | None = strawberry.field(
        default=None, description="With an expected output, or without one."
    )


def read_row_filter(given: SnapshotRowFilterInput | None) -> RowFilter:
    """Return the filter that was given."""
    if given is None:
        return RowFilter()
    side: Any = given.side.value if given.side is not None else None
    return RowFilter(side=side, is_labelled=given.labelled)
