"""Mutations about runs: asking for them, their cost, and their end."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated

import strawberry

from resolvers import candidates, run_requests
from resolvers.inputs import NewRun
from resolvers.run_costs import RunEstimate as RunEstimateSource
from schema.context import Info
from schema.enums import EstimateBasis
from schema.fields import referred
from schema.inputs.fields import given_fields
from schema.inputs.run import CancelRunInput, RepeatRunInput, StartRunInput
from schema.mutations.changed import Changed
from schema.scalars import read_id
from schema.types.refs import CandidateRef
from schema.types.run import Run

LEADERBOARD_ID = frozenset({"leaderboard_id"})
WhatToRank = Annotated[StartRunInput, strawberry.argument(description="What to rank.")]
WhatToRepeat = Annotated[RepeatRunInput, strawberry.argument(description="Which run.")]


@strawberry.type(description="The run that was asked for, or ended.")
class RunPayload:
    """Over `Changed`."""

    run: Run = strawberry.field(description="The run; follow its status and progress.")


@strawberry.type(description="What a run's calls of one candidate may cost.")
class CandidateEstimate:
    """Over `resolvers.run_costs.CandidateEstimate`."""

    expected_usd: Decimal | None = strawberry.field(
        description="US dollars; null when its prices are not known."
    )
    most_usd: Decimal | None = strawberry.field(
        description="The most that they can cost; null when its prices are not known."
    )
    basis: EstimateBasis = strawberry.field(description="What the expectation rests on.")
    candidate: CandidateRef | None = referred(
        candidates.find_candidates, "CandidateModel", "candidate_id", "Whom it is about."
    )


@strawberry.type(description="What a run may cost, if no candidate stops early.")
class RunEstimate:
    """Over `resolvers.run_costs.RunEstimate`."""

    row_count: int = strawberry.field(description="Rows of the newest snapshot that it would use.")
    call_count: int = strawberry.field(description="Calls: one a row and candidate.")
    expected_usd: Decimal | None = strawberry.field(
        description="US dollars; null when a part of it is not known."
    )
    most_usd: Decimal | None = strawberry.field(
        description="The most that it can cost; null when a part of it is not known, as what "
        "a judge costs."
    )
    judge_usd: Decimal | None = strawberry.field(
        description="US dollars of the judge's verdicts, by its earlier ones; 0 without a judge, "
        "null when there are none yet. Verdicts that are known already cost nothing."
    )
    candidates: list[CandidateEstimate] = strawberry.field(description="By candidate.")


@strawberry.type(description="What a run would cost.")
class EstimateRunPayload:
    """Over `EstimatedRun`."""

    estimate: RunEstimate = strawberry.field(description="In US dollars.")


@dataclass(frozen=True, slots=True)
class EstimatedRun:
    """The source of `EstimateRunPayload`."""

    estimate: RunEstimateSource


async def start_run(info: Info, input: WhatToRank) -> Changed:
    """Queue a run."""
    leaderboard_id = read_id("leaderboardId", input.leaderboard_id)
    new = read_new_run(input)
    return Changed(run=await run_requests.start_run(info.context.ctx, leaderboard_id, new))


async def estimate_run(info: Info, input: WhatToRank) -> EstimatedRun:
    """Work out a run's cost."""
    leaderboard_id = read_id("leaderboardId", input.leaderboard_id)
    new = read_new_run(input)
    return EstimatedRun(await run_requests.estimate_run(info.context.ctx, leaderboard_id, new))


def read_new_run(input: StartRunInput) -> NewRun:
    """Return what is asked for."""
    given = given_fields(input, without=LEADERBOARD_ID)
    return NewRun.model_validate(
        {name: value for name, value in given.items() if value is not None}
    )


async def cancel_run(
    info: Info,
    input: Annotated[CancelRunInput, strawberry.argument(description="Which run.")],
) -> Changed:
    """End a run."""
    return Changed(run=await run_requests.cancel_run(info.context.ctx, read_id("id", input.id)))


async def rescore_run(info: Info, input: WhatToRepeat) -> Changed:
    """Queue a rescoring."""
    run_id = read_id("runId", input.run_id)
    return Changed(run=await run_requests.rescore_run(info.context.ctx, run_id))


async def replay_run(info: Info, input: WhatToRepeat) -> Changed:
    """Queue a replay."""
    run_id = read_id("runId", input.run_id)
    return Changed(run=await run_requests.replay_run(info.context.ctx, run_id))
