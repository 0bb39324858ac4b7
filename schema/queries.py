"""The Query root."""

from collections.abc import Sequence
from typing import Annotated

import strawberry

from compiled_graphql.selection import selected_names
from db.models import Workspace as WorkspaceRow
from db.records import Row
from resolvers import auto_labels as label_cases
from resolvers import datasets as dataset_cases
from resolvers import hub_check as hub_check_cases
from resolvers import leaderboards as leaderboard_cases
from resolvers import redaction as redaction_cases
from resolvers import run_comparisons as comparison_cases
from resolvers import runs as run_cases
from resolvers import snapshot_diffs as snapshot_diff_cases
from resolvers import snapshot_rows as snapshot_row_cases
from resolvers import traces as trace_cases
from resolvers import workspaces as workspace_cases
from resolvers.auth import Principal
from resolvers.hub_check import HubCheck
from resolvers.inputs import HubFile, Redaction
from resolvers.paging import read_page
from resolvers.redaction import RedactionPreview as Preview
from resolvers.run_comparisons import ComparedRuns
from resolvers.snapshot_diffs import ComparedSnapshots
from resolvers.stored_rows import PlacedRow
from schema.context import Info
from schema.enums import ListOrder
from schema.fields import resolved
from schema.inputs.fields import given_fields
from schema.inputs.redaction import RedactionInput
from schema.inputs.trace import TraceFilterInput, read_trace_filter
from schema.paging import (
    ORDERS,
    After,
    Before,
    Connection,
    First,
    Last,
    OrderBy,
    Slice,
    slice_of,
)
from schema.scalars import read_id
from schema.types.comparison import RunComparison
from schema.types.dataset import DatasetRow, DatasetSnapshot
from schema.types.hub_check import HuggingFaceCheck
from schema.types.job import Job
from schema.types.leaderboard import Leaderboard
from schema.types.redaction import RedactionPreview
from schema.types.run import Run
from schema.types.snapshot_diff import SnapshotDiff
from schema.types.trace import Trace
from schema.types.workspace import Viewer, Workspace

Id = Annotated[strawberry.ID, strawberry.argument(description="Its id.")]


async def viewer(info: Info) -> Principal:
    """Return the caller."""
    return await workspace_cases.get_viewer(info.context.ctx)


async def workspace(info: Info) -> WorkspaceRow:
    """Return the caller's workspace."""
    return await workspace_cases.get_workspace(info.context.ctx)


async def workspaces(info: Info) -> Sequence[WorkspaceRow]:
    """Return the caller's workspaces."""
    return await workspace_cases.list_workspaces(info.context.ctx)


async def leaderboard(info: Info, id: Id) -> Row:
    """Return one leaderboard."""
    columns = selected_names(info, "Leaderboard")
    return await leaderboard_cases.get_leaderboard(info.context.ctx, read_id("id", id), columns)


async def leaderboards(
    info: Info,
    *,
    first: First = None,
    after: After = None,
    last: Last = None,
    before: Before = None,
    order_by: OrderBy = ListOrder.NEWEST_FIRST,
) -> Slice:
    """Return a slice of the workspace's leaderboards."""
    ctx = info.context.ctx
    request = read_page(
        first=first, after=after, last=last, before=before, of="Leaderboard", order=ORDERS[order_by]
    )
    page = await leaderboard_cases.list_leaderboards(
        ctx, request, selected_names(info, "Leaderboard")
    )
    return slice_of(page, leaderboard_cases.count_leaderboards, ctx)


async def run(info: Info, id: Id) -> Row:
    """Return one run."""
    columns = selected_names(info, "Run")
    return await run_cases.get_run(info.context.ctx, read_id("id", id), columns)


async def job(info: Info, id: Id) -> Row:
    """Return one job."""
    columns = selected_names(info, "Job")
    return await label_cases.get_job(info.context.ctx, read_id("id", id), columns)


async def run_comparison(
    info: Info,
    a: Annotated[strawberry.ID, strawberry.argument(description="The first run.")],
    b: Annotated[strawberry.ID, strawberry.argument(description="The second run.")],
) -> ComparedRuns:
    """Compare two runs."""
    ctx = info.context.ctx
    return await comparison_cases.compare_runs(ctx, read_id("a", a), read_id("b", b))


async def dataset_snapshot(info: Info, id: Id) -> Row:
    """Return one snapshot."""
    columns = selected_names(info, "DatasetSnapshot")
    return await dataset_cases.get_snapshot(info.context.ctx, read_id("id", id), columns)


async def dataset_row(
    info: Info,
    id: Annotated[
        strawberry.ID, strawberry.argument(description="Its snapshot's id and its position.")
    ],
) -> PlacedRow:
    """Return one row of a snapshot."""
    columns = selected_names(info, "DatasetRow")
    place = snapshot_row_cases.read_row_id("id", id)
    return await snapshot_row_cases.get_snapshot_row(info.context.ctx, *place, columns)


async def snapshot_diff(
    info: Info,
    a: Annotated[strawberry.ID, strawberry.argument(description="The first snapshot.")],
    b: Annotated[strawberry.ID, strawberry.argument(description="The second snapshot.")],
) -> ComparedSnapshots:
    """Compare two snapshots."""
    columns = selected_names(info, "DatasetSnapshot")
    return await snapshot_diff_cases.compare_snapshots(
        info.context.ctx, read_id("a", a), read_id("b", b), columns
    )


async def trace(info: Info, id: Id) -> Row:
    """Return one trace."""
    columns = selected_names(info, "Trace")
    return await trace_cases.get_trace(info.context.ctx, read_id("id", id), columns)


async def traces(
    info: Info,
    *,
    first: First = None,
    after: After = None,
    last: Last = None,
    before: Before = None,
    filter: Annotated[
        TraceFilterInput | None, strawberry.argument(description="Which traces.")
    ] = None,
) -> Slice:
    """Return a slice of the workspace's traces."""
    ctx = info.context.ctx
    request = read_page(first=first, after=after, last=last, before=before, of="Trace")
    where = read_trace_filter(filter)
    page = await trace_cases.list_traces(ctx, request, where, selected_names(info, "Trace"))
    return slice_of(page, trace_cases.count_traces, ctx, where)


async def check_hugging_face_dataset(
    info: Info,
    url: Annotated[
        str, strawberry.argument(description="A Hugging Face URL of a .jsonl or .jsonl.gz file.")
    ],
) -> HubCheck:
    """Check a file that a leaderboard could be made of."""
    return await hub_check_cases.check_hub_file(info.context.ctx, HubFile(url=url))


async def redaction_preview(
    info: Info,
    text: Annotated[
        str, strawberry.argument(description="Any text, of 100,000 characters at most.")
    ],
    redaction: Annotated[
        RedactionInput | None,
        strawberry.argument(description="By these rules, instead of the workspace's own."),
    ] = None,
) -> Preview:
    """Try rules out on a text."""
    rules = None if redaction is None else Redaction.model_validate(given_fields(redaction))
    return await redaction_cases.preview_redaction(info.context.ctx, text, rules)


@strawberry.type(description="What can be read.")
class Query:
    """The query root."""

    viewer: Viewer = resolved(viewer, "The caller, as the credential tells.")
    workspace: Workspace = resolved(workspace, "The caller's workspace.")
    workspaces: list[Workspace] = resolved(
        workspaces,
        "The workspaces that the caller may choose with X-Workspace-Id.",
    )
    leaderboard: Leaderboard = resolved(
        leaderboard, "One leaderboard, or an error coded not_found."
    )
    leaderboards: Connection[Leaderboard] = resolved(leaderboards, "The workspace's leaderboards.")
    run: Run = resolved(run, "One run, or an error coded not_found.")
    job: Job = resolved(job, "One job, or an error coded not_found.")
    run_comparison: RunComparison = resolved(
        run_comparison, "What has changed between two runs of a leaderboard, losses first."
    )
    dataset_snapshot: DatasetSnapshot = resolved(
        dataset_snapshot, "One snapshot of a dataset, or an error coded not_found."
    )
    dataset_row: DatasetRow = resolved(
        dataset_row, "One row of a snapshot, or an error coded not_found."
    )
    snapshot_diff: SnapshotDiff = resolved(
        snapshot_diff, "What differs between two snapshots of a leaderboard."
    )
    trace: Trace = resolved(trace, "One trace, or an error coded not_found.")
    traces: Connection[Trace] = resolved(traces, "The workspace's model calls, newest first.")
    redaction_preview: RedactionPreview = resolved(
        redaction_preview, "What a text would be stored as in a trace; it is not stored."
    )
    check_hugging_face_dataset: HuggingFaceCheck = resolved(
        check_hugging_face_dataset,
        "What is at a Hugging Face URL, and what keeps runs from reading it. It asks the hub.",
    )
