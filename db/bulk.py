"""Many rows in one statement: an array parameter for each column, whatever the number of rows."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ARRAY, Table, bindparam, func, select
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.ext.asyncio import AsyncSession

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


async def copy_rows(
    session: AsyncSession, row_class: type[Base], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Insert *rows* (column key to value, every column named) by COPY, in *session*'s transaction.

    For thousands of rows, of columns whose values the driver takes as they are: each element of
    an array parameter is looked at several times over, and none of a row that is copied. The
    transaction must have begun by a statement of the session's own.
    """
    table = _table(row_class)
    connection = await (await session.connection()).get_raw_connection()
    driver: Any = connection.driver_connection
    if not driver.is_in_transaction():
        raise RuntimeError("rows are copied in a transaction that a statement has begun")
    keys = table.columns.keys()
    await driver.copy_records_to_table(
        table.name,
        records=[[row[key] for key in keys] for row in rows],
        columns=[column.name for column in table.columns],
    )
