"""The SnapshotLeakage object type: training rows that give a validation row away."""

from collections.abc import Sequence
from typing import Annotated

import strawberry

from db.records import Row
from resolvers import leakage
from resolvers.leakage import Leak, Leakage
from resolvers.paging import read_page
from schema.context import Info
from schema.fields import resolved

FirstLeaks = Annotated[
    int | None,
    strawberry.argument(description="So many leaks, in the snapshot's order; 50, at most 200."),
]


def leaks_of(root: strawberry.Parent[Leakage]) -> list["SnapshotLeak"]:
    """Return the leaks that were asked for."""
    return [_shown(root, leak) for leak in root.leaks]


def _shown(leakage: Leakage, leak: Leak) -> "SnapshotLeak":
    return SnapshotLeak(
        train_row_id=strawberry.ID(f"{leakage.snapshot_id}:{leak.train.position}"),
        validation_row_id=strawberry.ID(f"{leakage.snapshot_id}:{leak.validation.position}"),
        similarity=leak.similarity,
    )


@strawberry.type(description="A training row, and the validation row that it is nearest to.")
class SnapshotLeak:
    """Over `resolvers.leakage.Leak`."""

    train_row_id: strawberry.ID = strawberry.field(
        description="The training row, as DatasetRow.id names it."
    )
    validation_row_id: strawberry.ID = strawberry.field(description="The validation row, likewise.")
    similarity: float = strawberry.field(
        description="Of their inputs, 0.8 to 1: the share of runs of three words that both have."
    )


@strawberry.type(
    description="What of a snapshot's training side is near to a row of its validation side."
)
class SnapshotLeakage:
    """Over `resolvers.leakage.Leakage`."""

    train_row_count: int = strawberry.field(
        description="Rows of the training side, those that leak too."
    )
    validation_row_count: int = strawberry.field(description="Rows of the validation side.")
    leaking_row_count: int = strawberry.field(
        description="Training rows that leak; downloads of the training side leave them out."
    )
    leaks: list[SnapshotLeak] = resolved(leaks_of, "The first of them.")


async def leakages(
    roots: Sequence[Row], info: Info, *, first: FirstLeaks = None
) -> Sequence[Leakage | None]:
    """Return what leaks of each snapshot."""
    page = read_page(first=first, after=None, last=None, before=None, of="Leak")
    ids = [root.id for root in roots]
    return await leakage.find_leakages(info.context.ctx, ids, first=page.size)
