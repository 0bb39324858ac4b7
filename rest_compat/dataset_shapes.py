"""What datasets look like in REST: their rows and snapshots, pushes, quotas and push tokens."""

from typing import Any, Literal, Self
from uuid import UUID

from pydantic import Field

from db.records import Row
from resolvers.dataset_status import DatasetStatus
from resolvers.push import PushReceipt
from rest_compat.shapes import Instant, Shape


class SnapshotShape(Shape):
    """What a dataset held at one time; it never changes."""

    id: UUID
    leaderboard_id: UUID
    number: int = Field(description="1, 2, 3, ... within the leaderboard.")
    content_sha256: str = Field(description="SHA-256 over the bytes of its JSON lines.")
    row_count: int
    size_bytes: int
    parent_id: UUID | None = Field(description="The snapshot before it.")
    source_url: str | None = Field(description="Where its rows were read; null when pushed.")
    source_revision: str | None = Field(description="The commit that was read.")
    dropped: dict[str, int] = Field(description="Rows that it leaves out, by reason.")
    created_at: Instant


class ConsolidationShape(Shape):
    """What came of a consolidation."""

    status: Literal["consolidated", "nothing_pending"]
    snapshot: SnapshotShape | None = Field(
        description="The newest snapshot; null before the first row."
    )


class DueDatasetShape(Shape):
    """A dataset with pending rows of which no snapshot was made."""

    leaderboard_id: UUID
    reason: str = Field(validation_alias="skipped", description="Not due, or what failed.")


class DueDatasetsShape(Shape):
    """What was consolidated, and what was not and why."""

    consolidated: list[SnapshotShape]
    skipped: list[DueDatasetShape]


class RejectionShape(Shape):
    """Why a row was not taken."""

    index: int = Field(description="Its place in the push, from 0.")
    code: str = Field(description="For programs; stable.")
    message: str


class PushLimitsShape(Shape):
    """What the dataset takes; null for as many as come."""

    daily_event_limit: int | None
    monthly_event_limit: int | None
    max_samples_to_gather: int | None


class ConsolidationDueShape(Shape):
    """Whether a snapshot is due."""

    should_consolidate: bool


class PushReceiptShape(Shape):
    """What became of a push; the accepted rows are stored."""

    accepted_rows: int
    rejected_rows: int
    duplicate_rows: int = Field(description="Rows that the dataset had already.")
    status: Literal["accepted", "partial", "rejected"]
    batch_id: UUID
    pending_events: int = Field(description="Rows that no snapshot covers yet.")
    limits: PushLimitsShape
    consolidation: ConsolidationDueShape
    rejections: list[RejectionShape]

    @classmethod
    def of(cls, receipt: PushReceipt) -> Self:
        """Shape a receipt."""
        return cls(
            accepted_rows=receipt.accepted_rows,
            rejected_rows=receipt.rejected_rows,
            duplicate_rows=receipt.duplicate_rows,
            status=receipt.status,
            batch_id=receipt.batch_id,
            pending_events=receipt.pending_events,
            limits=PushLimitsShape.model_validate(receipt),
            consolidation=ConsolidationDueShape.model_validate(receipt),
            rejections=[RejectionShape.model_validate(each) for each in receipt.rejections],
        )


class PushTokenShape(Shape):
    """A push token; its secret is never shown again."""

    id: UUID
    name: str
    public_id: str = Field(description="The part of the token behind hpd_ that may be shown.")
    created_at: Instant
    last_used_at: Instant | None = Field(description="To the minute.")
    revoked_at: Instant | None


class MadePushTokenShape(PushTokenShape):
    """A new push token, with its secret."""

    secret: str = Field(description="The token itself; it is shown this once.")


class RevokedPushTokensShape(Shape):
    """How many push tokens were revoked."""

    revoked: int


class QuotaWindowShape(Shape):
    """What a dataset takes in a UTC day or month."""

    limit: int | None
    used: int
    left: int | None
    resets_at: Instant


class ConsolidationStatusShape(Shape):
    """When rows become a snapshot."""

    should_consolidate: bool
    last_at: Instant | None
    rows_until_due: int | None = Field(description="By consolidate_every_events.")
    next_due_at: Instant | None = Field(description="By consolidate_every_hours.")


class DatasetStatusShape(Shape):
    """How a dataset stands."""

    leaderboard_id: UUID
    dataset_type: Literal["GET", "PUSH"]
    accepted_rows: int = Field(description="Rows ever accepted.")
    pending_events: int = Field(description="Rows that no snapshot covers yet.")
    pending_edits: int = Field(description="Labels and corrections that no snapshot carries yet.")
    limits: PushLimitsShape
    daily: QuotaWindowShape
    monthly: QuotaWindowShape
    end_date: str | None
    consolidation: ConsolidationStatusShape
    snapshot: SnapshotShape | None = Field(description="The newest.")
    tokens: list[PushTokenShape]

    @classmethod
    def of(
        cls,
        board: Row,
        status: DatasetStatus,
        snapshot: SnapshotShape | None,
        tokens: list[PushTokenShape],
    ) -> Self:
        """Gather what is shown of a dataset."""
        return cls(
            leaderboard_id=board.id,
            dataset_type=board.dataset_type,
            accepted_rows=status.accepted_rows,
            pending_events=status.pending_rows,
            pending_edits=status.pending_edits,
            limits=PushLimitsShape(
                **{name: status.settings.get(name) for name in PushLimitsShape.model_fields}
            ),
            daily=QuotaWindowShape.model_validate(status.daily),
            monthly=QuotaWindowShape.model_validate(status.monthly),
            end_date=status.settings.get("end_date"),
            consolidation=ConsolidationStatusShape(
                should_consolidate=status.is_due,
                last_at=status.last_consolidated_at,
                rows_until_due=status.rows_until_due,
                next_due_at=status.next_due_at,
            ),
            snapshot=snapshot,
            tokens=tokens,
        )


class ExampleShape(Shape):
    """A row of a dataset, as runs read it."""

    id: str | None = Field(validation_alias="external_id")
    input: str
    expected: str | None
    messages: list[dict[str, Any]] | None
    rubric: str | None
    metadata: dict[str, Any]
    tags: list[str]


class HubProblemShape(Shape):
    """Something that keeps runs from reading a file."""

    code: str = Field(description="For programs; stable.")
    message: str = Field(description="For people.")
    line: int | None = Field(description="The line that it is about, from 1.")


class HubCheckShape(Shape):
    """What was found at a Hugging Face URL."""

    valid: bool = Field(description="Nothing is wrong with what was read.")
    url: str
    format: Literal["jsonl"] | None = Field(description="Null until a line was a JSON object.")
    compressed: bool = Field(description="Whether it is a .gz file.")
    fields: list[str] = Field(
        description="The names that rows have, in order of first appearance; 100 at most."
    )
    mapped_fields: dict[str, str] = Field(
        description="Our fields that rows have, and by which of their names."
    )
    sample_rows: list[ExampleShape] = Field(
        description="The first rows, as runs would read them: 5 at most, none over 128 KiB."
    )
    checked_row_count: int = Field(description="Rows that can be used, of those that were read.")
    checked_whole_file: bool = Field(description="Whether that was all of the file.")
    bytes: int | None = Field(
        validation_alias="size_bytes",
        description="Of the file as it is stored, compressed or not; null if the hub doesn't tell.",
    )
    revision: str | None = Field(description="The commit that was read, if the hub tells it.")
    needs_credential: bool = Field(
        description="The hub wants a credential, or another than the workspace has saved."
    )
    problems: list[HubProblemShape] = Field(description="What is wrong; 5 at most.")
