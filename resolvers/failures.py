"""From what went wrong to what is told of it: an application error, or the reason of many."""

import logging
from collections import Counter
from collections.abc import Iterable

import asyncpg
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from resolvers.errors import AppError, InternalError, UnavailableError
from resolvers.inputs import invalid_input

log = logging.getLogger("gero")

# What SQLAlchemy, asyncpg and the network raise when there is no server to answer.
OUTAGES = (
    InterfaceError,
    OperationalError,
    PoolTimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.TooManyConnectionsError,
    OSError,
    TimeoutError,
)


def explain_failure(error: BaseException, request_id: str) -> AppError:
    """Return the application error that *error* amounts to; a bug is logged and masked."""
    if isinstance(error, AppError):
        return error
    if isinstance(error, ValidationError):
        return invalid_input(error.errors(include_url=False))
    if is_outage(error):
        log.warning("request %s: the database can't be reached: %s", request_id, error)
        return UnavailableError("the database can't be reached; try again", retry_after_seconds=1)
    log.error("request %s failed", request_id, exc_info=error)
    return InternalError(
        f"an internal error; the server's log has it under request id {request_id}",
        details={"request_id": request_id},
    )


def is_outage(error: BaseException) -> bool:
    """Tell whether *error* means that the database can't be reached."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    return isinstance(error, OUTAGES)


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
