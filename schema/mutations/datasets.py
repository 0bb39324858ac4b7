"""Mutations about datasets: pushing rows, push tokens, and snapshots."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

import strawberry

from db.models import DatasetSnapshot as SnapshotRow
from db.models import PushToken as PushTokenRow
from db.records import Row
from resolvers import consolidation, dataset_edits, leaderboards, push, push_tokens
from resolvers.inputs import NewPushToken, RowEdits
from resolvers.push import PushReceipt as Receipt
from schema.context import Info
from schema.inputs.dataset import (
    ConsolidateDatasetInput,
    CreatePushTokenInput,
    EditRowsInput,
    PushRowsInput,
    RevokePushTokensInput,
)
from schema.inputs.fields import given_fields
from schema.scalars import read_id, read_optional_id
from schema.types.dataset import Dataset, DatasetSnapshot
from schema.types.push import PushReceipt, PushToken

LEADERBOARD_ID = frozenset({"leaderboard_id"})


@dataclass(frozen=True, slots=True)
class ChangedDataset:
    """The source of the payloads here, under each name that they use."""

    receipt: Receipt | None = None
    dataset: Row | None = None
    snapshot: SnapshotRow | None = None
    is_new: bool = False
    push_token: PushTokenRow | None = None
    secret: str | None = None
    revoked_ids: Sequence[UUID] = ()
    edit_count: int = 0


@strawberry.type(description="What became of a push.")
class PushRowsPayload:
    """Over `ChangedDataset`."""

    receipt: PushReceipt = strawberry.field(description="What was taken, and what not and why.")


@strawberry.type(description="What came of a consolidation.")
class ConsolidateDatasetPayload:
    """Over `ChangedDataset`."""

    is_new: bool = strawberry.field(
        description="Whether the snapshot covers what was pending; false when nothing was."
    )
    snapshot: DatasetSnapshot | None = strawberry.field(
        description="The newest one; null before the first row."
    )
    dataset: Dataset = strawberry.field(description="The dataset, as it is now.")


@strawberry.type(description="What was edited.")
class EditRowsPayload:
    """Over `ChangedDataset`."""

    edit_count: int = strawberry.field(description="Fields of rows that were edited.")
    dataset: Dataset = strawberry.field(description="The dataset, as it is now.")


@strawberry.type(description="A new push token.")
class CreatePushTokenPayload:
    """Over `ChangedDataset`."""

    push_token: PushToken = strawberry.field(description="What is known of it from now on.")
    secret: str = strawberry.field(description="The token itself; it is shown this once.")


@strawberry.type(description="The push tokens that were revoked.")
class RevokePushTokensPayload:
    """Over `ChangedDataset`."""

    revoked_ids: list[strawberry.ID] = strawberry.field(
        description="Those that were not revoked before."
    )
    dataset: Dataset = strawberry.field(description="The dataset, as it is now.")


async def push_rows(
    info: Info,
    input: Annotated[PushRowsInput, strawberry.argument(description="Which rows, and whither.")],
) -> ChangedDataset:
    """Push rows."""
    leaderboard_id = read_id("leaderboardId", input.leaderboard_id)
    receipt = await push.push_rows(info.context.ctx, leaderboard_id, list(input.rows))
    return ChangedDataset(receipt=receipt)


async def consolidate_dataset(
    info: Info,
    input: Annotated[ConsolidateDatasetInput, strawberry.argument(description="Which dataset.")],
) -> ChangedDataset:
    """Consolidate a dataset."""
    leaderboard_id = read_id("leaderboardId", input.leaderboard_id)
    made = await consolidation.consolidate_dataset(info.context.ctx, leaderboard_id)
    return ChangedDataset(
        snapshot=made.snapshot, is_new=made.is_new, dataset=await _dataset(info, leaderboard_id)
    )


async def edit_rows(
    info: Info,
    input: Annotated[EditRowsInput, strawberry.argument(description="Which rows, and what.")],
) -> ChangedDataset:
    """Edit rows."""
    leaderboard_id = read_id("leaderboardId", input.leaderboard_id)
    edits = RowEdits.model_validate(given_fields(input, without=LEADERBOARD_ID))
    count = await dataset_edits.edit_rows(info.context.ctx, leaderboard_id, edits)
    return ChangedDataset(edit_count=count, dataset=await _dataset(info, leaderboard_id))


async def create_push_token(
    info: Info,
    input: Annotated[CreatePushTokenInput, strawberry.argument(description="What to create.")],
) -> ChangedDataset:
    """Create a push token."""
    leaderboard_id = read_id("leaderboardId", input.leaderboard_id)
    new = NewPushToken(name=input.name)
    made = await push_tokens.create_push_token(info.context.ctx, leaderboard_id, new)
    return ChangedDataset(push_token=made.token, secret=made.secret)


async def revoke_push_tokens(
    info: Info,
    input: Annotated[RevokePushTokensInput, strawberry.argument(description="Which tokens.")],
) -> ChangedDataset:
    """Revoke push tokens."""
    leaderboard_id = read_id("leaderboardId", input.leaderboard_id)
    token_id = read_optional_id("tokenId", input.token_id)
    revoked = await push_tokens.revoke_push_tokens(info.context.ctx, leaderboard_id, token_id)
    return ChangedDataset(revoked_ids=revoked, dataset=await _dataset(info, leaderboard_id))


async def _dataset(info: Info, leaderboard_id: UUID) -> Row:
    """Return the dataset, which its leaderboard's row tells."""
    info.context.forget()
    columns = frozenset({"dataset_type", "dataset_url", "push"})
    return await leaderboards.get_leaderboard(info.context.ctx, leaderboard_id, columns)
