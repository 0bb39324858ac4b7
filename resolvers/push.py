"""Pushing rows: each is checked, then stored, and only then acknowledged."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from db.base import new_id
from engine.rows import RowError, normalize_row, row_hash, row_key, row_line, rows_of_payload
from resolvers.auth import credentialed, demand_push
from resolvers.context import Context
from resolvers.errors import BodyTooLargeError, ConflictError, InvalidInputError, NotFoundError

MAX_ROWS = 1_000
# A check of so many rows takes a few milliseconds; of a row of a megabyte it may take a second.
SMALL_BYTES = 64 * 1024
ROWS_AT_A_TIME = 100


@dataclass(frozen=True, slots=True)
class PushableRow:
    """A row that can be taken, if there is room and it is new.

    Attributes:
        index: Its place in the push, from 0.
        key: Who it is; see `engine.rows.row_key`.
        line: As it is stored.
    """

    index: int
    key: bytes
    content_hash: bytes
    has_id: bool
    line: bytes


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a row was not taken."""

    index: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class PushReceipt:
    """What became of a push; what it says was accepted is durable.

    Attributes:
        pending_events: Rows that no snapshot covers yet.
        should_consolidate: Whether a snapshot of them is due.
    """

    batch_id: UUID
    accepted_rows: int
    duplicate_rows: int
    rejections: Sequence[Rejection]
    pending_events: int
    daily_event_limit: int | None
    monthly_event_limit: int | None
    max_samples_to_gather: int | None
    should_consolidate: bool

    @property
    def rejected_rows(self) -> int:
        """Rows that were not taken, for a reason of their own or for want of room."""
        return len(self.rejections)

    @property
    def status(self) -> Literal["accepted", "partial", "rejected"]:
        """`accepted`, `partial` or `rejected`; a duplicate is not refused."""
        if not self.rejections:
            return "accepted"
        return "partial" if self.accepted_rows or self.duplicate_rows else "rejected"


@dataclass(slots=True)
class Push:
    """A push on its way to be stored.

    Attributes:
        is_repeatable: Whether its receipt is kept for a repeat.
        receipt: What became of it.
        problem: Why it can't be taken at all.
    """

    batch_id: UUID
    workspace_id: UUID
    leaderboard_id: UUID
    rows: Sequence[PushableRow]
    rejections: Sequence[Rejection]
    is_repeatable: bool
    push_token_id: UUID | None
    receipt: PushReceipt | None = field(default=None)
    problem: NotFoundError | ConflictError | None = field(default=None)

    def outcome(self) -> PushReceipt:
        """Return what became of it, once it is stored.

        Raises:
            NotFoundError: The workspace has no such leaderboard.
            ConflictError: Its dataset is read from a URL.
        """
        if self.problem is not None:
            raise self.problem
        if self.receipt is None:
            raise RuntimeError(f"push {self.batch_id} was stored without a receipt")
        return self.receipt

    @property
    def size_bytes(self) -> int:
        """Bytes of its rows."""
        return sum(len(row.line) for row in self.rows)


@credentialed
async def push_rows(
    ctx: Context,
    leaderboard_id: UUID,
    payload: object,
    *,
    id: UUID | None = None,
    size_bytes: int | None = None,
) -> PushReceipt:
    """Take rows into a leaderboard's dataset.

    Args:
        ctx: Who asks: `leaderboards:write`, or the leaderboard's push token.
        leaderboard_id: Whose dataset it is.
        payload: A row, an array of rows, or an object with one of `rows`, `events` and `samples`.
        id: Chosen by the caller so that a repeat returns the same receipt.
        size_bytes: Of the payload as JSON, if that is known.

    Returns:
        What was taken, and what not and why. The rows are stored when this returns.

    Raises:
        InvalidInputError: The payload is nothing of that kind.
        BodyTooLargeError: There are more than `MAX_ROWS` rows.
        NotFoundError: The workspace has no such leaderboard.
        ConflictError: Its dataset is read from a URL.
    """
    demand_push(ctx, leaderboard_id)
    try:
        given = rows_of_payload(payload)
    except RowError as error:
        raise InvalidInputError(error.message) from error
    if len(given) > MAX_ROWS:
        raise BodyTooLargeError(f"a push has {MAX_ROWS} rows at most, not {len(given)}")
    is_small = size_bytes is not None and size_bytes <= SMALL_BYTES
    rows, rejections = await _check(
        given, ctx.services.limits.push_max_row_bytes, is_small=is_small
    )
    push = Push(
        batch_id=id or new_id(),
        workspace_id=ctx.workspace_id,
        leaderboard_id=leaderboard_id,
        rows=rows,
        rejections=rejections,
        is_repeatable=id is not None,
        push_token_id=ctx.principal.push_token_id,
    )
    await (await ctx.services.pushes.offer(push))
    return push.outcome()


async def _check(
    given: Sequence[Any], max_row_bytes: int, *, is_small: bool
) -> tuple[list[PushableRow], list[Rejection]]:
    """Tell the rows that can be taken from those that can't, and hold nobody up meanwhile.

    A small push is checked at once: a thread would take longer to begin.
    """
    rows: list[PushableRow] = []
    rejections: list[Rejection] = []
    for start in range(0, len(given), ROWS_AT_A_TIME):
        batch = given[start : start + ROWS_AT_A_TIME]
        checked = (
            _check_batch(start, batch, max_row_bytes)
            if is_small
            else await asyncio.to_thread(_check_batch, start, batch, max_row_bytes)
        )
        rows.extend(each for each in checked if isinstance(each, PushableRow))
        rejections.extend(each for each in checked if isinstance(each, Rejection))
    return rows, rejections


def _check_batch(
    first: int, given: Sequence[Any], max_row_bytes: int
) -> list[PushableRow | Rejection]:
    checked: list[PushableRow | Rejection] = []
    for index, value in enumerate(given, start=first):
        try:
            checked.append(_pushable(index, value, max_row_bytes))
        except RowError as error:
            checked.append(Rejection(index, error.code, error.message))
    return checked


def _pushable(index: int, value: object, max_row_bytes: int) -> PushableRow:
    row = normalize_row(value)
    line = row_line(row)
    if len(line) > max_row_bytes:
        raise RowError(
            "row_too_large", f"the row has {len(line)} bytes, above the limit of {max_row_bytes}"
        )
    content_hash = row_hash(row)
    return PushableRow(
        index=index,
        key=row_key(row, content_hash),
        content_hash=content_hash,
        has_id=row.external_id is not None,
        line=line,
    )
