"""Money that is held ahead: the calls of a busy token don't wait for a hold of their own.

To hold what a call may cost is a round trip and a commit. While a token's calls come thick and
fast, a process holds for many of them at once, and lends to each what it may cost. That is a hold
like any other: nothing is lent that the database does not hold. Each time it is no more than a
hundredth of what is free, and nothing when that is a few calls' worth: then each call is decided on
by itself.

What calls have spent of a lease stands in its own row, to which no other server writes, and moves
to the token by the second, with what is free again. So the token's row, which all servers share,
is not locked for each commit. Of a server that died, the sweep moves it (`budgets.py`).
"""

import asyncio
import logging
import time
from collections.abc import Coroutine
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import ROUND_DOWN, Decimal
from functools import partial
from typing import Final
from uuid import UUID

import asyncpg

from db.base import new_id
from db.writing import StatementWriter
from resolvers.budgets import ZERO, window_start
from resolvers.call_bounds import SMALLEST_USD
from resolvers.failures import OUTAGES, describe
from resolvers.group_commit import GroupCommit
from resolvers.lease_accounts import LENT_SECONDS, Account, Lease
from resolvers.patience import retry_outage
from resolvers.reservations import Reservation
from resolvers.waiting import wait_for_event

log = logging.getLogger("gero.calls")

# A token is busy that has so many calls while a lease is lent from; one is for so many at least.
BUSY_CALLS: Final = 16
# A server that ends waits so long for what moves.
CLOSING_SECONDS: Final = 5.0
# Of what is free, the share that one lease may take.
SHARE: Final = 100
REMEMBERED_TOKENS: Final = 10_000

MOVE = """
WITH moved AS (%s)
UPDATE api_token AS token SET
    budget_used_usd = moved.spent_usd
        + CASE WHEN budget_window_started_at < $2 THEN 0 ELSE budget_used_usd END,
    budget_held_usd = budget_held_usd - moved.amount_usd,
    budget_window_started_at = greatest(budget_window_started_at, $2)
FROM moved WHERE moved.token_id = token.id
RETURNING budget_limit_usd, budget_used_usd
"""
MOVE_SOME: Final = (
    MOVE
    % """
    UPDATE budget_hold SET amount_usd = amount_usd - $3, spent_usd = spent_usd - $4
    WHERE id = $1 RETURNING token_id, $3::numeric AS amount_usd, $4::numeric AS spent_usd
"""
)
# What its row says: so it is right whatever moved before.
MOVE_ALL: Final = (
    MOVE
    % """
    DELETE FROM budget_hold WHERE id = $1 RETURNING token_id, amount_usd, spent_usd
"""
)


class BudgetLeases:
    """Lends the calls of busy tokens what they may cost.

    Args:
        reservations: Hold it.
        writer: Moves what was spent, and what is free again.
    """

    def __init__(self, reservations: GroupCommit[Reservation], writer: StatementWriter) -> None:
        self._reservations = reservations
        self._writer = writer
        self._tokens: dict[UUID, Account] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_ending = False

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
            self._close(lease)
            lease, token.lease, token.next = token.next, token.next, None
            is_covered = lease.covers(amount_usd, now, seconds)
        if is_covered:
            lease.lend(amount_usd)
        if token.next is None and 2 * lease.free_usd < lease.hold.amount_usd:
            self._extend(token, lease.hold, amount_usd, seconds)
        return lease if is_covered else None

    def note(self, held: Reservation, seconds: float) -> None:
        """Note a call's own hold: with many of them, the next calls shall be lent theirs.

        Args:
            held: What was held.
            seconds: After so long it is settled.
        """
        token = self._tokens.get(held.token_id)
        if token is None:
            if len(self._tokens) >= REMEMBERED_TOKENS:
                self._forget_idle()
            token = self._tokens[held.token_id] = Account()
            token.count(time.monotonic())
        held.account = token
        if token.lease is None and token.pace >= BUSY_CALLS:
            self._extend(token, held, held.amount_usd, seconds)

    def close(self, token_id: UUID) -> None:
        """Give back what is not lent of a token's money, which a call of it has no room without."""
        token = self._tokens.pop(token_id, None)
        if token is not None:
            for lease in (token.lease, token.next):
                if lease is not None:
                    self._close(lease)
                    lease.hurry.set()

    async def aclose(self) -> None:
        """Give everything back that is not lent; what can't be moves when it expires."""
        self._is_ending = True
        for token_id in list(self._tokens):
            self.close(token_id)
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSING_SECONDS):
                while self._tasks:
                    await asyncio.gather(*self._tasks)

    def _forget_idle(self) -> None:
        for token_id, token in list(self._tokens.items()):
            if token.lease is None and not token.is_asking:
                del self._tokens[token_id]

    def _extend(
        self, token: Account, like: Reservation, amount_usd: Decimal, seconds: float
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

    async def _open(
        self, token: Account, hold: Reservation, ends_at: float, seconds: float
    ) -> None:
        lease = Lease(token, hold, hold.amount_usd, hold.amount_usd, ends_at, ends_at + seconds)
        begins_at = window_start(hold.interval, datetime.now(UTC))
        try:
            await (await self._reservations.offer(hold))
        except (asyncpg.PostgresError, *OUTAGES):
            # What is wrong with the database, the next call is told. It may be held all the same.
            self._close(lease)
            return
        finally:
            token.is_asking = False
        state = hold.state
        if state is None or hold.refused is not None:
            return
        token.hear(state.limit_usd, state.used_usd, begins_at)
        # Room has become scarce meanwhile, or the budget was taken away.
        if self._tokens.get(hold.token_id) is not token or state.limit_usd is None:
            self._close(lease)
            return
        if token.lease is None:
            token.lease = lease
        else:
            token.next = lease
        asyncio.get_running_loop().call_later(
            max(ends_at - time.monotonic(), 0.0), self._end, token, lease
        )

    def _end(self, token: Account, lease: Lease) -> None:
        if token.next is lease:
            token.next = None
        if token.lease is lease:
            token.lease, token.next = token.next, None
        self._close(lease)

    def _close(self, lease: Lease) -> None:
        """Lend from a lease no longer."""
        if not lease.is_closed:
            lease.is_closed = True
            lease.free_usd = ZERO
            self._begin(self._move_until_over(lease))

    async def _move_until_over(self, lease: Lease) -> None:
        """Move what is spent of a closed lease, and what is free again, until all of it has."""
        while lease.lent_count and time.monotonic() < lease.expires_at:
            is_last = self._is_ending
            if not is_last:
                await wait_for_event(lease.hurry, LENT_SECONDS)
                lease.hurry.clear()
            if lease.lent_count and not lease.is_unsure:
                await self._move_some(lease)
            if is_last:
                break
        # What calls still have of it is charged as the database finds it, when it expires.
        if lease.lent_count == 0:
            await self._move_all(lease)
        lease.is_over = True
        lease.moved(lease.spent_usd)

    async def _move_some(self, lease: Lease) -> None:
        spent_usd = lease.spent_usd
        amount_usd = lease.amount_usd - lease.lent_usd
        if not (spent_usd or amount_usd):
            return
        try:
            await self._move(lease, MOVE_SOME, amount_usd, spent_usd)
        except (asyncpg.PostgresError, *OUTAGES) as error:
            lease.is_unsure = True
            log.info("a lease's money moves when its last call is stored: %s", describe(error))
        else:
            lease.amount_usd -= amount_usd
            lease.moved(spent_usd)

    async def _move_all(self, lease: Lease) -> None:
        try:
            await retry_outage(partial(self._move, lease, MOVE_ALL), is_awaited=True)
        except (asyncpg.PostgresError, *OUTAGES) as error:
            log.warning("a lease's money moves when it expires, since now: %s", describe(error))

    async def _move(self, lease: Lease, statement: str, *amounts_usd: Decimal) -> None:
        """Run a statement of those that move."""
        begins_at = window_start(lease.hold.interval, datetime.now(UTC))
        rows = await self._writer.fetch(statement, [lease.hold.id, begins_at, *amounts_usd])
        for row in rows:
            lease.account.hear(row.budget_limit_usd, row.budget_used_usd, begins_at)

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
