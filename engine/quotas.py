"""How many pushed rows a dataset has room for, and what closes it."""

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum


class Refusal(StrEnum):
    """Why a dataset takes no further row."""

    ENDED = "dataset_ended"
    DAILY_LIMIT = "daily_limit_reached"
    MONTHLY_LIMIT = "monthly_limit_reached"
    FULL = "dataset_full"


@dataclass(frozen=True, slots=True)
class Quotas:
    """What a dataset may take; None means as much as there is.

    Attributes:
        daily: Accepted rows in a UTC day.
        monthly: Accepted rows in a UTC month.
        total: Rows that it ever holds; None, too, when consolidation makes room.
        ends_at: When it closes.
    """

    daily: int | None
    monthly: int | None
    total: int | None
    ends_at: datetime | None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a dataset has taken.

    Attributes:
        day: The UTC day that *today* counts; another day's count is none of today's.
        month: The first day of the UTC month that *this_month* counts.
    """

    day: date | None
    today: int
    month: date | None
    this_month: int
    total: int


def usage_at(usage: Usage, now: datetime) -> Usage:
    """Return *usage* with the windows that *now*, in UTC, lies in."""
    day = now.date()
    month = day.replace(day=1)
    return Usage(
        day=day,
        today=usage.today if usage.day == day else 0,
        month=month,
        this_month=usage.this_month if usage.month == month else 0,
        total=usage.total,
    )


def find_room(quotas: Quotas, usage: Usage, now: datetime) -> tuple[int | None, Refusal]:
    """Return how many rows may still come, and what refuses those behind them.

    Args:
        quotas: What the dataset may take.
        usage: What it has taken, in the windows of *now*.
        now: In UTC.

    Returns:
        None instead of a number when nothing bounds it.
    """
    if quotas.ends_at is not None and now >= quotas.ends_at:
        return 0, Refusal.ENDED
    bounds = [
        (max(limit - used, 0), refusal)
        for limit, used, refusal in (
            (quotas.daily, usage.today, Refusal.DAILY_LIMIT),
            (quotas.monthly, usage.this_month, Refusal.MONTHLY_LIMIT),
            (quotas.total, usage.total, Refusal.FULL),
        )
        if limit is not None
    ]
    return min(bounds, key=lambda bound: bound[0]) if bounds else (None, Refusal.FULL)
