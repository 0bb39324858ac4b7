"""Money that is held ahead: the calls of a busy token don't wait for a hold of their own.

To hold what a call may cost is a round trip and a commit. While a token's calls come thick and
fast, a process holds for many of them at once, and lends to each what it may cost. That is a hold
like any other: nothing is lent that the database does not hold, what a call was lent is given back
as it is settled, and the rest soon after. No more is held ahead than a hundredth of what is free,
and nothing when that is a few calls' worth: then each call is decided on by itself.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_DOWN, Decimal
from typing import Final
from uuid import UUID

import asyncpg

from db.base import new_id
from db.writing import StatementWriter
from resolvers.budgets import ZERO
from resolvers.call_bounds import SMALLEST_USD
from resolvers.failures import OUTAGES, describe
from resolvers.group_commit import GroupCommit
from resolvers.reservations import Reservation

log = logging.getLogger("gero.calls")

# So long a lease is lent from; a token that falls idle has its money back after it.
LENT_SECONDS: Final = 1.0
# How busy a token was is remembered so long: after a pause, it is from its first call on.
REMEMBERED_SECONDS: Final = 60.0
# A token is busy that has so many calls within this time; a lease is for fewer of them at least.
BUSY_CALLS: Final = 16
# Of what is free, the share that one lease may take.
SHARE: Final = 100
REMEMBERED_TOKENS: Final = 10_000

RELEASE = """
WITH freed AS (DELETE FROM budget_hold WHERE id = $1 RETURNING token_id, amount_usd)
UPDATE api_token AS token SET budget_held_usd = budget_held_usd - freed.amount_usd
FROM freed WHERE freed.token_id = token.id
"""


@dataclass(slots=True, eq=False)
class Lease:
    """A hold that calls are lent from.

    Attributes:
        hold: In the database.
        free_usd: Of it, not lent, in US dollars.
        ends_at: By the monotonic clock: it is lent from no longer.
        expires_at: By that clock: the database gives it back.
        release: Has the database give it back.
        lent_count: Calls that were lent from it and are not settled.
        is_closed: Nothing more is lent from it.
        is_released: The database has it no longer.
    """

    hold: Reservation
    free_usd: Decimal
    ends_at: float
    expires_at: float
    release: Callable[["Lease"], None]
    lent_count: int = 0
    is_closed: bool = False
    is_released: bool = False

    def close(self) -> None:
        """Lend from it no longer; once all that was lent is settled, the rest is given back."""
        self.is_closed = True
        self.free_usd = ZERO
        self._end()

    def settled(self) -> None:
        """Note that a call is settled that was lent from it."""
        self.lent_count -= 1
        self._end()

    def _end(self) -> None:
        if self.is_closed and self.lent_count == 0 and not self.is_released:
            self.is_released = True
            self.release(self)

    def covers(self, amount_usd: Decimal, now: float, seconds: float) -> bool:
        """Tell whether it can lend an amount to a call that may take so long from *now* on."""
        is_open = not self.is_closed and now < self.ends_at and now + seconds <= self.expires_at
        return is_open and amount_usd <= self.free_usd


@dataclass(slots=True)
class _Token:
    """What a process knows of a token's calls.

    Attributes:
        lease: Lent from.
        next: Lent from after it.
        is_asking: For another lease.
        since: By the monotonic clock: `calls` are counted since then.
        calls: Of the second that began then.
        calls_before: Of the last second before it that had any.
    """

    lease: Lease | None = None
    next: Lease | None = None
    is_asking: bool = False
    since: float = 0.0
    calls: int = 0
    calls_before: int = 0

    def count(self, now: float) -> None:
        """Count a call."""
        age = now - self.since
        if age >= LENT_SECONDS:
            self.calls_before = self.calls if age < REMEMBERED_SECONDS else 0
            self.since, self.calls = now, 0
        self.calls += 1

    @property
    def pace(self) -> int:
        """About how many calls come while a lease is lent from."""
        return max(self.calls, self.calls_before)


class BudgetLeases:
    """Lends the calls of busy tokens what they may cost.

    Args:
        reservations: Hold it.
        writer: Gives back what was not lent.
    """

    def __init__(self, reservations: GroupCommit[Reservation], writer: StatementWriter) -> None:
        self._reservations = reservations
        self._writer = writer
        self._tokens: dict[UUID, _Token] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def lend(self, token_id: UUID, amount_usd: Decimal, seconds: float) -> Lease | None:
        """Return a lease that covers a call, whose share it has from now on; None without one.

        Args:
            token_id: Whose call.
            amount_usd: The most that it may cost, in US dollars.
            seconds: After so long it is settled.
        """
        token = self._tokens.get(token_id)
        if token is None:
            return None
        now = time.monotonic()
        token.count(now)
        lease = token.lease
        if lease is None:
            return None
        is_covered = lease.covers(amount_usd, now, seconds)
        if not is_covered and token.next is not None:
            lease.close()
            lease, token.lease, token.next = token.next, token.next, None
            is_covered = lease.covers(amount_usd, now, seconds)
        if is_covered:
            lease.free_usd -= amount_usd
            lease.lent_count += 1
        if token.next is None and 2 * lease.free_usd < lease.hold.amount_usd:
            self._extend(token, lease.hold, amount_usd, seconds)
        return lease if is_covered else None

    def note(self, held: Reservation, seconds: float) -> None:
        """Note a hold of a call's own: with many of them, the next ones shall be lent theirs.

        Args:
            held: What was held.
            seconds: After so long it is settled.
        """
        token = self._tokens.get(held.token_id)
        if token is None:
            if len(self._tokens) >= REMEMBERED_TOKENS:
                self._forget_idle()
            token = self._tokens[held.token_id] = _Token()
            token.count(time.monotonic())
        if token.lease is None and token.pace >= BUSY_CALLS:
            self._extend(token, held, held.amount_usd, seconds)

    def close(self, token_id: UUID) -> None:
        """Give back what is not lent of a token's money, which a call of it has no room without."""
        token = self._tokens.pop(token_id, None)
        if token is not None:
            for lease in (token.lease, token.next):
                if lease is not None:
                    lease.close()

    async def aclose(self) -> None:
        """Give everything back that is not lent."""
        for token_id in list(self._tokens):
            self.close(token_id)
        while self._tasks:
            await asyncio.gather(*self._tasks)

    def _forget_idle(self) -> None:
        for token_id, token in list(self._tokens.items()):
            if token.lease is None and not token.is_asking:
                del self._tokens[token_id]

    def _extend(
        self, token: _Token, like: Reservation, amount_usd: Decimal, seconds: float
    ) -> None:
        """Have money held for the calls to come, if there is plenty of it."""
        state = like.state
        if token.is_asking or state is None or state.limit_usd is None:
            return
        free_usd = state.limit_usd - state.used_usd - state.held_usd
        size_usd = min(amount_usd * max(token.pace, BUSY_CALLS), free_usd / SHARE)
        if size_usd < amount_usd * BUSY_CALLS:
            return
        hold = Reservation(
            id=new_id(),
            token_id=like.token_id,
            amount_usd=size_usd.quantize(SMALLEST_USD, ROUND_DOWN),
            request_count=0,
            token_count=0,
            interval=like.interval,
            expires_at=datetime.now(UTC) + timedelta(seconds=seconds + LENT_SECONDS),
        )
        token.is_asking = True
        self._begin(self._open(token, hold, time.monotonic() + LENT_SECONDS, seconds))

    async def _open(self, token: _Token, hold: Reservation, ends_at: float, seconds: float) -> None:
        try:
            # Whatever is wrong with the database, the next call is told.
            with suppress(asyncpg.PostgresError, *OUTAGES):
                await (await self._reservations.offer(hold))
        finally:
            token.is_asking = False
        if hold.state is None or hold.refused is not None:
            return
        lease = Lease(hold, hold.amount_usd, ends_at, ends_at + seconds, self._release)
        if self._tokens.get(hold.token_id) is not token:  # room has become scarce meanwhile
            lease.close()
            return
        if token.lease is None:
            token.lease = lease
        else:
            token.next = lease
        asyncio.get_running_loop().call_later(
            max(ends_at - time.monotonic(), 0.0), self._end, token, lease
        )

    def _end(self, token: _Token, lease: Lease) -> None:
        lease.close()
        if token.next is lease:
            token.next = None
        if token.lease is lease:
            token.lease, token.next = token.next, None

    def _release(self, lease: Lease) -> None:
        self._begin(self._give_back(lease))

    async def _give_back(self, lease: Lease) -> None:
        try:
            await self._writer.fetch(RELEASE, [lease.hold.id])
        except (asyncpg.PostgresError, *OUTAGES) as error:
            log.warning("a hold is given back when it expires, since now: %s", describe(error))

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
