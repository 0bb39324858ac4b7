"""Many rows in one statement: an array parameter for each column, whatever the number of rows."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ARRAY, Table, bindparam, func, select
from sqlalchemy.dialects.postgresql import Insert, insert

from db.base import Base


def insert_from_arrays(row_class: type[Base]) -> Insert:
    """Return `INSERT ... SELECT * FROM unnest(...)`, which `column_arrays` makes parameters for.

    PostgreSQL parses, plans and answers once for the whole batch; an
    executemany asks it once a row. Measured at 16 traces a batch: 0.24 ms a row
    against 0.41.
    """
    table = _table(row_class)
    arrays = [
        bindparam(column.key, type_=ARRAY(column.type, dimensions=1)) for column in table.columns
    ]
    names = [column.name for column in table.columns]
    rows = func.unnest(*arrays).table_valued(*names).render_derived()
    return insert(table).from_select(list(table.columns), select(*rows.c))


def column_arrays(row_class: type[Base], rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Turn *rows* (column key to value, every column named) into one list a column."""
    keys = _table(row_class).columns.keys()
    return {key: [row[key] for row in rows] for key in keys}


def _table(row_class: type[Base]) -> Table:
    table = row_class.__table__
    if not isinstance(table, Table):
        raise TypeError(f"{row_class.__name__} is not over a table")
    return table
