"""Waiting for a database that is away, where what is to be stored is paid for."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg

from resolvers.failures import is_outage

T = TypeVar("T")

# Somebody who waits is told after so long that the database is away.
LONGEST_OUTAGE_SECONDS = 120
OUTAGE_POLL_SECONDS = 0.5


async def retry_outage(work: Callable[[], Awaitable[T]], *, is_awaited: bool = False) -> T:
    """Do *work*, again while the database is away.

    Args:
        work: May be done again after a commit whose answer was lost, and must then change
            nothing more.
        is_awaited: Somebody waits for it, and is to be told when that takes long.

    Raises:
        SQLAlchemyError: The database refused it, or did not come back in time; `OSError` and
            `asyncpg.PostgresError` where no session is used.
    """
    give_up_at = time.monotonic() + (LONGEST_OUTAGE_SECONDS if is_awaited else math.inf)
    while True:
        try:
            return await work()
        except Exception as error:
            is_over = isinstance(error, asyncpg.TransactionRollbackError)  # a deadlock, lost
            if not (is_over or is_outage(error)) or time.monotonic() > give_up_at:
                raise
            await asyncio.sleep(OUTAGE_POLL_SECONDS)
