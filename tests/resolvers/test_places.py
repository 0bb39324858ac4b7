"""Slices of lists that are not in the database."""

from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolvers.errors import InvalidInputError
from resolvers.paging import (
    PageRequest,
    by_number,
    by_place,
    cut_places,
    read_page,
    write_cursor,
)

ORDER = replace(by_place("position"), of="Row")
ID = UUID(int=7)
PLACES = st.lists(st.integers(0, 60), unique=True).map(sorted)
MARKS = st.none() | st.tuples(st.integers(0, 60), st.just(ID))


class Item:
    """What a cursor is written of."""

    def __init__(self, position: int) -> None:
        self.position = position
        self.id = ID


@given(places=PLACES, after=MARKS, before=MARKS, size=st.integers(0, 8), backward=st.booleans())
def test_a_slice_is_what_filtering_the_list_gives(
    places: list[int],
    after: tuple[int, UUID] | None,
    before: tuple[int, UUID] | None,
    size: int,
    *,
    backward: bool,
) -> None:
    request = PageRequest(size, ORDER, after, before, backward)
    between = [
        place
        for place in places
        if (after is None or place > after[0]) and (before is None or place < before[0])
    ]
    wanted = (between[-size:] if size else []) if backward else between[:size]
    assert [places[at] for at in cut_places(places, request)] == wanted
    assert list(cut_places(np.array(places, dtype=np.int32), request)) == list(
        cut_places(places, request)
    )


@given(places=PLACES, size=st.integers(1, 8))
def test_going_from_cursor_to_cursor_meets_each_place_once(places: list[int], size: int) -> None:
    seen: list[int] = []
    cursor = None
    while True:
        request = read_page(first=size, after=cursor, last=None, before=None, of="Row", order=ORDER)
        cut = cut_places(places, request)
        if not cut:
            break
        seen += [places[at] for at in cut]
        cursor = write_cursor(Item(seen[-1]), ORDER)
    assert seen == places


@pytest.mark.parametrize("position", [-1, 2**31, 10**30])
def test_a_cursor_with_a_number_that_is_no_place_is_refused(position: int) -> None:
    cursor = write_cursor(Item(position), ORDER)
    with pytest.raises(InvalidInputError):
        read_page(first=1, after=cursor, last=None, before=None, of="Row", order=ORDER)


def test_a_cursor_without_a_place_is_refused() -> None:
    for request in (PageRequest(after=(None, ID)), PageRequest(before=(None, ID))):
        with pytest.raises(InvalidInputError):
            cut_places([1, 2], request)


@pytest.mark.parametrize("number", ["sNaN", "NaN", "Infinity"])
def test_a_cursor_at_no_number_is_none(number: str) -> None:
    order = by_number("position", descending=False)
    item: Any = Item(0)
    item.position = Decimal(number)
    cursor = write_cursor(item, replace(order, of="Row"))
    with pytest.raises(InvalidInputError, match="is not a cursor of this list"):
        read_page(first=1, after=cursor, last=None, before=None, of="Row", order=order)
