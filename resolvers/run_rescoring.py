"""Scoring again what a run was answered, without a call."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Uuid, literal, select
from sqlalchemy.dialects.postgresql import insert

from db.base import new_id
from db.bulk import column_arrays
from db.models import DatasetRow, Run, RunComparison, RunResult
from db.session import WriteSession
from resolvers.context import Context
from resolvers.review_counts import is_comparing
from resolvers.run_scoring import score_output
from resolvers.run_storage import STORE_RESULTS

# What a score does not depend on, and is as it was.
KEPT = (
    "candidate_id",
    "position",
    "trace_id",
    "output",
    "latency_ms",
    "prompt_tokens",
    "completion_tokens",
    "cost_usd",
    "human_score",
)


async def rescore_rows(ctx: Context, run: Run, missing: Sequence[tuple[UUID, DatasetRow]]) -> None:
    """Store what the run's source was answered, scored anew; a judge's scores are still to come."""
    rows = {row.position: row for _, row in missing}
    wanted = {(candidate_id, row.position) for candidate_id, row in missing}
    async with ctx.database.read() as session:
        answered = await session.scalars(
            select(RunResult).where(
                RunResult.run_id == run.source_run_id, RunResult.position.in_(rows)
            )
        )
        sources = [each for each in answered if (each.candidate_id, each.position) in wanted]
    values = await asyncio.to_thread(_score_all, run, sources, rows)
    async with ctx.database.write() as session:
        await session.execute(STORE_RESULTS, column_arrays(RunResult, values))
        if is_comparing(run):
            await _copy_preferences(session, run, list(rows))


async def _copy_preferences(session: WriteSession, run: Run, positions: Sequence[int]) -> None:
    """Take over what people preferred among the source's answers."""
    kept = [RunComparison.position, RunComparison.first_candidate_id]
    kept += [RunComparison.second_candidate_id, RunComparison.outcome, RunComparison.judgement]
    source = select(literal(run.id, Uuid()), *kept).where(
        RunComparison.run_id == run.source_run_id, RunComparison.position.in_(positions)
    )
    names = ["run_id", *(column.key for column in kept)]
    await session.execute(insert(RunComparison).from_select(names, source).on_conflict_do_nothing())


def _score_all(
    run: Run, sources: Sequence[RunResult], rows: Mapping[int, DatasetRow]
) -> list[dict[str, Any]]:
    return [_score(run, source, rows[source.position]) for source in sources]


def _score(run: Run, source: RunResult, row: DatasetRow) -> dict[str, Any]:
    score, error, is_pending = 0.0, source.error, False
    if source.output is not None and source.human_score is not None:
        score, error = source.human_score, None  # people have the last word
    elif source.output is not None and {"judge", "human"} & run.evaluation.keys():
        error, is_pending = None, True  # it is told by the verdicts that are known, or by people
    elif source.output is not None:
        score, error = score_output(run.evaluation, source.output, row.expected)
    return {
        **{name: getattr(source, name) for name in KEPT},
        "id": new_id(),
        "run_id": run.id,
        "score": score,
        "error": error,
        "is_pending": is_pending,
        "judgement": None,
        "judge_cost_usd": Decimal(0),
        "created_at": datetime.now(UTC),
    }
