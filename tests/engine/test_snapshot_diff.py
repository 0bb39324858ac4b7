"""The difference of two snapshots' indexes, beside one that plain dictionaries find."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.snapshot_diff import SnapshotDifference, compare_indexes
from engine.snapshot_format import IndexArray, index_row, read_index

Row = tuple[bytes, bytes]
Place = tuple[bytes, int]

# Few keys, so that they repeat and meet; some differ in their second half alone.
KEYS = [bytes([n]) * 8 + bytes([m]) * 8 for n in range(3) for m in range(3)]
ROWS = st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from([b"a\n", b"b\n", b"c\n"])))


def index_of(rows: Sequence[Row]) -> IndexArray:
    records = [index_row(key, line, arrival=n) for n, (key, line) in enumerate(rows)]
    return read_index(b"".join(records))


def numbered(rows: Sequence[Row]) -> dict[Place, tuple[int, bytes]]:
    """Return where each row is and its line, by its key and how many of that key came before."""
    seen: Counter[bytes] = Counter()
    found = {}
    for position, (key, line) in enumerate(rows):
        found[key, seen[key]] = position, line
        seen[key] += 1
    return found


def shown(
    difference: SnapshotDifference,
) -> tuple[list[int], list[int], list[tuple[int, int]], int]:
    return (
        difference.added.tolist(),
        difference.removed.tolist(),
        list(
            zip(difference.changed_before.tolist(), difference.changed_after.tolist(), strict=True)
        ),
        difference.unchanged_count,
    )


@given(before=ROWS, after=ROWS)
def test_it_is_what_plain_dictionaries_find(before: list[Row], after: list[Row]) -> None:
    old, new = numbered(before), numbered(after)
    both = old.keys() & new.keys()
    changed = sorted(
        ((old[place][0], new[place][0]) for place in both if old[place][1] != new[place][1]),
        key=lambda pair: pair[1],
    )
    assert shown(compare_indexes(index_of(before), index_of(after))) == (
        sorted(new[place][0] for place in new.keys() - both),
        sorted(old[place][0] for place in old.keys() - both),
        changed,
        len(both) - len(changed),
    )


@given(before=ROWS, after=ROWS)
def test_it_is_the_same_seen_from_the_other_side(before: list[Row], after: list[Row]) -> None:
    there = compare_indexes(index_of(before), index_of(after))
    back = compare_indexes(index_of(after), index_of(before))
    assert (there.added.tolist(), there.removed.tolist()) == (
        back.removed.tolist(),
        back.added.tolist(),
    )
    assert set(zip(there.changed_before.tolist(), there.changed_after.tolist(), strict=True)) == {
        *zip(back.changed_after.tolist(), back.changed_before.tolist(), strict=True)
    }
    assert there.unchanged_count == back.unchanged_count


@given(rows=st.lists(st.sampled_from(KEYS), unique=True).flatmap(st.permutations))
def test_rows_that_only_stand_elsewhere_are_unchanged(rows: list[bytes]) -> None:
    before = [(key, b"line\n") for key in sorted(rows)]
    difference = compare_indexes(index_of(before), index_of([(key, b"line\n") for key in rows]))
    assert shown(difference) == ([], [], [], len(rows))


def test_positions_are_small_numbers_whatever_the_snapshots_hold() -> None:
    empty = index_of([])
    for before, after in ((empty, empty), (empty, index_of([(KEYS[0], b"a\n")]))):
        difference = compare_indexes(before, after)
        assert {
            each.dtype
            for each in (
                difference.added,
                difference.removed,
                difference.changed_before,
                difference.changed_after,
            )
        } == {np.dtype(np.int32)}
