"""The object types of pushed datasets: settings, how they stand, tokens, what pushes came to."""

from collections.abc import Sequence
from datetime import datetime

import strawberry

from compiled_graphql.selection import selected_names
from db.records import Row
from resolvers import dataset_status, push_tokens
from resolvers.dataset_status import DatasetStatus as Status
from schema.context import Info
from schema.enums import PushStatus


@strawberry.type(description="What a pushed dataset takes, and when it is consolidated.")
class PushSettings:
    """Over the settings that a leaderboard's row keeps, as an object."""

    auto_limit_size: bool = strawberry.field(
        description="Whether snapshots keep at most maxSamplesToGather rows, chosen by their "
        "digests, instead of the dataset taking no more."
    )
    max_samples_to_gather: int | None = strawberry.field(description="Rows that it holds at most.")
    daily_event_limit: int | None = strawberry.field(description="Rows accepted in a UTC day.")
    monthly_event_limit: int | None = strawberry.field(description="Rows accepted in a UTC month.")
    consolidate_every_events: int | None = strawberry.field(
        description="A snapshot is made when so many rows are pending."
    )
    consolidate_every_hours: int | None = strawberry.field(
        description="A snapshot is made when rows have been pending for so long."
    )
    dedupe: bool = strawberry.field(description="Whether the same content is taken once.")
    near_duplicate_threshold: float | None = strawberry.field(
        description="Rows whose inputs are as similar as this to another one's are left out."
    )
    end_date: datetime | None = strawberry.field(description="When it takes no more rows.")


@strawberry.type(description="What a dataset takes in a UTC day or month.")
class QuotaWindow:
    """Over `resolvers.dataset_status.QuotaWindow`."""

    limit: int | None = strawberry.field(description="Rows at most; null for as many as come.")
    used: int = strawberry.field(description="Rows accepted in it.")
    left: int | None = strawberry.field(description="Rows that it still takes.")
    resets_at: datetime = strawberry.field(description="When the next one begins.")


@strawberry.type(description="How a dataset stands.")
class DatasetStatus:
    """Over `resolvers.dataset_status.DatasetStatus`."""

    accepted_rows: float = strawberry.field(description="Rows ever accepted.")
    pending_rows: float = strawberry.field(description="Rows that no snapshot covers yet.")
    pending_edits: float = strawberry.field(
        description="Labels and corrections that no snapshot carries yet."
    )
    daily: QuotaWindow = strawberry.field(description="This UTC day.")
    monthly: QuotaWindow = strawberry.field(description="This UTC month.")
    last_consolidated_at: datetime | None = strawberry.field(
        description="When a snapshot was made last of what was pushed or edited."
    )
    is_due: bool = strawberry.field(description="Whether a snapshot is due.")
    rows_until_due: int | None = strawberry.field(
        description="Rows until one is due, by consolidateEveryEvents."
    )
    next_due_at: datetime | None = strawberry.field(
        description="When one is due, by consolidateEveryHours; null with nothing pending."
    )


@strawberry.type(description="A credential that pushes rows to one leaderboard, and no more.")
class PushToken:
    """Over rows of `db.models.PushToken`."""

    id: strawberry.ID = strawberry.field(description="Its id.")
    name: str = strawberry.field(description="Its name.")
    public_id: str = strawberry.field(description="The part behind hpd_ that may be shown.")
    created_at: datetime = strawberry.field(description="When it was made.")
    last_used_at: datetime | None = strawberry.field(
        description="When it last pushed, to the minute."
    )
    revoked_at: datetime | None = strawberry.field(description="When it was revoked.")


@strawberry.type(description="Why a row was not taken.")
class Rejection:
    """Over `resolvers.push.Rejection`."""

    index: int = strawberry.field(description="Its place in the push, from 0.")
    code: str = strawberry.field(description="For programs; stable.")
    message: str = strawberry.field(description="For people.")


@strawberry.type(description="What became of a push; the rows it calls accepted are stored.")
class PushReceipt:
    """Over `resolvers.push.PushReceipt`."""

    batch_id: strawberry.ID = strawberry.field(description="The push's id.")
    status: PushStatus = strawberry.field(description="Whether all of it was taken.")
    accepted_rows: int = strawberry.field(description="Rows that were taken and are stored.")
    rejected_rows: int = strawberry.field(description="Rows that were not.")
    duplicate_rows: int = strawberry.field(description="Rows that the dataset had already.")
    pending_events: float = strawberry.field(description="Rows that no snapshot covers yet.")
    should_consolidate: bool = strawberry.field(description="Whether a snapshot is due.")
    rejections: list[Rejection] = strawberry.field(description="Which were not, and why.")


def push_url(root: strawberry.Parent[Row], info: Info) -> str | None:
    """Return where rows are pushed."""
    if root.dataset_type != "PUSH":
        return None
    return f"{info.context.base_url}/v1/leaderboard/{root.id}/dataset/push"


async def statuses(roots: Sequence[Row], info: Info) -> Sequence[Status | None]:
    """Return how the datasets stand."""
    ids = [root.id for root in roots]
    return await dataset_status.find_dataset_statuses(info.context.ctx, ids)


async def tokens_of(roots: Sequence[Row], info: Info) -> Sequence[Sequence[Row]]:
    """Return the push tokens."""
    columns = selected_names(info, "PushToken")
    return await push_tokens.list_push_tokens(
        info.context.ctx, [root.id for root in roots], columns
    )


def settings_of(root: strawberry.Parent[Row]) -> dataset_status.PushSettings | None:
    """Return the settings of a pushed dataset."""
    return dataset_status.read_settings(root.push)
