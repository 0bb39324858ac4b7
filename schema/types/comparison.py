"""The RunComparison object type, and what it consists of."""

from typing import Annotated

import strawberry

from db.records import Row
from engine.comparisons import PlannedComparison
from resolvers import candidates, run_comparisons
from resolvers.paging import Page, by_number, read_page
from schema.context import Info
from schema.enums import ComparisonMethod
from schema.fields import batched, referred, resolved
from schema.paging import After, Before, First, Last, Slice, slice_of
from schema.paging import Connection as ConnectionOf
from schema.scalars import read_optional_id
from schema.types.dataset import DatasetRow, asked_rows
from schema.types.refs import CandidateRef, RunRef

WORST_FIRST = by_number("difference", descending=False)


async def rows_of(
    root: strawberry.Parent[run_comparisons.ComparedRuns],
    info: Info,
    *,
    first: First = None,
    after: After = None,
    last: Last = None,
    before: Before = None,
    candidate_id: Annotated[
        strawberry.ID | None, strawberry.argument(description="Of this candidate alone.")
    ] = None,
) -> Slice:
    """Return a slice of the differences, row by row."""
    ctx = info.context.ctx
    request = read_page(
        first=first, after=after, last=last, before=before, of="RowDifference", order=WORST_FIRST
    )
    wanted = read_optional_id("candidateId", candidate_id)
    page: Page[Row] = await run_comparisons.list_row_differences(
        ctx, root.a, root.b, request, wanted
    )
    return slice_of(page, run_comparisons.count_row_differences, ctx, root.a, root.b, wanted)


def compared(root: strawberry.Parent[run_comparisons.CandidateDifference]) -> PlannedComparison:
    """Return the figures of the comparison."""
    return root.compared


@strawberry.type(description="How a candidate's mean score differs between two runs.")
class MeanDifference:
    """Over `engine.comparisons.PlannedComparison`."""

    difference: float = strawberry.field(
        description="How much higher it is in the second run; below 0 it has become worse."
    )
    low: float = strawberry.field(description="Lower end of its 95% interval.")
    high: float = strawberry.field(description="Upper end of that interval.")
    p_value: float = strawberry.field(
        description="Two-sided: how likely it is to differ as much when nothing has changed."
    )
    row_count: int = strawberry.field(description="Rows that both runs asked it.")
    method: ComparisonMethod = strawberry.field(description="The test.")


@strawberry.type(description="One candidate in both runs, on the rows that both asked it.")
class CandidateDifference:
    """Over `resolvers.run_comparisons.CandidateDifference`."""

    score_a: float = strawberry.field(description="Its mean score in the first run.")
    score_b: float = strawberry.field(description="Its mean score in the second run.")
    mean_difference: MeanDifference = resolved(compared, "How the two means differ.")
    better_count: int = strawberry.field(description="Rows it did better on in the second run.")
    worse_count: int = strawberry.field(description="Rows it did worse on.")
    changed_count: int = strawberry.field(description="Rows it answered in other words.")
    candidate: CandidateRef | None = referred(
        candidates.find_candidates, "CandidateModel", "candidate_id", "Whom it is about."
    )


@strawberry.type(description="One candidate's answers to one row, in both runs.")
class RowDifference:
    """Over rows of `resolvers.run_comparisons`."""

    id: strawberry.ID = strawberry.field(description="The second run's result.")
    difference: float = strawberry.field(description="The second score less the first.")
    score_a: float = strawberry.field(description="In the first run.")
    score_b: float = strawberry.field(description="In the second run.")
    output_a: str | None = strawberry.field(description="What was answered in the first run.")
    output_b: str | None = strawberry.field(description="What was answered in the second run.")
    error_a: str | None = strawberry.field(description="Why the first run's call failed.")
    error_b: str | None = strawberry.field(description="Why the second run's call failed.")
    candidate: CandidateRef | None = referred(
        candidates.find_candidates, "CandidateModel", "candidate_id", "Who was asked."
    )
    row: DatasetRow | None = batched(asked_rows, "What was asked.", needs=["run_id", "position"])


@strawberry.type(description="What has changed between two runs of a leaderboard.")
class RunComparison:
    """Over `resolvers.run_comparisons.ComparedRuns`."""

    a: RunRef = strawberry.field(description="The first run.")
    b: RunRef = strawberry.field(description="The second run.")
    row_count: int = strawberry.field(
        description="Rows that both have: the same input and expected output."
    )
    candidates: list[CandidateDifference] = strawberry.field(
        description="Those that both runs asked, the greatest loss first."
    )
    rows: ConnectionOf[RowDifference] = resolved(
        rows_of, "Every row and candidate that both asked, the greatest loss first."
    )
