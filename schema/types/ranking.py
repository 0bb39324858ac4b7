"""The Ranking and RankingEntry object types."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

import strawberry

from compiled_graphql.selection import selected_names
from db.records import Row
from resolvers import candidates, rankings, runs
from schema.context import Info
from schema.fields import batched
from schema.types.refs import CandidateRef, RunRef


async def candidates_of(roots: Sequence[Row], info: Info) -> Sequence[Row | None]:
    """Return the entries' candidates."""
    columns = selected_names(info, "CandidateModel")
    ids = [root.candidate_id for root in roots]
    return await candidates.find_candidates(info.context.ctx, ids, columns)


async def entries_of(roots: Sequence[Row], info: Info) -> Sequence[Sequence[Row]]:
    """Return the rankings' entries."""
    columns = selected_names(info, "RankingEntry")
    return await rankings.list_entries(info.context.ctx, [root.id for root in roots], columns)


async def runs_of(roots: Sequence[Row], info: Info) -> Sequence[Row | None]:
    """Return the runs that found them."""
    columns = selected_names(info, "Run")
    return await runs.find_runs(info.context.ctx, [root.run_id for root in roots], columns)


@strawberry.type(description="One candidate's place in a ranking.")
class RankingEntry:
    """Over rows of `db.models.RankingEntry`."""

    rank: int = strawberry.field(description="1 is the winner.")
    score: float = strawberry.field(description="Mean over the rows, 0 to 1; errors count as 0.")
    row_count: int = strawberry.field(description="Rows it was scored on.")
    error_count: int = strawberry.field(description="Rows on which its call failed.")
    latency_ms_p50: float | None = strawberry.field(
        name="latencyMsP50", description="Median latency of the calls that were answered."
    )
    latency_ms_p95: float | None = strawberry.field(
        name="latencyMsP95", description="95th percentile of that latency."
    )
    cost_usd: Decimal | None = strawberry.field(
        description="US dollars, of all its calls; null when a part of it is unknown."
    )
    cost_usd_per_1k: Decimal | None = strawberry.field(
        name="costUsdPer1k", description="US dollars for 1,000 requests."
    )
    candidate: CandidateRef = batched(candidates_of, "Who it is.", needs=["candidate_id"])


@strawberry.type(description="What a completed run found.")
class Ranking:
    """Over rows of `db.models.Ranking`."""

    id: strawberry.ID = strawberry.field(description="Its id.")
    completed_at: datetime = strawberry.field(description="When its run was completed.")
    row_count: int = strawberry.field(description="Rows that every candidate was asked.")
    entries: list[RankingEntry] = batched(entries_of, "The candidates, best first.")
    run: RunRef = batched(runs_of, "The run that found it.", needs=["run_id"])
