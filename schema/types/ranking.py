"""The Ranking and RankingEntry object types."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

import strawberry

from db.models import Candidate as CandidateRow
from db.models import Ranking as RankingRow
from db.models import RankingEntry as EntryRow
from db.models import Run as RunRow
from resolvers import candidates, rankings, runs
from schema.context import Info
from schema.fields import resolved
from schema.types.refs import CandidateRef, RunRef


async def candidate(root: strawberry.Parent[EntryRow], info: Info) -> CandidateRow | None:
    """Return the entry's candidate."""
    return await candidates.find_candidate(info.context.ctx, root.candidate_id)


async def entries(root: strawberry.Parent[RankingRow], info: Info) -> Sequence[EntryRow]:
    """Return the ranking's entries."""
    return await rankings.list_entries(info.context.ctx, root.id)


async def run(root: strawberry.Parent[RankingRow], info: Info) -> RunRow:
    """Return the run that found it."""
    return await runs.get_run(info.context.ctx, root.run_id)


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
    candidate: CandidateRef = resolved(candidate, "Who it is.")


@strawberry.type(description="What a completed run found.")
class Ranking:
    """Over rows of `db.models.Ranking`."""

    id: strawberry.ID = strawberry.field(description="Its id.")
    completed_at: datetime = strawberry.field(description="When its run was completed.")
    row_count: int = strawberry.field(description="Rows that every candidate was asked.")
    entries: list[RankingEntry] = resolved(entries, "The candidates, best first.")
    run: RunRef = resolved(run, "The run that found it.")
