"""Connections: the slice of a list that is asked for, in Relay's form."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Generic, TypeVar

import strawberry

from compiled_graphql.batch import BatchResolver
from compiled_graphql.selection import selected_names
from resolvers.errors import AppError
from resolvers.paging import (
    NEWEST_FIRST,
    OLDEST_FIRST,
    CountedPage,
    Order,
    Page,
    by_place,
    read_page,
    write_cursor,
)
from schema.context import Info
from schema.enums import ListOrder

T = TypeVar("T")

First = Annotated[
    int | None, strawberry.argument(description="Take so many from the start; at most 200.")
]
After = Annotated[str | None, strawberry.argument(description="Start behind this cursor.")]
Last = Annotated[
    int | None, strawberry.argument(description="Take so many from the end; at most 200.")
]
Before = Annotated[str | None, strawberry.argument(description="End before this cursor.")]
OrderBy = Annotated[ListOrder, strawberry.argument(description="The order of the list.")]

ORDERS = {ListOrder.NEWEST_FIRST: NEWEST_FIRST, ListOrder.OLDEST_FIRST: OLDEST_FIRST}
# Of what is numbered as it comes.
BY_NUMBER = {
    ListOrder.NEWEST_FIRST: by_place("number", descending=True),
    ListOrder.OLDEST_FIRST: by_place("number"),
}


@dataclass(frozen=True, slots=True)
class EdgeSource:
    """The source of an edge."""

    node: Any
    order: Order

    @property
    def cursor(self) -> str:
        """The item's place."""
        return write_cursor(self.node, self.order)


@dataclass(frozen=True, slots=True)
class PageInfoSource:
    """The source of a page's information."""

    page: Page[Any]

    @property
    def has_next_page(self) -> bool:
        """Whether the list goes on."""
        return self.page.has_next

    @property
    def has_previous_page(self) -> bool:
        """Whether the list begins earlier."""
        return self.page.has_previous

    @property
    def start_cursor(self) -> str | None:
        """The first item's cursor."""
        return write_cursor(self.page.rows[0], self.page.order) if self.page.rows else None

    @property
    def end_cursor(self) -> str | None:
        """The last item's cursor."""
        return write_cursor(self.page.rows[-1], self.page.order) if self.page.rows else None


@dataclass(frozen=True, slots=True)
class Slice:
    """The source of a connection: a page of rows, and how to count the whole list."""

    page: Page[Any]
    count: Callable[[], Awaitable[int]]

    @property
    def nodes(self) -> Sequence[Any]:
        """The items."""
        return self.page.rows

    @property
    def edges(self) -> Sequence[EdgeSource]:
        """The items with their places."""
        return [EdgeSource(row, self.page.order) for row in self.page.rows]

    @property
    def page_info(self) -> PageInfoSource:
        """Where the slice lies."""
        return PageInfoSource(self.page)

    @property
    def total_count(self) -> Awaitable[int]:
        """The whole list's length, counted when it is asked for."""
        return self.count()


def slice_of(page: Page[Any], count: Callable[..., Awaitable[int]], *args: object) -> Slice:
    """Return the source of a connection; `count(*args)` runs only when asked for."""
    return Slice(page, partial(count, *args))


def counted_slice(page: CountedPage[Any]) -> Slice:
    """Return the source of a connection whose length is known."""
    return slice_of(page.page, _known, page.total_count)


def counted_slices(pages: Sequence[CountedPage[Any] | AppError]) -> Sequence[Slice | AppError]:
    """Return the sources of such connections, or why there is none."""
    return [each if isinstance(each, AppError) else counted_slice(each) for each in pages]


async def _known(total_count: int) -> int:
    return total_count


def slices_by(
    list_pages: Callable[..., Awaitable[Sequence[Page[Any]]]],
    count: Callable[..., Awaitable[int]],
    type_name: str,
    orders: Mapping[ListOrder, Order] = ORDERS,
) -> BatchResolver:
    """Return the resolver of a list that every source has, by age.

    Args:
        list_pages: Takes a context, the sources' ids, what is asked for and the columns that are
            wanted; returns a page for each id.
        count: Takes a context and one id; returns the length of its whole list.
        type_name: The object type of the items.
        orders: What each order is.
    """

    async def resolve(
        roots: Sequence[Any],
        info: Info,
        *,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        order_by: OrderBy = ListOrder.NEWEST_FIRST,
    ) -> Sequence[Slice]:
        ctx, ids = info.context.ctx, [root.id for root in roots]
        request = read_page(
            first=first, after=after, last=last, before=before, of=type_name, order=orders[order_by]
        )
        pages = await list_pages(ctx, ids, request, selected_names(info, type_name))
        return [slice_of(page, count, ctx, key) for page, key in zip(pages, ids, strict=True)]

    return resolve


@strawberry.type(description="Where a slice of a list lies.")
class PageInfo:
    """Over `PageInfoSource`."""

    has_next_page: bool = strawberry.field(description="Whether there are more behind it.")
    has_previous_page: bool = strawberry.field(description="Whether there are more before it.")
    start_cursor: str | None = strawberry.field(description="The cursor of its first item.")
    end_cursor: str | None = strawberry.field(description="The cursor of its last item.")


@strawberry.type(description="An item and its place in the list.")
class Edge(Generic[T]):
    """Over `EdgeSource`."""

    cursor: str = strawberry.field(description="Its place, for after and before.")
    node: T = strawberry.field(description="The item.")


@strawberry.type(description="A slice of a list.")
class Connection(Generic[T]):
    """Over `Slice`: Relay's connection, with the items themselves as `nodes`."""

    nodes: list[T] = strawberry.field(description="The items.")
    edges: list[Edge[T]] = strawberry.field(description="The items with their cursors.")
    page_info: PageInfo = strawberry.field(description="Where the slice lies.")
    total_count: int = strawberry.field(
        description="Items in the whole list; counted only when asked for."
    )
