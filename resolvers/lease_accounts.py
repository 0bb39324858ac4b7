"""What a process knows of a busy token's money: its leases, and the account of what it has spent.

`budget_leases.py` says what leases are, and opens, closes and moves them.
"""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from resolvers.budgets import ZERO, Budget, window_end

if TYPE_CHECKING:
    from resolvers.reservations import Reservation

# So long a lease is lent from; a token that falls idle has its money back after it.
LENT_SECONDS: Final = 1.0
# How busy a token was is remembered so long: after a pause, it is from its first call on.
REMEMBERED_SECONDS: Final = 60.0


@dataclass(slots=True, eq=False)
class Lease:
    """A hold that calls are lent from.

    Attributes:
        account: Of the token whose calls these are.
        hold: In the database.
        amount_usd: Of it, what has not moved, in US dollars: it is free, lent or spent.
        free_usd: Of that, not lent.
        lent_usd: Of that, lent to calls that are not stored.
        spent_usd: What calls were charged that were lent from it, and has not moved.
        lent_count: The number of those calls.
        ends_at: By the monotonic clock: it is lent from no longer.
        expires_at: By that clock: the database gives it back.
        is_closed: Nothing more is lent from it.
        is_unsure: Whether some of it moved is not known; the rest moves in the end.
        is_over: It is no longer in the database, as far as this process has to do with that.
        hurry: Set when what there is to move shall not wait.
    """

    account: "Account"
    hold: "Reservation"
    amount_usd: Decimal
    free_usd: Decimal
    ends_at: float
    expires_at: float
    lent_usd: Decimal = ZERO
    spent_usd: Decimal = ZERO
    lent_count: int = 0
    is_closed: bool = False
    is_unsure: bool = False
    is_over: bool = False
    hurry: asyncio.Event = field(default_factory=asyncio.Event)

    def covers(self, amount_usd: Decimal, now: float, seconds: float) -> bool:
        """Tell whether it can lend an amount to a call that may take so long from *now* on."""
        is_open = not self.is_closed and now < self.ends_at and now + seconds <= self.expires_at
        return is_open and amount_usd <= self.free_usd

    def lend(self, amount_usd: Decimal) -> None:
        """Lend an amount to a call."""
        self.free_usd -= amount_usd
        self.lent_usd += amount_usd
        self.lent_count += 1

    def settle(self, lent_usd: Decimal, charged_usd: Decimal) -> None:
        """Note that a call is stored, which was lent and charged so much."""
        self.lent_usd -= lent_usd
        self.lent_count -= 1
        if self.is_closed and self.lent_count == 0:
            self.hurry.set()
        if not self.is_over:
            self.spent_usd += charged_usd
            self.account.spent_usd += charged_usd

    def moved(self, spent_usd: Decimal) -> None:
        """Note that so much of what is spent stands in its token's row."""
        self.spent_usd -= spent_usd
        self.account.spent_usd -= spent_usd


@dataclass(slots=True)
class Account:
    """What a process knows of a token's calls.

    Attributes:
        lease: Lent from.
        next: Lent from after it.
        is_asking: For another lease.
        since: By the monotonic clock: `calls` are counted since then.
        calls: Of the second that began then.
        calls_before: Of the last second before it that had any.
        limit_usd: Of its budget, in US dollars, as the database said last.
        used_usd: Of that, as it said then.
        begins_at: The window that this was of.
        spent_usd: Of this process's leases, what has not moved.
    """

    lease: Lease | None = None
    next: Lease | None = None
    is_asking: bool = False
    since: float = 0.0
    calls: int = 0
    calls_before: int = 0
    limit_usd: Decimal = ZERO
    used_usd: Decimal = ZERO
    begins_at: datetime | None = None
    spent_usd: Decimal = ZERO

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

    def hear(
        self, limit_usd: Decimal | None, used_usd: Decimal, begins_at: datetime | None
    ) -> None:
        """Note what the database says of the budget.

        What it said before may be heard later: within a window, no less is used afterwards.

        Args:
            limit_usd: None when the budget is gone.
            used_usd: Of it.
            begins_at: Of which window.
        """
        self.limit_usd = limit_usd or ZERO
        if begins_at == self.begins_at:
            self.used_usd = max(used_usd, self.used_usd)
        elif begins_at is None or self.begins_at is None or begins_at > self.begins_at:
            self.used_usd, self.begins_at = used_usd, begins_at

    def budget(self, interval: str, now: datetime) -> Budget:
        """Return the budget as it stands, but for what other servers' leases have spent since."""
        return Budget(self.limit_usd, self.used_usd + self.spent_usd, window_end(interval, now))
