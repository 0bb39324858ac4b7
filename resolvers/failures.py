"""From what went wrong to what is told of it: an application error, or the reason of many."""

import logging
from collections import Counter
from collections.abc import Iterable
from typing import Any

import asyncpg
from pydantic import ValidationError
from sqlalchemy.exc import (
    DBAPIError,
    InterfaceError,
    InvalidRequestError,
    OperationalError,
    StatementError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from providers.base import ProviderError
from providers.objects import ObjectError
from resolvers.errors import AppError, InternalError, UnavailableError
from resolvers.inputs import invalid_input

log = logging.getLogger("gero")

# What SQLAlchemy, asyncpg and the network raise when there is no server to answer, or to store.
OUTAGES = (
    InterfaceError,
    OperationalError,
    PoolTimeoutError,
    asyncpg.InterfaceError,
    # The server said that it ends a connection, and has not hung up yet.
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.TooManyConnectionsError,
    asyncpg.DiskFullError,
    asyncpg.ReadOnlySQLTransactionError,  # as a server refuses that another takes the place of
    OSError,
    TimeoutError,
)

# There are no migrations, or not all of them.
UNMIGRATED = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError)
UNMIGRATED_RETRY_SECONDS = 10
# What these say comes from the interpreter, the network or the pool, and quotes no value. Others
# may quote what a user, a model or a row said.
QUOTES_NOTHING = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    IndexError,
    InvalidRequestError,
    MemoryError,
    NameError,
    ObjectError,
    OSError,
    PoolTimeoutError,
    RuntimeError,
    TypeError,
)
# Classes of PostgreSQL's codes that are about the server, the login, the schema or resources, and
# not about rows. Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
ABOUT_THE_SERVER = {"08", "28", "3D", "42", "53", "57", "58"}


def describe(error: BaseException) -> str:
    """Say on a line, for the log, what *error* is, and quote no value.

    A database's error may quote the row, the parameter or the statement; a validator's the input.
    """
    if isinstance(error, StatementError) and error.orig is not None:
        return describe(error.orig.__cause__ or error.orig)
    name = type(error).__name__
    if isinstance(error, AppError):
        return f"{name} ({error.code})"
    if isinstance(error, ProviderError):
        status = "" if error.status is None else f", HTTP {error.status}"
        return f"{name} ({error.code}{status})"
    if isinstance(error, asyncpg.PostgresError):
        return f"{name} ({_describe_postgres(error)})"
    said = str(error).partition("\n")[0]
    # The driver quotes an argument that it can't encode; that error is a ValueError too.
    is_drivers = isinstance(error, asyncpg.InterfaceError) and not isinstance(error, ValueError)
    quotes_nothing = is_drivers or isinstance(error, QUOTES_NOTHING)
    return f"{name}: {said}" if said and quotes_nothing else name


def _describe_postgres(error: Any) -> str:
    code = str(error.sqlstate)
    if code[:2] in ABOUT_THE_SERVER:
        return f"{code}, {error.message}"
    place = error.constraint_name or error.column_name or error.table_name
    return f"{code}, {place}" if place else code


def explain_failure(error: BaseException, request_id: str) -> AppError:
    """Return the application error that *error* amounts to; a bug is logged and masked."""
    if isinstance(error, AppError):
        return error
    if isinstance(error, ValidationError):
        return invalid_input(error.errors(include_url=False))
    if isinstance(_drivers_own(error), UNMIGRATED):
        log.error("request %s failed for what the database lacks", request_id, exc_info=error)
        return UnavailableError(
            "the database lacks what this version needs; 'gero migrate' brings it up to date",
            retry_after_seconds=UNMIGRATED_RETRY_SECONDS,
        )
    if is_outage(error):
        log.warning("request %s: the database can't be reached: %s", request_id, describe(error))
        return UnavailableError("the database can't be reached; try again", retry_after_seconds=1)
    log.error("request %s failed", request_id, exc_info=error)
    return InternalError(
        f"an internal error; the server's log has it under request id {request_id}",
        details={"request_id": request_id},
    )


def is_outage(error: BaseException) -> bool:
    """Tell whether *error* means that the database can't be reached, or has no room."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    return isinstance(error, OUTAGES) or isinstance(_drivers_own(error), OUTAGES)


def _drivers_own(error: BaseException) -> BaseException | None:
    """Return what the driver raised, which SQLAlchemy does not tell apart."""
    if isinstance(error, DBAPIError):
        return error.orig.__cause__ if error.orig is not None else None
    return error


def explain_errors(errors: Iterable[str | None]) -> str | None:
    """Say what went wrong most often where every call failed; None when there was no call."""
    reasons = Counter(error or "unknown" for error in errors)
    if not reasons:
        return None
    # In a fixed order, so that of two that are as common the same one is named.
    reason, times = min(reasons.items(), key=lambda item: (-item[1], item[0]))
    total = reasons.total()
    share = "" if times == total else f", {times} of them"
    return f"all {total} calls failed{share} with {reason}"
