"""Which rows of a snapshot a run uses."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from db.models import DatasetSnapshot
from engine.selection import RowSelection, select_positions
from engine.snapshot_format import HAS_EXPECTED, IS_VALIDATION, IndexArray
from resolvers.context import Context
from resolvers.errors import InvalidDatasetError
from resolvers.snapshot_storage import read_snapshot

SPLITS = {"TRAIN": 0, "VALIDATION": IS_VALIDATION}


async def select_rows(
    ctx: Context,
    snapshot: DatasetSnapshot,
    size: Mapping[str, Any],
    *,
    needs_expected: bool = False,
) -> list[int]:
    """Return rows of a snapshot by their places, in the order in which they are to be used.

    Args:
        ctx: Whose object storage it is in.
        snapshot: The snapshot.
        size: `{"algorithm", "rows", "seed"}` and, where it is not all of them, `"split"`.
        needs_expected: Take rows with an expected output alone.

    Raises:
        InvalidDatasetError: There are none.
        CorruptSnapshotError: The stored bytes were changed, or are gone.
        UnavailableError: Object storage can't be read now.
    """
    selection = RowSelection(size["algorithm"], size["rows"], size["seed"])
    split = size.get("split")
    only_labelled = needs_expected and snapshot.labelled_count not in {None, snapshot.row_count}
    in_arrival_order = selection.algorithm == "LAST_N" and snapshot.source_url is None
    is_weighted = selection.algorithm == "WEIGHTED_SHUFFLE"
    if not (split or only_labelled or in_arrival_order or is_weighted):
        return select_positions(snapshot.row_count, selection)
    index = await (await read_snapshot(ctx, snapshot.id)).index()
    positions = select_positions(
        snapshot.row_count,
        selection,
        weights=index["weight"],
        newest=index["arrival"],
        eligible=_eligible(index, split, only_labelled=only_labelled),
    )
    if not positions:
        raise InvalidDatasetError(
            f"snapshot {snapshot.number} has no row to use: none of its {snapshot.row_count} rows "
            f"is {_wanted(split, only_labelled=only_labelled)}"
        )
    return positions


def _eligible(
    index: IndexArray, split: str | None, *, only_labelled: bool
) -> np.ndarray[tuple[int], np.dtype[np.int64]] | None:
    if not (split or only_labelled):
        return None
    is_eligible = np.ones(len(index), bool)
    if split:
        is_eligible &= (index["flags"] & IS_VALIDATION) == SPLITS[split]
    if only_labelled:
        is_eligible &= (index["flags"] & HAS_EXPECTED) != 0
    return np.flatnonzero(is_eligible)


def _wanted(split: str | None, *, only_labelled: bool) -> str:
    parts = [f"on the {split.lower()} side"] if split else []
    parts += ["labelled with an expected output"] if only_labelled else []
    return " and ".join(parts) or "of a weight above 0"
