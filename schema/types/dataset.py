"""The Dataset, DatasetSnapshot and DatasetRow object types."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import strawberry
from strawberry.scalars import JSON

from compiled_graphql.selection import selected_names
from db.records import Row
from resolvers import auto_labels, dataset_edits, datasets, improvements, leaderboards
from schema.context import Info
from schema.enums import DatasetSide, DatasetType, EditField, EditOrigin
from schema.fields import batched, referred, resolved
from schema.paging import BY_NUMBER, Connection, slices_by
from schema.types.job import Job
from schema.types.leakage import SnapshotLeakage, leakages
from schema.types.push import (
    DatasetStatus,
    PushSettings,
    PushToken,
    push_url,
    settings_of,
    statuses,
    tokens_of,
)
from schema.types.refs import ImprovementRef, LeaderboardRef
from schema.types.snapshot_rows import (
    DroppedCount,
    DroppedRow,
    download_url,
    dropped_counts,
    dropped_rows_of,
    is_labelled,
    rows_of,
)


@strawberry.type(description="What a leaderboard's dataset held when a run read it; never changes.")
class DatasetSnapshot:
    """Over rows of `db.models.DatasetSnapshot`."""

    id: strawberry.ID = strawberry.field(description="Its id.")
    number: int = strawberry.field(description="1, 2, 3, ... within the leaderboard.")
    content_sha256: str = strawberry.field(
        name="contentSha256",
        description="SHA-256 of the rows as canonical JSON, one a line.",
    )
    row_count: int = strawberry.field(description="Rows in it.")
    size_bytes: float = strawberry.field(description="Bytes of those lines.")
    leakage: SnapshotLeakage | None = batched(
        leakages, "Training rows that give a validation row away; null of the oldest snapshots."
    )
    labelled_count: int | None = strawberry.field(
        name="labelledRowCount",
        description="Rows with an expected output; null of snapshots from before it was counted.",
    )
    source_url: str | None = strawberry.field(
        description="Where the rows were read; null when they were pushed."
    )
    source_revision: str | None = strawberry.field(
        description="The commit that the URL's branch stood for."
    )
    created_at: datetime = strawberry.field(description="When it was made.")
    download_url: str | None = resolved(
        download_url,
        "Where the rows are downloaded, with the credential that GraphQL takes; null of snapshots "
        "from before they were files.",
        needs=["leaderboard_id", "number", "index_sha256"],
    )
    parent_id: strawberry.ID | None = strawberry.field(description="The snapshot before it.")
    parent: "DatasetSnapshot | None" = referred(
        datasets.find_snapshots, "DatasetSnapshot", "parent_id", "The snapshot before it."
    )
    leaderboard: LeaderboardRef | None = referred(
        leaderboards.find_leaderboards,
        "Leaderboard",
        "leaderboard_id",
        "Its leaderboard; null once that is deleted.",
    )
    rows: Connection["DatasetRow"] = batched(rows_of, "The rows, in the snapshot's order.")
    dropped: list[DroppedCount] = resolved(
        dropped_counts, "How many rows it leaves out, by reason.", needs=["dropped"]
    )
    dropped_rows: Connection[DroppedRow] = batched(dropped_rows_of, "The rows that it leaves out.")


def row_id(root: strawberry.Parent[Row]) -> str:
    """Return the row's id: its snapshot and its place there."""
    return f"{root.snapshot_id}:{root.position}"


def metadata(root: strawberry.Parent[Row]) -> JSON:
    """Return what the source says of the row besides."""
    return JSON(root.row_metadata)


async def asked_rows(roots: Sequence[Row], info: Info) -> Sequence[Any]:
    """Return what was asked at the places that results, and what is said of them, are about."""
    places = [(root.run_id, root.position) for root in roots]
    return await datasets.find_result_rows(
        info.context.ctx, places, selected_names(info, "DatasetRow")
    )


@strawberry.type(description="One example of a dataset.")
class DatasetRow:
    """Over rows of `db.models.DatasetRow`, or `resolvers.stored_rows.PlacedRow`."""

    id: strawberry.ID = resolved(
        row_id, "Its snapshot's id and its position.", needs=["snapshot_id", "position"]
    )
    position: int = strawberry.field(description="Its place in the snapshot, from 0.")
    external_id: str | None = strawberry.field(description="The id that the source gave it.")
    key: str = strawberry.field(
        description="Who it is, in every snapshot of the leaderboard: 32 hex digits."
    )
    input: str = strawberry.field(description="What models are asked.")
    expected: str | None = strawberry.field(description="What they should answer.")
    has_expected: bool = resolved(
        is_labelled, "Whether it has an expected output.", needs=["expected"]
    )
    messages: JSON | None = strawberry.field(description="The conversation the input is from.")
    rubric: str | None = strawberry.field(description="What a judge is to look at.")
    side: DatasetSide = strawberry.field(description="Which side of the split it is on for ever.")
    weight: float = strawberry.field(description="How likely a weighted draw takes it; 1 is usual.")
    quality: float | None = strawberry.field(description="How good an example it is, 0 to 1.")
    labels: JSON = strawberry.field(
        description="Who gave a field its value after the row came: by field, the origin and more."
    )
    tags: list[str] = strawberry.field(description="Its tags.")
    metadata: JSON = resolved(
        metadata, "What the source says of it besides.", needs=["row_metadata"]
    )


async def latest_snapshots(roots: Sequence[Row], info: Info) -> Sequence[Row | None]:
    """Return the newest snapshots."""
    columns = selected_names(info, "DatasetSnapshot")
    ids = [root.id for root in roots]
    return await datasets.find_latest_snapshots(info.context.ctx, ids, columns)


def row_key(root: strawberry.Parent[Row]) -> str:
    """Return the row's key."""
    return str(root.row_key.hex())


@strawberry.type(description="What somebody said of one field of a row; it is never changed.")
class DatasetEdit:
    """Over rows of `db.models.DatasetEdit`."""

    id: strawberry.ID = strawberry.field(description="Its id.")
    number: int = strawberry.field(description="1, 2, 3, ... within the dataset.")
    row_key: str = resolved(row_key, "Which row.", needs=["row_key"])
    field: EditField = strawberry.field(description="What of it.")
    value: JSON | None = strawberry.field(description="What it is to be; null for nothing.")
    origin: EditOrigin = strawberry.field(
        description="Who says so; a person has the last word, whenever it was said."
    )
    provenance: JSON = strawberry.field(description="Which model and run, or why.")
    created_at: datetime = strawberry.field(description="When it was said.")


def dataset_type(root: strawberry.Parent[Row]) -> str:
    """Return where the rows come from."""
    return str(root.dataset_type)


def url(root: strawberry.Parent[Row]) -> str | None:
    """Return where the rows are read."""
    found: str | None = root.dataset_url
    return found


@strawberry.type(description="A leaderboard's dataset.")
class Dataset:
    """Over rows of `db.models.Leaderboard`."""

    id: strawberry.ID = strawberry.field(description="Its leaderboard's id.")
    type: DatasetType = resolved(dataset_type, "Where its rows come from.")
    url: str | None = resolved(url, "Where its rows are read; null when they are pushed.")
    push_url: str | None = resolved(push_url, "Where rows are pushed; null when they are read.")
    settings: PushSettings | None = resolved(
        settings_of, "What a pushed dataset takes; null when its rows are read."
    )
    status: DatasetStatus = batched(statuses, "How it stands.")
    push_tokens: list[PushToken] = batched(
        tokens_of, "Who may push, newest first; those that are revoked too."
    )
    edits: Connection[DatasetEdit] = batched(
        slices_by(dataset_edits.list_edits, dataset_edits.count_edits, "DatasetEdit"),
        "Every label and correction of its rows.",
    )
    improvements: Connection[ImprovementRef] = batched(
        slices_by(improvements.list_improvements, improvements.count_improvements, "Improvement"),
        "What runs proposed to change about it.",
    )
    jobs: Connection[Job] = batched(
        slices_by(auto_labels.list_jobs, auto_labels.count_jobs, "Job"),
        "The long work that was asked for on its rows.",
    )
    latest_snapshot: DatasetSnapshot | None = batched(
        latest_snapshots, "The newest snapshot; null before the first run."
    )
    snapshots: Connection[DatasetSnapshot] = batched(
        slices_by(datasets.list_snapshots, datasets.count_snapshots, "DatasetSnapshot", BY_NUMBER),
        "Its snapshots, by number.",
    )
