"""What a run that improves a dataset proposes: worked out from its answers, a batch at a time."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from db.base import new_id
from db.models import DatasetSnapshot, Improvement, ProposedChange, Run, RunResult
from db.session import ReadSession
from engine.improvement import RIGHT, Answer, AnsweredRow, propose_changes
from engine.matching import MatchMode
from engine.rows import DatasetRow, read_line
from engine.snapshot_format import IndexArray
from resolvers.context import Context
from resolvers.loaders.runs import counted_score
from resolvers.snapshot_files import SnapshotReader
from resolvers.snapshot_storage import read_snapshot

BATCH_ROWS = 500
# Runs before this one that a row must have been easy in, to be so.
RECENT_RUNS = 3
ASKING_KINDS = ("ranking", "replay", "improve_dataset")


async def write_proposal(
    ctx: Context, run: Run, positions: Sequence[int], mean_scores: Mapping[UUID, float]
) -> None:
    """Store what *run* proposes; nobody decides on it before the run is completed.

    Done again after a crash it comes to the same.

    Args:
        ctx: Whose run it is.
        run: All of its calls are stored.
        positions: The rows that it asked.
        mean_scores: Of its candidates.
    """
    if run.snapshot_id is None:
        raise RuntimeError(f"run {run.id} has no snapshot")
    reader = await read_snapshot(ctx, run.snapshot_id)
    index = await reader.index()
    was_easy = await _easy_lately(ctx, run, index)
    async with ctx.database.write() as session:
        await session.execute(
            insert(Improvement)
            .values(
                id=run.id,
                workspace_id=run.workspace_id,
                leaderboard_id=run.leaderboard_id,
                snapshot_id=run.snapshot_id,
                status="pending",
            )
            .on_conflict_do_nothing()
        )
    ordered = sorted(positions)
    for start in range(0, len(ordered), BATCH_ROWS):
        batch = ordered[start : start + BATCH_ROWS]
        answers = await _answers(ctx, run, batch, mean_scores)
        changes = [
            change
            async for position, line in reader.lines(batch)
            for change in _changes(
                run, position, index, read_line(line), answers[position], was_easy
            )
        ]
        if changes:
            async with ctx.database.write() as session:
                await session.execute(insert(ProposedChange).on_conflict_do_nothing(), changes)


def _changes(
    run: Run,
    position: int,
    index: IndexArray,
    row: DatasetRow,
    answers: Sequence[Answer],
    was_easy: NDArray[np.bool_],
) -> list[dict[str, Any]]:
    answered = AnsweredRow(
        expected=row.expected,
        tags=row.tags,
        weight=row.weight,
        answers=answers,
        was_easy=bool(was_easy[position]),
    )
    proposed = propose_changes(
        answered,
        is_judged="judge" in run.evaluation,
        match=MatchMode(run.evaluation["match"]),
        extract=run.evaluation.get("extract"),
    )
    return [
        {
            "id": new_id(),
            "workspace_id": run.workspace_id,
            "improvement_id": run.id,
            "position": position,
            "row_key": index[position]["key"].tobytes(),
            "kind": change.kind.value,
            "field": change.field.value,
            "old": change.old,
            "new": change.new,
            "evidence": dict(change.evidence),
            "decision": "pending",
        }
        for change in proposed
    ]


async def _answers(
    ctx: Context, run: Run, positions: Sequence[int], mean_scores: Mapping[UUID, float]
) -> dict[int, list[Answer]]:
    """Return the answers to rows, by position."""
    statement = select(
        RunResult.position,
        RunResult.candidate_id,
        RunResult.output,
        counted_score(run.evaluation),
    ).where(
        RunResult.run_id == run.id,
        RunResult.candidate_id.in_(mean_scores),
        RunResult.position.in_(positions),
    )
    found: dict[int, list[Answer]] = defaultdict(list)
    async with ctx.database.read() as session:
        for position, candidate_id, output, score in await session.execute(statement):
            answer = Answer(str(candidate_id), mean_scores[candidate_id], output, score)
            found[position].append(answer)
    return found


async def _easy_lately(ctx: Context, run: Run, index: IndexArray) -> NDArray[np.bool_]:
    """Tell of each row of the snapshot whether nobody got it wrong in the runs before this one."""
    async with ctx.database.read() as session:
        recent = await session.execute(
            select(Run.id, Run.snapshot_id)
            .where(
                Run.leaderboard_id == run.leaderboard_id,
                Run.id != run.id,
                Run.status == "completed",
                Run.kind.in_(ASKING_KINDS),
            )
            .order_by(Run.id.desc())
            .limit(RECENT_RUNS)
        )
        runs = recent.all()
        was_easy = np.ones(len(index), bool)
        for run_id, snapshot_id in runs:
            wrong = await _wrong_positions(session, run_id)
            was_easy[await _places_here(ctx, run, index, snapshot_id, wrong)] = False
    return was_easy


async def _wrong_positions(session: ReadSession, run_id: UUID) -> NDArray[np.int64]:
    """Return the rows of a run that some candidate got wrong."""
    statement = (
        select(RunResult.position)
        .where(RunResult.run_id == run_id)
        .group_by(RunResult.position)
        .having(func.min(RunResult.score) < RIGHT)
    )
    return np.array((await session.scalars(statement)).all(), np.int64)


async def _places_here(
    ctx: Context, run: Run, index: IndexArray, snapshot_id: UUID | None, there: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return where rows of another snapshot are in this run's: by their keys."""
    if snapshot_id == run.snapshot_id:
        return there
    other = await _other_index(ctx, snapshot_id)
    if other is None or not len(there):
        return np.array([], np.int64)
    is_same = np.isin(index["key"].view("S16"), other["key"][there].view("S16"))
    return np.flatnonzero(is_same)


async def _other_index(ctx: Context, snapshot_id: UUID | None) -> IndexArray | None:
    """Return another snapshot's index; None of one that is from before snapshots had files."""
    if snapshot_id is None:
        return None
    async with ctx.database.read() as session:
        snapshot = await session.get_one(DatasetSnapshot, snapshot_id)
    if snapshot.index_sha256 is None:
        return None
    reader: SnapshotReader = await read_snapshot(ctx, snapshot_id)
    return await reader.index()
