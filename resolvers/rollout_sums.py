"""The sums of a rollout's arms: how they are added to, and how they are read."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, Double, cast, func, select

from db.bulk import column_arrays, insert_from_arrays
from db.models import RolloutArm
from db.session import ReadSession, WriteSession
from engine.confidence_sequences import Sums
from engine.rollouts import Arm, ArmDelta, ArmSums

# Whose scores are, of whatever process: they are few, and each is added once.
JUDGE = UUID(int=0)
MEASURES = ("log_latency", "cost_usd", "score")
COUNTS = ("requests", "errors", *(f"{name}_count" for name in MEASURES))
TOTALS = tuple(f"{name}_{kind}" for name in MEASURES for kind in ("total", "square_total"))
KEY = ("rollout_id", "step", "arm", "writer")

_INSERT = insert_from_arrays(RolloutArm)
_ARM = RolloutArm.__table__
ADD_UP = _INSERT.on_conflict_do_update(
    index_elements=KEY,
    set_={name: _ARM.c[name] + _INSERT.excluded[name] for name in (*COUNTS, *TOTALS)},
)
"""Adds increments to the sums; `increment_arrays` makes its parameters."""


def increment_arrays(deltas: Sequence[ArmDelta], writer: UUID) -> dict[str, list[Any]]:
    """Return the parameters of `ADD_UP`.

    Args:
        deltas: As `increments_of` returns them: one for each arm of each step.
        writer: The process's own id: no two may add under the same one at the same time.
    """
    return column_arrays(RolloutArm, [_row(delta, writer) for delta in deltas])


def _row(delta: ArmDelta, writer: UUID) -> dict[str, Any]:
    row: dict[str, Any] = {
        "rollout_id": delta.rollout_id,
        "step": delta.step,
        "arm": delta.arm.value,
        "writer": writer,
        "requests": delta.sums.requests,
        "errors": delta.sums.errors,
    }
    for name in MEASURES:
        sums: Sums = getattr(delta.sums, name)
        row[f"{name}_count"] = sums.count
        row[f"{name}_total"] = sums.total
        row[f"{name}_square_total"] = sums.square_total
    return row


async def add_increments(
    session: WriteSession, deltas: Sequence[ArmDelta], *, writer: UUID
) -> None:
    """Add increments to the sums, in the transaction that stores what they are of."""
    if deltas:
        await session.execute(ADD_UP, increment_arrays(deltas, writer))


def summed_columns() -> list[ColumnElement[Any]]:
    """Return the sums over all writers, to be grouped by rollout, step and arm."""
    counts = [cast(func.sum(_ARM.c[name]), BigInteger).label(name) for name in COUNTS]
    totals = [cast(func.sum(_ARM.c[name]), Double).label(name) for name in TOTALS]
    return [*counts, *totals]


def read_arm_sums(row: Any) -> ArmSums:
    """Return what `summed_columns` found of one arm."""
    measures = {
        name: Sums(
            getattr(row, f"{name}_count"),
            getattr(row, f"{name}_total"),
            getattr(row, f"{name}_square_total"),
        )
        for name in MEASURES
    }
    return ArmSums(requests=row.requests, errors=row.errors, **measures)


async def read_step_sums(
    session: ReadSession, rollout_id: UUID, step: int
) -> tuple[ArmSums, ArmSums]:
    """Return what production and the canary did in one step."""
    statement = (
        select(RolloutArm.arm, *summed_columns())
        .where(RolloutArm.rollout_id == rollout_id, RolloutArm.step == step)
        .group_by(RolloutArm.arm)
    )
    found = {row.arm: read_arm_sums(row) for row in await session.execute(statement)}
    return found.get(Arm.CONTROL, ArmSums()), found.get(Arm.CANARY, ArmSums())
