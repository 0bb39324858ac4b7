"""Keyset pages: which slice of a list is asked for, and how a statement returns it."""

import base64
import binascii
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Generic, TypeAlias, TypeVar
from uuid import UUID

import numpy as np
import numpy.typing as npt
import orjson
from sqlalchemy import BigInteger, ColumnElement, Select, and_, bindparam, or_
from sqlalchemy.orm import InstrumentedAttribute

from resolvers.errors import InvalidInputError

T = TypeVar("T")
# A statement, whatever its columns.
AnySelect: TypeAlias = Select[*tuple[Any, ...]]

# Places in a list that is not in the database, ascending.
Places: TypeAlias = Sequence[int] | npt.NDArray[np.integer[Any]]

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 200
# A column of 32 bits holds no more.
MAX_PLACE = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Order:
    """A total order of a list: by a column, then by id.

    Attributes:
        column: The column's name; `id` is in order of creation.
        parse: Reads the column's value back from a cursor.
        of: What is listed, which cursors say.
    """

    column: str = "id"
    parse: Callable[[str], Any] = UUID
    descending: bool = True
    of: str = ""


NEWEST_FIRST = Order()
OLDEST_FIRST = Order(descending=False)


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A slice of an ordered list.

    Attributes:
        size: Rows at most.
        after: The last row before the slice, as (column value, id).
        before: The first row behind the slice, as (column value, id).
        backward: Take the slice's rows nearest to its end.
    """

    size: int = DEFAULT_PAGE_SIZE
    order: Order = NEWEST_FIRST
    after: tuple[Any, UUID] | None = None
    before: tuple[Any, UUID] | None = None
    backward: bool = False


def read_page(
    *,
    first: int | None,
    after: str | None,
    last: int | None,
    before: str | None,
    of: str,
    order: Order = NEWEST_FIRST,
) -> PageRequest:
    """Read a connection's arguments.

    Args:
        first: Rows at most, from the start.
        after: A cursor.
        last: Rows at most, from the end.
        before: A cursor.
        of: What is listed: the name of its type, or any that no other list has.
        order: The list's.

    Raises:
        InvalidInputError: A size is out of bounds, both sizes are given, or a
            cursor is not one of this list's.
    """
    check_page_sizes(first, last)
    size = last if last is not None else first
    order = replace(order, of=of)
    return PageRequest(
        size=DEFAULT_PAGE_SIZE if size is None else size,
        order=order,
        after=None if after is None else _read_cursor("after", after, order),
        before=None if before is None else _read_cursor("before", before, order),
        backward=last is not None,
    )


def check_page_sizes(first: int | None = None, last: int | None = None) -> None:
    """Check what says how large a page is.

    Args:
        first: Rows at most, from the start.
        last: Rows at most, from the end.

    Raises:
        InvalidInputError: One is out of bounds, or both are given.
    """
    if first is not None and last is not None:
        raise InvalidInputError("first and last can't be given together")
    for name, size in (("first", first), ("last", last)):
        if size is not None and not 0 <= size <= MAX_PAGE_SIZE:
            raise InvalidInputError(f"{name}: must be 0 to {MAX_PAGE_SIZE} (got {size})")


def write_cursor(row: Any, order: Order) -> str:
    """Return the cursor of *row*: of which list it is, its sort value and its id."""
    value = getattr(row, order.column)
    text = (
        None if value is None else value.isoformat() if isinstance(value, datetime) else str(value)
    )
    packed = orjson.dumps([order.of, order.column, text, str(row.id)])
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def _read_cursor(name: str, cursor: str, order: Order) -> tuple[Any, UUID]:
    try:
        packed = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        of, column, text, row_id = orjson.loads(packed)
        if (of, column) != (order.of, order.column):
            raise ValueError(of, column)
        return (None if text is None else order.parse(text)), UUID(row_id)
    except (ValueError, TypeError, AttributeError, ArithmeticError, binascii.Error) as error:
        raise InvalidInputError(f"{name}: {cursor!r} is not a cursor of this list") from error


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A slice's rows, in order, and whether there are more on either side."""

    rows: Sequence[T]
    order: Order = NEWEST_FIRST
    has_next: bool = False
    has_previous: bool = False


@dataclass(frozen=True, slots=True)
class SliceShape:
    """What of a slice changes its statement's text; the rest are parameters."""

    order: Order
    backward: bool
    has_after: bool
    has_before: bool


def slice_shape(request: PageRequest) -> SliceShape:
    """Return the shape of *request*'s statement."""
    return SliceShape(
        order=request.order,
        backward=request.backward,
        has_after=request.after is not None,
        has_before=request.before is not None,
    )


def slice_values(request: PageRequest) -> dict[str, Any]:
    """Return the parameters of *request*'s statement."""
    values: dict[str, Any] = {"slice_size": request.size + 1}
    for name, mark in (("after", request.after), ("before", request.before)):
        if mark is not None:
            values[f"{name}_value"], values[f"{name}_id"] = mark
    return values


def slice_statement(statement: AnySelect, entity: Any, shape: SliceShape) -> AnySelect:
    """Narrow *statement* to a slice, and one row more to tell whether there are others.

    Its parameters are `slice_values`. Nulls sort last, whichever the direction.
    """
    order = shape.order
    column: InstrumentedAttribute[Any] = getattr(entity, order.column)
    descending = order.descending != shape.backward
    if shape.has_after:
        statement = statement.where(_beyond(entity, column, "after", descending=order.descending))
    if shape.has_before:
        statement = statement.where(
            _beyond(entity, column, "before", descending=not order.descending)
        )
    ordering: list[ColumnElement[Any]] = []
    if order.column != "id":
        ordering.append(column.desc() if descending else column.asc())
    ordering.append(entity.id.desc() if descending else entity.id.asc())
    return statement.order_by(*ordering).limit(bindparam("slice_size", type_=BigInteger()))


def _beyond(entity: Any, column: Any, mark: str, *, descending: bool) -> ColumnElement[bool]:
    """Return the condition for rows that come after a mark."""
    row_id = bindparam(f"{mark}_id", type_=entity.id.type)
    id_beyond = entity.id < row_id if descending else entity.id > row_id
    if column.key == "id":
        return id_beyond  # type: ignore[no-any-return]
    value = bindparam(f"{mark}_value", type_=column.type)
    value_beyond = column < value if descending else column > value
    return or_(value_beyond, and_(column == value, id_beyond))


def cut_page(rows: Iterable[T], request: PageRequest) -> Page[T]:
    """Make a page of what a `slice_statement` returned."""
    kept = list(rows)
    more = len(kept) > request.size
    kept = kept[: request.size]
    if request.backward:
        kept.reverse()
    return Page(
        rows=kept,
        order=request.order,
        has_next=request.before is not None if request.backward else more,
        has_previous=more if request.backward else request.after is not None,
    )


def by_number(column: str, *, descending: bool) -> Order:
    """Order by a numeric column that is never null."""
    return Order(column=column, parse=_read_number, descending=descending)


def _read_number(text: str) -> Decimal:
    number = Decimal(text)
    if not number.is_finite():
        raise ValueError(text)
    return number


def by_place(column: str, *, descending: bool = False) -> Order:
    """Order by a whole number from 0 that is never null, as positions in a file are."""
    return Order(column=column, parse=_parse_place, descending=descending)


def _parse_place(text: str) -> int:
    place = int(text)
    if not 0 <= place <= MAX_PLACE:
        raise ValueError(text)
    return place


@dataclass(frozen=True, slots=True)
class CountedPage(Generic[T]):
    """A slice, and the length of the whole list, which was known without counting."""

    page: Page[T]
    total_count: int


def cut_places(places: Places, request: PageRequest) -> range:
    """Return which of *places* a slice holds, as their indexes.

    Args:
        places: Ascending.
        request: In the order of `by_place`.

    Raises:
        InvalidInputError: A cursor holds no place.
    """
    start = 0 if request.after is None else bisect_right(places, _place("after", request.after))
    end = len(places)
    if request.before is not None:
        end = max(start, bisect_left(places, _place("before", request.before)))
    if request.backward:
        return range(max(start, end - request.size), end)
    return range(start, min(end, start + request.size))


def _place(name: str, mark: tuple[Any, UUID]) -> int:
    place, _ = mark
    if not isinstance(place, int):
        raise InvalidInputError(f"{name}: it is not a cursor of this list")
    return place


def placed_page(rows: Sequence[T], cut: range, total: int, request: PageRequest) -> CountedPage[T]:
    """Make a page of the rows that `cut_places` chose of *total*."""
    return CountedPage(
        Page(
            rows=rows,
            order=request.order,
            has_next=cut.stop < total,
            has_previous=cut.start > 0,
        ),
        total,
    )
