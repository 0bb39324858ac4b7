"""Alembic's entry point; the caller supplies the connection."""

from alembic import context
from sqlalchemy import Connection

import db.models  # noqa: F401 - registers every row class
from db.base import Base


def run(connection: Connection) -> None:
    """Apply the requested revisions, each in a transaction of its own."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_server_default=True,
        include_name=lambda name, kind, _parents: (
            not (kind == "table" and name is not None and name.startswith("pgqueuer"))
        ),
        transaction_per_migration=True,
    )
    # Waiting for a lock blocks everybody behind it, so a migration gives up soon.
    connection.exec_driver_sql("SET lock_timeout = '4s'")
    connection.exec_driver_sql("SET statement_timeout = '60s'")
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    context.configure(dialect_name="postgresql", target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    run(context.config.attributes["connection"])
