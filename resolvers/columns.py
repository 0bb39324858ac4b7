"""Which columns of a row a caller wants, and the statements that read just those."""

from collections.abc import Callable, Hashable, Iterable
from functools import lru_cache
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, inspect

from db.records import Query, write_query
from resolvers.paging import AnySelect

# Names of a row class's attributes; None stands for all that are not wide.
Columns: TypeAlias = frozenset[str] | None

# Texts that lists are not burdened with, unless they are asked for.
WIDE = frozenset({"input", "messages", "output", "expected", "blocks", "positions"})
ID_ALONE = frozenset({"id"})
# Written statements kept; each is a few kilobytes.
KEPT_QUERIES = 2_000


def read_columns(
    entity: Any, wanted: Columns, *, always: Iterable[str] = ("id",)
) -> list[ColumnElement[Any]]:
    """Return the columns of *entity* to select, each labelled with its attribute's name.

    Args:
        entity: A row class, or an alias of one.
        wanted: What the caller reads; names that are no columns are passed over.
        always: What is selected in any case.
    """
    attributes = inspect(entity).mapper.column_attrs.keys()
    names = set(attributes) - WIDE if wanted is None else wanted
    chosen = sorted({*names, *always} & set(attributes))
    return [getattr(entity, name).label(name) for name in chosen]


def is_wide(wanted: Columns) -> bool:
    """Tell whether *wanted* has a text that lists are not burdened with."""
    return wanted is not None and not WIDE.isdisjoint(wanted)


@lru_cache(maxsize=KEPT_QUERIES)
def kept_query(write: Callable[..., AnySelect], *shape: Hashable) -> Query:
    """Return the statement that `write(*shape)` makes, written once.

    What differs from call to call must be `bindparam`s; what changes the text is *shape*.
    """
    return write_query(write(*shape))
