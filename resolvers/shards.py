"""Shards: parts of a long piece of work, each a job of the queue, which several workers share."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.exc import SQLAlchemyError

from db.models import Job
from db.session import ReadSession, WriteSession
from resolvers.context import Context
from resolvers.failures import is_outage
from resolvers.model_calls import CallStoppedError

# Large enough to keep every call slot busy; and small work has several all the same, so that
# workers share it: one of them takes four at a time.
SHARD_ROWS = 50
FEWEST_SHARD_ROWS = 10
SHARDS_TO_SHARE = 16
# Within a second of the work's end, and it costs one read of a row, no further call begins.
STOP_POLL_SECONDS = 0.5


def shard_size(row_count: int) -> int:
    """Return how many of so many rows a shard is to have."""
    return max(min(math.ceil(row_count / SHARDS_TO_SHARE), SHARD_ROWS), FEWEST_SHARD_ROWS)


class ShardWork:
    """The pieces of a shard, done at once.

    After a failure, and once what they are for has ended, no further call begins, and those under
    way still finish: their answers are paid for.

    Args:
        is_running: Tells whether what the pieces are for goes on; it is asked again and again.

    Attributes:
        stopped: Set once no further call is to begin.
    """

    def __init__(self, is_running: Callable[[], Awaitable[bool]]) -> None:
        self._is_running = is_running
        self._failures: list[Exception] = []
        self.stopped = asyncio.Event()

    async def do(self, pieces: Sequence[Coroutine[Any, Any, None]]) -> None:
        """Do *pieces* at once, unless what they are for ends meanwhile.

        Raises:
            Exception: What the first one that failed raised.
        """
        watch = asyncio.create_task(self._watch())
        try:
            async with asyncio.TaskGroup() as tasks:
                for piece in pieces:
                    tasks.create_task(self._attempt(piece))
        finally:
            watch.cancel()
        if self._failures:
            raise self._failures[0]

    async def _watch(self) -> None:
        """Stop the calls once what they are for has ended, as when it is cancelled."""
        while not self.stopped.is_set():
            await asyncio.sleep(STOP_POLL_SECONDS)
            try:
                if not await self._is_running():
                    self.stopped.set()
            except (SQLAlchemyError, OSError, TimeoutError) as error:
                if not is_outage(error):
                    self._fail(error)
                # What is under way waits for the database by itself.

    def _fail(self, error: Exception) -> None:
        self._failures.append(error)
        self.stopped.set()

    async def _attempt(self, piece: Coroutine[Any, Any, None]) -> None:
        try:
            await piece
        except CallStoppedError as error:
            if not self.stopped.is_set():  # it was not this work that ended
                self._fail(error)
        except Exception as error:  # noqa: BLE001 - raised once the others have finished
            self._fail(error)


async def note_progress(ctx: Context, job: Job, left: int, *, of: int) -> None:
    """Let a shard's attempts count anew if it has come on since the last one.

    A worker that dies with it is then no sign that the shard kills its workers.
    """
    values: dict[str, Any] = {"arguments": {**job.arguments, "left": left}}
    if left < job.arguments.get("left", of):
        values["attempts"] = 1
    async with ctx.database.write() as session:
        await session.execute(update(Job).where(Job.id == job.id).values(values))


async def count_unfinished_shards(session: ReadSession, subject_id: UUID, *, kind: str) -> int:
    """Return how many shards of some work have not ended."""
    statement = (
        select(func.count())
        .select_from(Job)
        .where(
            Job.subject_id == subject_id, Job.kind == kind, Job.status.in_(["queued", "running"])
        )
    )
    return await session.scalar(statement) or 0


async def end_shard(session: WriteSession, shard_id: UUID) -> None:
    """Mark a shard done.

    The row of what it is part of is locked before: of two shards that end together, the later one
    sees the other done.
    """
    await session.execute(
        update(Job)
        .where(Job.id == shard_id)
        .values(status="succeeded", finished_at=datetime.now(UTC))
    )
