"""How a dataset stands: what it has taken, what it may take, and when it is consolidated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from db.records import Row
from engine.quotas import Usage, usage_at
from resolvers.auth import Scope, requires
from resolvers.context import Context
from resolvers.errors import NotFoundError
from resolvers.leaderboards import find_leaderboards
from resolvers.loaders.datasets import DatasetByLeaderboard
from resolvers.push_storage import is_due


@dataclass(frozen=True, slots=True)
class PushSettings:
    """What a pushed dataset takes, and when it is consolidated; see `resolvers.inputs.dataset`."""

    auto_limit_size: bool = False
    max_samples_to_gather: int | None = None
    daily_event_limit: int | None = None
    monthly_event_limit: int | None = None
    consolidate_every_events: int | None = None
    consolidate_every_hours: int | None = None
    dedupe: bool = True
    near_duplicate_threshold: float | None = None
    end_date: datetime | None = None


def read_settings(stored: Mapping[str, Any] | None) -> PushSettings | None:
    """Return the settings that a leaderboard's row keeps; None of a dataset that is not pushed."""
    if stored is None:
        return None
    ends_at = stored.get("end_date")
    return PushSettings(
        **{**stored, "end_date": None if ends_at is None else datetime.fromisoformat(ends_at)}
    )


@dataclass(frozen=True, slots=True)
class QuotaWindow:
    """What a dataset takes in a UTC day or month.

    Attributes:
        limit: Rows at most; None for as many as come.
        used: Rows accepted in it.
        resets_at: When the next one begins.
    """

    limit: int | None
    used: int
    resets_at: datetime

    @property
    def left(self) -> int | None:
        """Rows that it still takes."""
        return None if self.limit is None else max(self.limit - self.used, 0)


@dataclass(frozen=True, slots=True)
class DatasetStatus:
    """How a dataset stands.

    Attributes:
        accepted_rows: Rows ever accepted.
        pending_rows: Rows that no snapshot covers yet.
        pending_edits: Labels and corrections that no snapshot carries yet.
        last_consolidated_at: When a snapshot was made of what was pushed or edited.
        is_due: Whether a snapshot is due now.
        rows_until_due: Rows until one is due by their number.
        next_due_at: When one is due by the hours that rows have been pending.
    """

    settings: Mapping[str, Any]
    accepted_rows: int
    pending_rows: int
    pending_edits: int
    daily: QuotaWindow
    monthly: QuotaWindow
    last_consolidated_at: datetime | None
    is_due: bool
    rows_until_due: int | None
    next_due_at: datetime | None


@requires(Scope.LEADERBOARDS_READ)
async def find_dataset_statuses(
    ctx: Context, leaderboard_ids: Sequence[UUID]
) -> list[DatasetStatus | None]:
    """Return how the datasets of leaderboards stand; None where there is no such leaderboard."""
    boards = await find_leaderboards(ctx, leaderboard_ids, frozenset({"push"}))
    datasets = await ctx.loaders.get(DatasetByLeaderboard).load_many(leaderboard_ids, None)
    now = datetime.now(UTC)
    return [
        None if board is None else _status(board.push or {}, dataset, now)
        for board, dataset in zip(boards, datasets, strict=True)
    ]


@requires(Scope.LEADERBOARDS_READ)
async def get_dataset_status(ctx: Context, leaderboard_id: UUID) -> DatasetStatus:
    """Return how a leaderboard's dataset stands.

    Raises:
        NotFoundError: The workspace has no such leaderboard.
    """
    (status,) = await find_dataset_statuses(ctx, [leaderboard_id])
    if status is None:
        raise NotFoundError(f"leaderboard {leaderboard_id} does not exist")
    return status


def _status(settings: Mapping[str, Any], dataset: Row | None, now: datetime) -> DatasetStatus:
    usage = usage_at(_usage(dataset), now)
    pending = 0 if dataset is None else dataset.last_sequence - dataset.consolidated_sequence
    since = now if dataset is None else dataset.consolidated_at or dataset.created_at
    events, hours = (
        settings.get("consolidate_every_events"),
        settings.get("consolidate_every_hours"),
    )
    return DatasetStatus(
        settings=settings,
        accepted_rows=usage.total,
        pending_rows=pending,
        pending_edits=0 if dataset is None else dataset.last_edit - dataset.consolidated_edit,
        daily=QuotaWindow(
            settings.get("daily_event_limit"),
            usage.today,
            _midnight(now.date() + timedelta(days=1)),
        ),
        monthly=QuotaWindow(
            settings.get("monthly_event_limit"), usage.this_month, _midnight(_next_month(now))
        ),
        last_consolidated_at=None if dataset is None else dataset.consolidated_at,
        is_due=is_due(settings, pending, since, now),
        rows_until_due=None if events is None else max(events - pending, 0),
        next_due_at=since + timedelta(hours=hours) if hours is not None and pending else None,
    )


def _usage(dataset: Row | None) -> Usage:
    if dataset is None:
        return Usage(None, 0, None, 0, 0)
    return Usage(
        dataset.day,
        dataset.day_row_count,
        dataset.month,
        dataset.month_row_count,
        dataset.last_sequence,
    )


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)


def _next_month(now: datetime) -> date:
    return (now.date().replace(day=28) + timedelta(days=4)).replace(day=1)
