"""Alembic's entry point; the caller supplies the connection."""

import re

from alembic import context
from sqlalchemy import Connection

import db.models  # noqa: F401 - registers every row class
from db.base import Base

# The job engine's tables, and the days of traces.
NOT_OURS = re.compile(r"pgqueuer|trace(_text|_words)?_\d{8}$")
# Waiting for a lock blocks everybody behind it, so a migration gives up soon.
TIMEOUTS = ("SET lock_timeout = '4s'", "SET statement_timeout = '60s'")


def run(connection: Connection) -> None:
    """Apply the requested revisions, each in a transaction of its own."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_server_default=True,
        include_name=lambda name, kind, _parents: (
            not (kind == "table" and name is not None and NOT_OURS.match(name))
        ),
        transaction_per_migration=True,
    )
    for statement in TIMEOUTS:
        connection.exec_driver_sql(statement)
    with context.begin_transaction():
        context.run_migrations()


def write() -> None:
    """Print the requested revisions as SQL, for whoever applies them by hand."""
    context.configure(
        dialect_name="postgresql",
        target_metadata=Base.metadata,
        literal_binds=True,
        transaction_per_migration=True,
    )
    for statement in TIMEOUTS:
        context.execute(statement)
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    write()
else:
    run(context.config.attributes["connection"])
