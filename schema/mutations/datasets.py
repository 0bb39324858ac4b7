"""Mutations about datasets: pushing rows, push tokens, and snapshots."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

import strawberry

from db.models import DatasetSnapshot as SnapshotRow
from db.models import PushToken as PushTokenRow
from db.models import TraceFeedback
from db.records import Row
from resolvers import (
    consolidation,
    dataset_edits,
    feedback,
    leaderboards,
    push,
    push_tokens,
    trace_rows,
)
from resolvers.inputs import NewFeedback, NewPushToken, RowEdits, RowsFromTraces
from resolvers.push import PushReceipt as Receipt
from schema.context import Info
from schema.inputs.dataset import (
    AddFeedbackInput,
    ConsolidateDatasetInput,
    CreatePushTokenInput,
    CreateRowsFromTracesInput,
    EditRowsInput,
    PushRowsInput,
    RevokePushTokensInput,
)
from schema.inputs.fields import given_fields
from schema.inputs.trace import read_trace_filter
from schema.scalars import read_id, read_optional_id
from schema.types.dataset import Dataset, DatasetSnapshot
from schema.types.push import PushReceipt, PushToken
from schema.types.trace import Feedback

LEADERBOARD_ID = frozenset({"leaderboard_id"})
CHOSEN_ELSEWHERE = frozenset({"leaderboard_id", "filter"})


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
    receipts: Sequence[Receipt] = ()
    feedback: TraceFeedback | None = None


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


@strawberry.type(description="What came of making rows of traces.")
class CreateRowsFromTracesPayload:
    """Over `ChangedDataset`."""

    receipts: list[PushReceipt] = strawberry.field(
        description="What was taken, a receipt for each 100 traces; none when there was no row."
    )
    dataset: Dataset = strawberry.field(description="The dataset, as it is now.")


@strawberry.type(description="What was said.")
class AddFeedbackPayload:
    """Over `ChangedDataset`."""

    feedback: Feedback = strawberry.field(description="As it is stored.")


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


async def create_rows_from_traces(
    info: Info,
    input: Annotated[
        CreateRowsFromTracesInput, strawberry.argument(description="Which traces, and how.")
    ],
) -> ChangedDataset:
    """Make rows of traces."""
    leaderboard_id = read_id("leaderboardId", input.leaderboard_id)
    asked = RowsFromTraces.model_validate(given_fields(input, without=CHOSEN_ELSEWHERE))
    receipts = await trace_rows.create_rows_from_traces(
        info.context.ctx, leaderboard_id, asked, read_trace_filter(input.filter)
    )
    return ChangedDataset(receipts=receipts, dataset=await _dataset(info, leaderboard_id))


async def add_feedback(
    info: Info,
    input: Annotated[AddFeedbackInput, strawberry.argument(description="Of which call, and what.")],
) -> ChangedDataset:
    """Say something of a trace."""
    ctx = info.context.ctx
    said = await feedback.add_feedback(ctx, NewFeedback.model_validate(given_fields(input)))
    return ChangedDataset(feedback=said)


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
    columns = frozenset({"dataset_type", "dataset_url", "push"})
    return await leaderboards.get_changed_leaderboard(info.context.ctx, leaderboard_id, columns)
